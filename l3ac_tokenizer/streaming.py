"""Exact streaming: encoding and decoding in real time, with the same results as for whole clips.

Decoding is that of `decode(time_norm="frozen")`. The published networks normalize over the clip by default, so their
streams differ from a plain `decode`: see `StreamingDecoder`.

Both classes process a batch of independent streams (rows), which may start, end and be reset at different times.
Pushed and returned values have one entry for each row; entries may differ in length. The state is kept here, never in
the model.

One of two engines computes them: `"eager"` calls the layers for pushes of any size, `"aot"` is a program that was
compiled ahead of time for steps of `step_frames` frames.

A frame has a single id here. With residual stages it is the id of all digits: `split_ids(ids, config.frame_levels, K)`
gives the K ids of `audio_codes`, which the decoder takes as well, and `join_ids` inverts it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import as_ids, as_streamed_clip
from .compiled import NoCompiler, compiled_step
from .logs import get_logger
from .modeling.chunked import DecoderStepper, EncoderStepper, StreamState
from .modeling.span import FAR
from .modeling.steps import DecoderStep, EncoderStep, Step
from .quantization import check_ids

if TYPE_CHECKING:
    from .modeling import CodecEncoding, CodecModel

Engine = Literal["eager", "aot"]

FRAMES_A_STEP = 512
"""Most frames that one step of the network processes; bounds the memory of a long push."""

logger = get_logger(__name__)


class _CompiledSteps:
    """A step compiled for `batch_size` rows, with the state of all rows as its argument."""

    def __init__(self, step: Step, batch_size: int):
        self._run = compiled_step(step, batch_size)
        self._batch_size = batch_size
        self.step = step

    def start(self) -> StreamState:
        return StreamState([0] * self._batch_size, dict(enumerate(self.step.zeros(self._batch_size))))

    def __call__(self, batch: Tensor, state: StreamState, ends: Sequence[int | None]) -> Tensor:
        """Input (R, …) of rows → output (R, …); the rest of `batch_size` rows is computed with zeros."""
        rest = self._batch_size - len(batch)
        past = list(state.past.values())
        whole = [torch.cat([x, x.new_zeros(rest, *x.shape[1:])]) for x in (batch, *past)] if rest else [batch, *past]
        end = torch.tensor([FAR if end is None else end for end in ends] + [FAR] * rest)
        output = self._run(whole[0], end, torch.tensor(state.positions + [0] * rest), whole[1:])
        for old, new in zip(past, whole[1:], strict=True):
            if old is not new:
                old.copy_(new[: len(batch)])
        state.positions = [position + self.step.frames for position in state.positions]
        return output[: len(batch)]


class _Rows(ABC):
    """Base of both directions: buffers the input of each row and steps rows with equal progress together.

    Args:
        model: The codec.
        batch_size: Number of rows.
        lead: Number of zeros before the input of each row.
        unit: Input values in a frame: the samples of one id, or one id.
        types: Types of pushed and of returned values.
    """

    _state: StreamState
    _start: int
    """Position of a new row in the state."""

    def __init__(
        self, model: CodecEncoding, batch_size: int, lead: int, unit: int, types: tuple[torch.dtype, torch.dtype]
    ):
        self._model = model
        self._lead = lead
        self._unit = unit
        self._input_type, self._output_type = types
        self.batch_size = batch_size
        self._compiled: _CompiledSteps | None = None
        self._pending: list[Tensor | None] = [None] * self.batch_size
        self._seen = [0] * self.batch_size
        """Samples or ids pushed into each row since its last reset."""

    def _compile(self, engine: Engine, step: Callable[[], Step]) -> None:
        """Compile the step if the engine is `"aot"`; where the machine cannot, a warning says why."""
        if engine not in get_args(Engine):
            raise ValueError(f"`engine` is {engine!r}; it must be 'eager' or 'aot'.")
        if engine == "aot":
            if self._model.device.type != "cpu":
                raise ValueError(f"engine='aot' is for CPUs; this model is on {self._model.device}.")
            try:
                self._compiled = _CompiledSteps(step(), self.batch_size)
            except NoCompiler as error:
                logger.warning(
                    "This stream runs with engine='eager', since its step could not be compiled (%s).", error
                )

    @property
    def _multiple(self) -> int:
        """Frames that are processed together."""
        return 1 if self._compiled is None else self._compiled.step.frames

    @abstractmethod
    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        """Input (R, frames · unit) of rows → output (n,) of each; `ends` are the total frames of rows that end."""

    @abstractmethod
    def _rest(self, row: int) -> int:
        """Frames of pending input and zeros that bring out the rest of a row that ends."""

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Reset these rows (None: all), so that the next push starts a new clip."""
        for row in range(self.batch_size) if rows is None else rows:
            self._state.clear(row, self._start)
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
                counts[row] = -(-self._rest(row) // self._multiple) * self._multiple
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
        step = self._unit * self._multiple
        ready = [0 if pending is None else len(pending) // step * self._multiple for pending in self._pending]
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
            frames = self._multiple
            if self._compiled is None:
                frames = min(FRAMES_A_STEP, *(count for count in left if count))
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


def _checked(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` is {value}; it must be at least 1.")
    return value


def _cut(output: Tensor, firsts: Sequence[int], ends: Sequence[int | None]) -> list[Tensor]:
    """The values within its clip of each row of an output (R, n) whose first value has the position `first`."""
    return [
        new[max(0, -first) : len(new) if end is None else max(0, end - first)]
        for first, end, new in zip(firsts, ends, output, strict=True)
    ]


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
        engine: `"eager"`, or `"aot"` for a program compiled ahead of time: a fraction of the time for pushes of less
            than a second. The first stream of a model waits about a minute for the compiler; later ones, also of other
            processes, load what was kept. Without a compiler, the stream is eager and a warning says so.
        step_frames: Frames that `"aot"` processes at once: more cost less for each, and wait longer.

    Raises:
        ValueError: An argument is out of range, or the model of `"aot"` is not on a CPU.
        OSError: The compiled program cannot be kept.
    """

    def __init__(self, model: CodecEncoding, batch_size: int = 1, engine: Engine = "eager", step_frames: int = 2):
        hop = model.config.hop_length
        self._stepper = EncoderStepper(model.encoder, hop)
        rows = _checked("batch_size", batch_size)
        super().__init__(model, rows, self._stepper.lead, hop, (model.encoder_dtype, torch.int64))
        step_frames = _checked("step_frames", step_frames)
        self._compile(engine, lambda: EncoderStep(model, step_frames))
        if self._compiled is None:
            self._state, self._start = self._stepper.start(rows), -self._lead
        else:
            self._state, self._start = self._compiled.start(), 0

    @property
    def latency(self) -> int:
        """Number of samples after the last one of an id that must arrive before the id is returned, at most."""
        return self._model.encoder_lookahead + (self._multiple - 1) * self._unit

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
        position = self._state.positions[row]
        done = (position + self._lead) // self._unit if self._compiled is None else position
        return -(-self._seen[row] // self._unit) + self._stepper.delay - done

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        if self._compiled is not None:
            firsts = [position - self._stepper.delay for position in state.positions]
            return _cut(self._compiled(batch, state, ends), firsts, ends)
        padded = [None if end is None else int(self._model.padded_frames(end)) * self._unit for end in ends]
        features, firsts = self._stepper.step(batch[..., None], state, padded)
        ids = self._model.quantizer.latents_to_ids(self._model.quantizer.project_in(features))
        return _cut(ids, firsts, ends)


class StreamingDecoder(_Rows):
    """Streaming decoder: ids in, samples out, equal to `decode(time_norm="frozen")` of the whole clip.

    Without time normalization, as in the light networks, that is the audio of `decode`. The published networks
    normalize over the clip in `decode` and by stored statistics in a stream. The difference for the bundled `l3ac-1k`
    is 18 dB below the signal on one sentence, as `l3ac info l3ac-1k` measures it, and 3 to 27 dB on others
    (docs/guides/streaming.md).

    Args:
        model: The codec, with calibrated time normalization.
        batch_size: Number of rows.
        engine: As in `StreamingEncoder`.
        step_frames: As in `StreamingEncoder`.

    Raises:
        ValueError: The checkpoint has no statistics for frozen time normalization; or as in `StreamingEncoder`.
        OSError: The compiled program cannot be kept.
    """

    _model: CodecModel

    def __init__(self, model: CodecModel, batch_size: int = 1, engine: Engine = "eager", step_frames: int = 2):
        model.check_time_norm("frozen")
        self._stepper = DecoderStepper(model.decoder, model.config.hop_length)
        rows, step_frames = _checked("batch_size", batch_size), _checked("step_frames", step_frames)
        super().__init__(model, rows, 0, 1, (torch.int64, model.dtype))
        self._compile(engine, lambda: DecoderStep(model, step_frames))
        self._state = self._stepper.start(rows) if self._compiled is None else self._compiled.start()
        self._start = 0

    @property
    def latency(self) -> int:
        """Number of samples by which the output lags behind the pushed ids, at most."""
        return self._stepper.delay + (self._multiple - 1) * self._model.config.hop_length

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
        return self._seen[row] + -(-self._stepper.delay // self._model.config.hop_length) - self._state.positions[row]

    def _step(self, batch: Tensor, state: StreamState, ends: list[int | None]) -> list[Tensor]:
        hop = self._model.config.hop_length
        samples = [None if end is None else end * hop for end in ends]
        if self._compiled is not None:
            firsts = [position * hop - self._stepper.delay for position in state.positions]
            return _cut(self._compiled(batch, state, ends), firsts, samples)
        wave, firsts = self._stepper.step(self._model.to_features(batch), state, ends, "frozen")
        return _cut(wave[..., 0], firsts, samples)
