"""Exact streaming: ids and samples as they come, equal to those of whole clips.

Both classes hold a batch of independent streams (rows) that may start, end and be reset at different moments. What is
pushed and returned has one entry a row; entries may differ in length. State lives here, never in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .modeling.stepping import DecoderStepper, EncoderStepper, StreamState

if TYPE_CHECKING:
    from .modeling import L3ACModel

FRAMES_A_STEP = 512
"""Longest piece that goes through the network at once, in ids: bounds the memory of one long push."""


class _Rows:
    """What both directions share: the pending input of each row, and steps over rows of equal progress."""

    def __init__(self, batch_size: int, state: StreamState, lead: int):
        if batch_size < 1:
            raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
        self.batch_size = batch_size
        self._state = state
        self._lead = lead
        self._pending: list[Tensor | None] = [None] * batch_size
        self._seen = [0] * batch_size
        """Samples or ids pushed into each row since it was fresh."""

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Forget these rows (None: all), so that what is pushed next begins a new clip."""
        for row in range(self.batch_size) if rows is None else rows:
            self._state.clear(row, -self._lead)
            self._pending[row] = None
            self._seen[row] = 0

    def _accept(self, pushed: Tensor | Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> None:
        if len(pushed) != self.batch_size:
            raise ValueError(f"The push has {len(pushed)} rows; this stream has {self.batch_size}.")
        for row, new in enumerate(pushed):
            if new.ndim != 1:
                raise ValueError(f"Row {row} of the push has shape {tuple(new.shape)}; it must have one axis.")
            new = new.to(device, dtype)
            pending = self._pending[row]
            if pending is None:
                pending = new.new_zeros(self._lead)
            self._pending[row] = torch.cat([pending, new])
            self._seen[row] += len(new)

    def _take(self, row: int, count: int) -> Tensor:
        """The next `count` pending values, zeros where there are none."""
        pending = self._pending[row]
        assert pending is not None
        self._pending[row] = pending[count:]
        return F.pad(pending[:count], (0, max(0, count - len(pending))))

    def _steps(self, counts: list[int], unit: int) -> Iterable[tuple[list[int], Tensor, StreamState]]:
        """Rows that advance together by as many frames, their input (R, frames · unit) and their state.

        The state is put back after each step.
        """
        left = list(counts)
        while any(left):
            frames = min(FRAMES_A_STEP, max(left))
            frames = min(count for count in left if count) if frames not in left else frames
            rows = [row for row, count in enumerate(left) if count >= frames]
            batch = torch.stack([self._take(row, frames * unit) for row in rows])
            whole = len(rows) == self.batch_size
            state = self._state if whole else self._state.select(rows)
            yield rows, batch, state
            if not whole:
                self._state.assign(rows, state)
            for row in rows:
                left[row] -= frames


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

    def __init__(self, model: L3ACModel, batch_size: int = 1):
        self._model = model
        self._stepper = EncoderStepper(model.encoder, model.config.hop_length)
        super().__init__(batch_size, self._stepper.start(batch_size), self._stepper.lead)

    @property
    def latency(self) -> int:
        """Samples that must follow an id's last one before the id comes out."""
        return self._model.encoder_lookahead

    @torch.no_grad()
    def push(self, samples: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Samples (B, n), or B tensors (n_b,) → the new ids of each row, B tensors (m_b,) int64.

        Raises:
            ValueError: The push has another number of rows or axes.
        """
        self._accept(samples, self._model.dtype, self._model.device)
        hop = self._model.config.hop_length
        ready = [0 if pending is None else len(pending) // hop for pending in self._pending]
        return self._advance(ready, [None] * self.batch_size)

    @torch.no_grad()
    def flush(self, rows: Iterable[int] | None = None) -> list[Tensor]:
        """End the clips of these rows (None: all): their last ids, B tensors; the rows are fresh afterwards."""
        hop = self._model.config.hop_length
        chosen = list(range(self.batch_size) if rows is None else rows)
        counts = [0] * self.batch_size
        ends: list[int | None] = [None] * self.batch_size
        for row in chosen:
            frames = -(-self._seen[row] // hop)
            if frames:
                done = (self._state.positions[row] + self._lead) // hop
                counts[row] = frames + self._stepper.delay - done
                ends[row] = int(self._model._padded_frames(frames)) * hop
        ids = self._advance(counts, ends)
        self.reset(chosen)
        return ids

    def _advance(self, counts: list[int], ends: Sequence[int | None]) -> list[Tensor]:
        out: list[list[Tensor]] = [[] for _ in range(self.batch_size)]
        for rows, samples, state in self._steps(counts, self._model.config.hop_length):
            features, firsts = self._stepper.step(samples[..., None], state, [ends[row] for row in rows])
            ids = self._model.quantizer.latents_to_ids(self._model.quantizer.project_in(features))
            for row, first, new in zip(rows, firsts, ids, strict=True):
                out[row].append(new[max(0, -first) :])
        none = torch.empty(0, dtype=torch.int64, device=self._model.device)
        return [torch.cat(parts) if parts else none for parts in out]


class StreamingDecoder(_Rows):
    """Ids in, samples out, equal to `decode(time_norm="frozen")` of the whole.

    Args:
        model: The codec, with calibrated time normalisation.
        batch_size: Number of rows.

    Raises:
        ValueError: The checkpoint has no statistics for the frozen time normalisation.
    """

    def __init__(self, model: L3ACModel, batch_size: int = 1):
        self._model = model
        model._checked_time_norm("frozen")
        self._stepper = DecoderStepper(model.decoder, model.config.hop_length)
        super().__init__(batch_size, self._stepper.start(batch_size), 0)

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the ids pushed."""
        return self._stepper.delay

    @torch.no_grad()
    def push(self, ids: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Ids (B, m), or B tensors (m_b,) → the new samples of each row, B tensors (n_b,).

        Raises:
            ValueError: The push has another number of rows or axes, or ids of another codebook or type.
        """
        for row in ids:
            if len(row):
                self._model._decoder_source(row[None, None], None)
        self._accept(ids, torch.int64, self._model.device)
        ready = [0 if pending is None else len(pending) for pending in self._pending]
        return self._advance(ready, [None] * self.batch_size)

    @torch.no_grad()
    def flush(self, rows: Iterable[int] | None = None) -> list[Tensor]:
        """End the clips of these rows (None: all): their last samples, B tensors; the rows are fresh afterwards."""
        hop = self._model.config.hop_length
        chosen = list(range(self.batch_size) if rows is None else rows)
        counts = [0] * self.batch_size
        ends: list[int | None] = [None] * self.batch_size
        for row in chosen:
            if self._seen[row]:
                counts[row] = -(-self._stepper.delay // hop)
                ends[row] = self._seen[row]
        samples = self._advance(counts, ends)
        self.reset(chosen)
        return samples

    def _advance(self, counts: list[int], ends: Sequence[int | None]) -> list[Tensor]:
        hop = self._model.config.hop_length
        out: list[list[Tensor]] = [[] for _ in range(self.batch_size)]
        for rows, ids, state in self._steps(counts, 1):
            row_ends = [ends[row] for row in rows]
            features = self._model._to_features(ids, is_latents=False)
            wave, firsts = self._stepper.step(features, state, row_ends, "frozen")
            for row, first, end, new in zip(rows, firsts, row_ends, wave[..., 0], strict=True):
                last = len(new) if end is None else max(0, end * hop - first)
                out[row].append(new[max(0, -first) : last])
        none = torch.empty(0, dtype=self._model.dtype, device=self._model.device)
        return [torch.cat(parts) if parts else none for parts in out]
