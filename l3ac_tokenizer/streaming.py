"""Exact streaming: ids and samples as they come, equal to those of whole clips.

Both classes hold a batch of independent streams (rows) that may start, end and be reset at different moments. What is
pushed and returned has one entry a row; entries may differ in length. State lives here, never in the model.

A frame has one id here. With residual stages it is that of all its digits: `split_ids(ids, config.frame_levels, K)`
gives the K ids of `audio_codes`, `join_ids` takes them back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .modeling.chunked import DecoderStepper, EncoderStepper, StreamState
from .quantization import check_ids

if TYPE_CHECKING:
    from .modeling import CodecModel

FRAMES_A_STEP = 512
"""Longest piece that goes through the network at once, in ids: bounds the memory of one long push."""


class _Rows(ABC):
    """What both directions share: the pending input of each row, and steps over rows of equal progress.

    Args:
        model: The codec.
        state: Fresh state of `batch_size` rows.
        lead: Zeros that go before each row's input.
        unit: Values that make a frame of input: samples of one id, or one id.
        types: Types of what is pushed and of what is returned.
    """

    def __init__(
        self, model: CodecModel, state: StreamState, lead: int, unit: int, types: tuple[torch.dtype, torch.dtype]
    ):
        self._model = model
        self._state = state
        self._lead = lead
        self._unit = unit
        self._input_type, self._output_type = types
        self.batch_size = len(state.positions)
        self._pending: list[Tensor | None] = [None] * self.batch_size
        self._seen = [0] * self.batch_size
        """Samples or ids pushed into each row since it was fresh."""

    @abstractmethod
    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        """Input (R, frames · unit) of rows → what each gives, (n,); `ends` are ids of rows that end."""

    @abstractmethod
    def _rest(self, row: int) -> int:
        """Frames of zeros and pending input with which a row that ends gives all it has."""

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Forget these rows (None: all), so that what is pushed next begins a new clip."""
        for row in range(self.batch_size) if rows is None else rows:
            self._state.clear(row, -self._lead)
            self._pending[row] = None
            self._seen[row] = 0

    @torch.no_grad()
    def flush(self, rows: Iterable[int] | None = None) -> list[Tensor]:
        """End the clips of these rows (None: all): what they still give; the rows are fresh afterwards."""
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

    @torch.no_grad()
    def _push(self, pushed: Tensor | Sequence[Tensor]) -> list[Tensor]:
        if len(pushed) != self.batch_size:
            raise ValueError(f"The push has {len(pushed)} rows; this stream has {self.batch_size}.")
        for row, new in enumerate(pushed):
            if new.ndim != 1:
                raise ValueError(f"Row {row} of the push has shape {tuple(new.shape)}; it must have one axis.")
            new = new.to(self._model.device, self._input_type)
            pending = self._pending[row]
            if pending is None:
                pending = new.new_zeros(self._lead)
            self._pending[row] = torch.cat([pending, new])
            self._seen[row] += len(new)
        ready = [0 if pending is None else len(pending) // self._unit for pending in self._pending]
        return self._advance(ready, [None] * self.batch_size)

    def _advance(self, counts: list[int], ends: Sequence[int | None]) -> list[Tensor]:
        """Take rows on by so many frames each; what each of them gives."""
        out: list[list[Tensor]] = [[] for _ in range(self.batch_size)]
        for rows, batch, state in self._steps(counts):
            for row, new in zip(rows, self._step(batch, state, [ends[row] for row in rows]), strict=True):
                out[row].append(new)
        none = torch.empty(0, dtype=self._output_type, device=self._model.device)
        return [torch.cat(parts) if parts else none for parts in out]

    def _steps(self, counts: list[int]) -> Iterable[tuple[list[int], Tensor, StreamState]]:
        """Rows that advance together by as many frames, their input (R, frames · unit) and their state.

        The state is put back after each step.
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
        """The next `count` pending values, zeros where there are none."""
        pending = self._pending[row]
        assert pending is not None
        self._pending[row] = pending[count:]
        return F.pad(pending[:count], (0, max(0, count - len(pending))))


def _checked_rows(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
    return batch_size


class StreamingEncoder(_Rows):
    """Samples in, ids out, each as soon as the samples that it depends on are there.

    ```python
    >>> stream = StreamingEncoder(model)
    >>> for samples in microphone:                  # (1, n), any n
    ...     (ids,) = stream.push(samples)
    >>> (ids,) = stream.flush()                     # the clip ends here
    ```

    Args:
        model: The codec.
        batch_size: Number of rows.
    """

    def __init__(self, model: CodecModel, batch_size: int = 1):
        hop = model.config.hop_length
        self._stepper = EncoderStepper(model.encoder, hop)
        state = self._stepper.start(_checked_rows(batch_size))
        super().__init__(model, state, self._stepper.lead, hop, (model.dtype, torch.int64))

    @property
    def latency(self) -> int:
        """Samples that must follow an id's last one before the id comes out."""
        return self._model.encoder_lookahead

    def push(self, samples: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Samples (B, n), or B tensors (n_b,) → the new ids of each row, B tensors (m_b,) int64.

        Raises:
            ValueError: The push has another number of rows or axes.
        """
        return self._push(samples)

    def _rest(self, row: int) -> int:
        done = (self._state.positions[row] + self._lead) // self._unit
        return -(-self._seen[row] // self._unit) + self._stepper.delay - done

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        padded = [None if end is None else int(self._model._padded_frames(end)) * self._unit for end in ends]
        features, firsts = self._stepper.step(batch[..., None], state, padded)
        ids = self._model.quantizer.latents_to_ids(self._model.quantizer.project_in(features))
        return [new[max(0, -first) :] for first, new in zip(firsts, ids, strict=True)]


class StreamingDecoder(_Rows):
    """Ids in, samples out, equal to `decode(time_norm="frozen")` of the whole.

    Args:
        model: The codec, with calibrated time normalisation.
        batch_size: Number of rows.

    Raises:
        ValueError: The checkpoint has no statistics for the frozen time normalisation.
    """

    def __init__(self, model: CodecModel, batch_size: int = 1):
        model._checked_time_norm("frozen")
        self._stepper = DecoderStepper(model.decoder, model.config.hop_length)
        state = self._stepper.start(_checked_rows(batch_size))
        super().__init__(model, state, 0, 1, (torch.int64, model.dtype))

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the ids pushed."""
        return self._stepper.delay

    def push(self, ids: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Ids (B, m), or B tensors (m_b,) → the new samples of each row, B tensors (n_b,).

        Raises:
            ValueError: The push has another number of rows or axes, or ids of another codebook or type.
        """
        for row in ids:
            if len(row):
                check_ids(row, math.prod(self._model.config.frame_levels))
        return self._push(ids)

    def _rest(self, row: int) -> int:
        return -(-self._stepper.delay // self._model.config.hop_length)

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        hop = self._model.config.hop_length
        features = self._model._to_features(batch, is_latents=False)
        wave, firsts = self._stepper.step(features, state, ends, "frozen")
        return [
            new[max(0, -first) : len(new) if end is None else max(0, end * hop - first)]
            for first, end, new in zip(firsts, ends, wave[..., 0], strict=True)
        ]
