"""Exact streaming: encoding and decoding in real time, with the same results as for whole clips.

Decoding is that of `decode(time_norm="frozen")`. The published networks normalize over the clip by default, so their
streams differ from a plain `decode`: see `StreamingDecoder`.

Both classes process a batch of independent streams (rows), which may start, end and be reset at different times.
Pushed and returned values have one entry for each row; entries may differ in length. The state is kept here, never in
the model.

A frame has a single id here. With residual stages it is the id of all digits: `split_ids(ids, config.frame_levels, K)`
gives the K ids of `audio_codes`, which the decoder takes as well, and `join_ids` inverts it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import as_ids, as_streamed_clip
from .modeling.chunked import DecoderStepper, EncoderStepper, StreamState
from .quantization import check_ids

if TYPE_CHECKING:
    from .modeling import CodecEncoding, CodecModel

FRAMES_A_STEP = 512
"""Most frames that one step of the network processes; bounds the memory of a long push."""


class _Rows(ABC):
    """Base of both directions: buffers the input of each row and steps rows with equal progress together.

    Args:
        model: The codec.
        state: Initial state of `batch_size` rows.
        lead: Number of zeros before the input of each row.
        unit: Input values in a frame: the samples of one id, or one id.
        types: Types of pushed and of returned values.
    """

    def __init__(
        self, model: CodecEncoding, state: StreamState, lead: int, unit: int, types: tuple[torch.dtype, torch.dtype]
    ):
        self._model = model
        self._state = state
        self._lead = lead
        self._unit = unit
        self._input_type, self._output_type = types
        self.batch_size = len(state.positions)
        self._pending: list[Tensor | None] = [None] * self.batch_size
        self._seen = [0] * self.batch_size
        """Samples or ids pushed into each row since its last reset."""

    @abstractmethod
    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        """Input (R, frames · unit) of rows → output (n,) of each; `ends` are the total frames of rows that end."""

    @abstractmethod
    def _rest(self, row: int) -> int:
        """Frames of pending input and zeros that bring out the rest of a row that ends."""

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Reset these rows (None: all), so that the next push starts a new clip."""
        for row in range(self.batch_size) if rows is None else rows:
            self._state.clear(row, -self._lead)
            self._pending[row] = None
            self._seen[row] = 0

    @torch.no_grad()
    def flush(self, rows: Iterable[int] | None = None) -> list[Tensor]:
        """End the clips of these rows (None: all), reset the rows, and return their remaining output."""
        chosen = list(range(self.batch_size) if rows is None else rows)
        counts = [0] * self.batch_size
        ends: list[int | None] = [None] * self.batch_size
        for row in chosen:
            if self._seen[row]:
                counts[row] = self._rest(row)
                ends[row] = -(-self._seen[row] // self._unit)
        last = self._advance(counts, ends)
        self.reset(chosen)
        return last

    def _rows(self, pushed: Any) -> list[Any]:
        """The input of each row; that of a single row needs no axis of rows."""
        if isinstance(pushed, (list, tuple)) and any(np.ndim(row) for row in pushed):
            rows = list(pushed)
        else:
            whole = pushed if isinstance(pushed, Tensor) else np.asarray(pushed)
            if self.batch_size == 1 and whole.ndim and (whole.ndim == 1 or len(whole) != 1):
                return [whole]
            rows = list(whole) if whole.ndim else []
        if len(rows) != self.batch_size:
            raise ValueError(f"The push has {len(rows)} rows; it must have {self.batch_size}.")
        return rows

    @torch.no_grad()
    def _push(self, rows: Sequence[Tensor]) -> list[Tensor]:
        for row, new in enumerate(rows):
            new = new.reshape(-1).to(self._model.device, self._input_type)
            pending = self._pending[row]
            if pending is None:
                pending = new.new_zeros(self._lead)
            self._pending[row] = torch.cat([pending, new])
            self._seen[row] += len(new)
        ready = [0 if pending is None else len(pending) // self._unit for pending in self._pending]
        return self._advance(ready, [None] * self.batch_size)

    def _advance(self, counts: list[int], ends: Sequence[int | None]) -> list[Tensor]:
        """Advance each row by a number of frames, and return the output of each."""
        out: list[list[Tensor]] = [[] for _ in range(self.batch_size)]
        for rows, batch, state in self._steps(counts):
            for row, new in zip(rows, self._step(batch, state, [ends[row] for row in rows]), strict=True):
                out[row].append(new)
        none = torch.empty(0, dtype=self._output_type, device=self._model.device)
        return [torch.cat(parts) if parts else none for parts in out]

    def _steps(self, counts: list[int]) -> Iterable[tuple[list[int], Tensor, StreamState]]:
        """Yield rows that advance together, their input (R, frames · unit) and their state.

        The state is written back after each step.
        """
        left = list(counts)
        while any(left):
            frames = min(FRAMES_A_STEP, max(left))
            frames = min(count for count in left if count) if frames not in left else frames
            rows = [row for row, count in enumerate(left) if count >= frames]
            batch = torch.stack([self._take(row, frames * self._unit) for row in rows])
            whole = len(rows) == self.batch_size
            state = self._state if whole else self._state.select(rows)
            yield rows, batch, state
            if not whole:
                self._state.assign(rows, state)
            for row in rows:
                left[row] -= frames

    def _take(self, row: int, count: int) -> Tensor:
        """Take the next `count` pending values of a row, padded with zeros."""
        pending = self._pending[row]
        assert pending is not None
        self._pending[row] = pending[count:]
        return F.pad(pending[:count], (0, max(0, count - len(pending))))


def _checked_rows(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
    return batch_size


class StreamingEncoder(_Rows):
    """Streaming encoder: samples in, ids out, each id as soon as all samples that it depends on have arrived.

    ```python
    >>> stream = StreamingEncoder(model)
    >>> for samples in microphone:                  # (n,), (1, n) or (n, 1), any n
    ...     (ids,) = stream.push(samples)
    >>> (ids,) = stream.flush()                     # the clip ends here
    ```

    The level of a clip is not known before its end, so a stream is not leveled, whatever `level_lufs` the feature
    extractor has: multiply the samples by a gain of your own, e.g. that of an earlier clip of the same microphone, and
    divide the decoded ones by it.

    Args:
        model: The codec, or its encoder alone.
        batch_size: Number of rows.
    """

    def __init__(self, model: CodecEncoding, batch_size: int = 1):
        hop = model.config.hop_length
        self._stepper = EncoderStepper(model.encoder, hop)
        state = self._stepper.start(_checked_rows(batch_size))
        super().__init__(model, state, self._stepper.lead, hop, (model.encoder_dtype, torch.int64))

    @property
    def latency(self) -> int:
        """Number of samples after the last one of an id that must arrive before the id is returned."""
        return self._model.encoder_lookahead

    def push(self, samples: Tensor | np.ndarray | Sequence[Any]) -> list[Tensor]:
        """Samples (B, n) or (B, 1, n), or B clips (n_b,), arrays or tensors → new ids of each row, B tensors (m_b,).

        A stream of one row also takes (n,), and (n, 1) as the callback of a sound card gives it. The full scale of
        floating-point samples is 1, that of 16-bit integers 32768; other integers are refused. The ids are int64.

        Raises:
            ValueError: The push has a wrong number of rows or axes, several channels, or samples of another type, or
                NaN, infinite or beyond ±`MAX_ABS_SAMPLE`; no row takes any of it.
        """
        rows = self._rows(samples)
        return self._push([as_streamed_clip(row, f"Row {number} of the push") for number, row in enumerate(rows)])

    def _rest(self, row: int) -> int:
        done = (self._state.positions[row] + self._lead) // self._unit
        return -(-self._seen[row] // self._unit) + self._stepper.delay - done

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        padded = [None if end is None else int(self._model.padded_frames(end)) * self._unit for end in ends]
        features, firsts = self._stepper.step(batch[..., None], state, padded)
        ids = self._model.quantizer.latents_to_ids(self._model.quantizer.project_in(features))
        return [new[max(0, -first) :] for first, new in zip(firsts, ids, strict=True)]


class StreamingDecoder(_Rows):
    """Streaming decoder: ids in, samples out, equal to `decode(time_norm="frozen")` of the whole clip.

    Without time normalization, as in the light networks, that is the audio of `decode`. The published networks
    normalize over the clip in `decode` and by stored statistics in a stream. The difference for the bundled `l3ac-1k`
    is 21 dB below the signal on one sentence, as `l3ac info l3ac-1k` measures it, and more on other clips
    (docs/guides/streaming.md).

    Args:
        model: The codec, with calibrated time normalization.
        batch_size: Number of rows.

    Raises:
        ValueError: The checkpoint has no statistics for frozen time normalization.
    """

    _model: CodecModel

    def __init__(self, model: CodecModel, batch_size: int = 1):
        model.check_time_norm("frozen")
        self._stepper = DecoderStepper(model.decoder, model.config.hop_length)
        state = self._stepper.start(_checked_rows(batch_size))
        super().__init__(model, state, 0, 1, (torch.int64, model.dtype))

    @property
    def latency(self) -> int:
        """Number of samples by which the output lags behind the pushed ids."""
        return self._stepper.delay

    def push(self, ids: Tensor | np.ndarray | Sequence[Any]) -> list[Tensor]:
        """Ids (B, m), or B clips (m_b,), arrays or tensors → new samples of each row, B tensors (n_b,).

        Also takes (B, K, m) and B clips (K, m_b), the ids of each codebook, as `encode` gives them. A stream of one row
        takes (m,), too.

        Raises:
            ValueError: The push has a wrong number of rows, axes or codebooks, or ids of the wrong type or out of
                range; no row takes any of it.
        """
        return self._push([self._frame_ids(row, f"Row {number}") for number, row in enumerate(self._rows(ids))])

    def _frame_ids(self, ids: Any, name: str) -> Tensor:
        """Ids of whole frames (m,), or of each codebook (K, m) → checked ids of whole frames (m,)."""
        config = self._model.config
        row = as_ids(ids, f"{name} of the push")
        if row.ndim == 2 and len(row) == config.num_quantizers:
            check_ids(row, config.codebook_size, f"{name} of the push")
            return self._model.quantizer.codebooks_to_ids(row[None])[0]
        if row.ndim != 1:
            raise ValueError(
                f"{name} of the push has shape {tuple(row.shape)}; it must be (ids,), or ({config.num_quantizers}, "
                "ids) with the ids of each codebook."
            )
        check_ids(row, math.prod(config.frame_levels), f"{name} of the push")
        return row

    def _rest(self, row: int) -> int:
        return -(-self._stepper.delay // self._model.config.hop_length)

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        hop = self._model.config.hop_length
        features = self._model.to_features(batch)
        wave, firsts = self._stepper.step(features, state, ends, "frozen")
        return [
            new[max(0, -first) : len(new) if end is None else max(0, end * hop - first)]
            for first, end, new in zip(firsts, ends, wave[..., 0], strict=True)
        ]
