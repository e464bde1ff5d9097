"""Spans: the positions of a tensor's time steps on the timelines of its clips.

Spans make padded batches, chunks and streams give the same results as single whole clips. Features are (B, T, C):
batch, time, channels. Every layer with temporal context asks the span that accompanies its input for the time steps
around it. The span returns zeros before a clip's first and after its last time step, never the padding of a batch.

- `WholeSpan`: the tensor holds whole clips; time steps from a clip's end on are padding.
- `StreamSpan`: the tensor holds the next chunk of each clip. The output of a layer with a look-ahead of n time steps
  is delayed by n time steps; the past inputs that it still needs are kept in `state`.
- `StepSpan`: the same in exported graphs, where positions are tensors.

A span changes along with the tensor: layers that change the rate call `down` or `up`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import override

Statistics = dict[nn.Module, tuple[Tensor, Tensor]]
TimeNormMode = Literal["clip", "frozen"]
Prepared = TypeVar("Prepared")

UNBOUNDED = sys.maxsize
"""Number of time steps of a stream, whose length is not known in advance."""

SHORT = 16
"""Chunks of up to that many times a layer's past are kept along with it, which takes less time than a copy."""

FAR = 1 << 48
"""End of a clip whose length is not known yet, in any unit: up-sampling cannot make it overflow 64 bits."""


class Span(ABC):
    """Base class of spans: the interface that layers use.

    Args:
        time_norm: `"clip"` normalizes with the statistics of each clip, `"frozen"` with stored ones.
        statistics: Mean and variance (B, C) over each clip, by time normalization, where they are already known.
    """

    def __init__(self, time_norm: TimeNormMode = "clip", statistics: Statistics | None = None):
        self.time_norm = time_norm
        self.statistics: Statistics = statistics or {}

    @abstractmethod
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        """The context of x (B, T, C) for a layer that sees `before` past and `after` future time steps.

        Returns:
            window: Input of the layer, zero outside the clips.
            center: The time steps (B, T, C) that the layer's output belongs to.
            crop: 0 if `window` covers the same time steps as `center`, so that the layer must pad it with zeros;
                `before` if `window` starts `before` time steps earlier and ends `after` time steps later.
        """

    @abstractmethod
    def delayed(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        """The time steps (B, T, C) of x that the output of a layer delayed by `steps` belongs to."""

    @abstractmethod
    def positions(self, length: int, margin: int, device: torch.device) -> Tensor:
        """Positions (B or 1, length) of time steps in their clips, starting `margin` before the tensor's first."""

    @abstractmethod
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor | None:
        """Mask (B, length) of time steps within the clips, starting `margin` before the tensor's first; None: all."""

    @abstractmethod
    def with_neighbors(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Input of a linear interpolation: x (B, T, C) with its neighboring time steps, clip edges repeated.

        Returns:
            (B, T + 2, C) with neighbors on both sides for whole clips, (B, T + 1, C) with the previous one in a stream.
        """

    @abstractmethod
    def down(self, rate: int) -> None:
        """Adapt to down-sampling: `rate` time steps became one."""

    @abstractmethod
    def up(self, rate: int, delay: int) -> None:
        """Adapt to up-sampling: one time step became `rate`; streams are delayed by `delay` new time steps."""

    @abstractmethod
    def prepared(self, layer: nn.Module, x: Tensor, prepare: Callable[[int], Prepared]) -> Prepared:
        """Return `prepare(time_steps)`, values that `layer` derives from its weights to process x (B, T, C).

        `time_steps` is their total number in the batch. Streams call `prepare` once and reuse the result.
        """

    def mask(self, x: Tensor) -> Tensor:
        """x (B, T, C) with zeros in place of time steps outside the clips."""
        inside = self.inside(x.shape[1], 0, x.device)
        return x if inside is None else x.masked_fill(~inside[..., None], 0.0)


class WholeSpan(Span):
    """Span of whole clips, each starting at the tensor's first time step.

    Args:
        ends: Number of time steps of each clip (B,); None if all clips fill the tensor.
        kwargs: Arguments of `Span`.
    """

    def __init__(self, ends: Tensor | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.ends = ends

    @override
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        x = self.mask(x)
        return x, x, 0

    @override
    def delayed(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        return x

    @override
    def positions(self, length: int, margin: int, device: torch.device) -> Tensor:
        return torch.arange(length, device=device)[None] - margin

    @override
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor | None:
        return None if self.ends is None else torch.arange(length, device=device) < self.ends[:, None]

    @override
    def prepared(self, layer: nn.Module, x: Tensor, prepare: Callable[[int], Prepared]) -> Prepared:
        return prepare(x.shape[0] * x.shape[1])

    @override
    def with_neighbors(self, x: Tensor, layer: nn.Module) -> Tensor:
        if self.ends is not None:
            positions = torch.arange(x.shape[1], device=x.device)
            last = torch.minimum(positions, self.ends[:, None] - 1)
            x = x.gather(1, last[..., None].expand_as(x))
        return torch.cat([x[:, :1], x, x[:, -1:]], dim=1)

    @override
    def down(self, rate: int) -> None:
        if self.ends is not None:
            self.ends = self.ends // rate

    @override
    def up(self, rate: int, delay: int) -> None:
        if self.ends is not None:
            self.ends = self.ends * rate


class Past:
    """The last time steps (B, …, T, C) of a long past, with room for the next ones: short chunks cost no copy of it.

    Args:
        values: The first past.
    """

    def __init__(self, values: Tensor):
        self.steps = self._end = values.shape[-2]
        self._buffer = values

    @property
    def values(self) -> Tensor:
        """The past (B, …, T, C), a view."""
        return self._buffer.narrow(-2, self._end - self.steps, self.steps)

    def append(self, x: Tensor) -> Tensor:
        """The past followed by x (B, …, T', C), the next time steps; the last ones of both are the new past."""
        length, buffer = x.shape[-2], self._buffer
        in_place = (
            self._end + length <= buffer.shape[-2]
            and buffer.dtype == x.dtype
            and not torch.is_grad_enabled()  # what was computed with the buffer needs its values for gradients
            and (torch.is_inference_mode_enabled() or not buffer.is_inference())
        )
        if in_place:
            buffer.narrow(-2, self._end, length).copy_(x)
            self._end += length
        else:
            room = x.new_empty(*x.shape[:-2], max(0, self.steps - length), x.shape[-1])
            self._buffer = torch.cat([self.values.to(x.dtype), x, room], dim=-2)
            self._end = self.steps + length
        return self._buffer.narrow(-2, self._end - self.steps - length, self.steps + length)


class StreamSpan(Span):
    """Span of the next chunk of each clip; the clips of a batch may be at different positions.

    Args:
        starts: Position of the tensor's first time step in each clip; negative positions lie before the clip.
        ends: Number of time steps of each clip; None while it is unknown.
        state: Past inputs by layer, each with the batch as its first axis; layers read and replace them, or extend a
            `Past`.
        kept: Results of `prepared` by layer, shared by all chunks.
        kwargs: Arguments of `Span`.
    """

    def __init__(
        self,
        starts: list[int],
        ends: list[int | None],
        state: dict[nn.Module, Any],
        kept: dict[nn.Module, Any],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.starts = starts
        self.ends = ends
        self.state = state
        self.kept = kept

    def with_past(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        """x (B, T, C) preceded by the last `steps` time steps of the layer's input, zeros at first."""
        past = self.state.get(layer)
        if past is None:
            past = x.new_zeros(x.shape[0], steps, x.shape[2])
        window = torch.cat([past.to(x.dtype), x], dim=1)
        past = window[:, x.shape[1] :]
        self.state[layer] = past if x.shape[1] <= SHORT * steps else past.clone()  # a view keeps the chunk alive
        return window

    def with_long_past(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        """x (B, …, T, C) preceded by the last `steps` time steps of the layer's input, in a `Past`, zeros at first."""
        if layer not in self.state:
            self.state[layer] = Past(x.new_zeros(*x.shape[:-2], steps, x.shape[-1]))
        return self.state[layer].append(x)

    @override
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        length = x.shape[1]
        window = self.with_past(self.mask(x), before + after, layer)
        self.shift(after)
        return window, window[:, before : before + length], before

    def shift(self, steps: int) -> None:
        """Move back by the look-ahead of a layer, whose output is delayed by it."""
        self.starts = [start - steps for start in self.starts]

    @override
    def delayed(self, x: Tensor, steps: int, layer: nn.Module) -> Tensor:
        return self.with_past(x, steps, layer)[:, : x.shape[1]] if steps else x

    @override
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor | None:
        firsts = [start - margin for start in self.starts]
        if all(
            first >= 0 and (end is None or first + length <= end) for first, end in zip(firsts, self.ends, strict=True)
        ):
            return None
        positions = self.positions(length, margin, device)
        ends = torch.tensor([FAR if end is None else end for end in self.ends], device=device)
        return (positions >= 0) & (positions < ends[:, None])

    @override
    def positions(self, length: int, margin: int, device: torch.device) -> Tensor:
        firsts = torch.tensor([start - margin for start in self.starts], device=device)
        return firsts[:, None] + torch.arange(length, device=device)

    @override
    def prepared(self, layer: nn.Module, x: Tensor, prepare: Callable[[int], Prepared]) -> Prepared:
        if layer not in self.kept:
            self.kept[layer] = prepare(UNBOUNDED)
        return self.kept[layer]

    @override
    def with_neighbors(self, x: Tensor, layer: nn.Module) -> Tensor:
        window = self.with_past(x, 1, layer)
        length = window.shape[1]
        if self.inside(length, 1, x.device) is None:
            return window
        ends = torch.tensor([FAR if end is None else end for end in self.ends], device=x.device)
        return clamp_to_clip(window, self.positions(length, 1, x.device), ends)

    @override
    def down(self, rate: int) -> None:
        self.starts = [start // rate for start in self.starts]
        self.ends = [None if end is None else end // rate for end in self.ends]

    @override
    def up(self, rate: int, delay: int) -> None:
        self.starts = [start * rate - delay for start in self.starts]
        self.ends = [None if end is None else end * rate for end in self.ends]


class StepSpan(StreamSpan):
    """Span of the next chunk of each clip in exported graphs, which serve every position.

    Args:
        starts: Position (B,) of the tensor's first time step in each clip.
        ends: Number of time steps (B,) of each clip; `FAR` while it is unknown.
        state: Past inputs by layer.
        kwargs: Arguments of `Span`.
    """

    def __init__(self, starts: Tensor, ends: Tensor, state: dict[nn.Module, Any], **kwargs: Any):
        super().__init__([], [], state, {}, **kwargs)
        self.first, self.end = starts, ends

    @override
    def shift(self, steps: int) -> None:
        self.first = self.first - steps

    @override
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor:
        positions = self.positions(length, margin, device)
        return (positions >= 0) & (positions < self.end[:, None])

    @override
    def positions(self, length: int, margin: int, device: torch.device) -> Tensor:
        return (self.first - margin)[:, None] + torch.arange(length, device=device)

    @override
    def with_neighbors(self, x: Tensor, layer: nn.Module) -> Tensor:
        return clamp_to_clip(self.with_past(x, 1, layer), self.positions(x.shape[1] + 1, 1, x.device), self.end)

    @override
    def down(self, rate: int) -> None:
        self.first = torch.div(self.first, rate, rounding_mode="floor")
        self.end = torch.div(self.end, rate, rounding_mode="floor")

    @override
    def up(self, rate: int, delay: int) -> None:
        self.first = self.first * rate - delay
        self.end = self.end * rate


def clamp_to_clip(window: Tensor, positions: Tensor, ends: Tensor) -> Tensor:
    """Window (B, T, C) at `positions` (B, T) with clip edges repeated; `ends` are the time steps (B,) of the clips."""
    clamped = torch.minimum(positions.clamp(min=0), ends[:, None] - 1)
    source = (clamped - positions[:, :1]).clamp(0, window.shape[1] - 1)
    return window.gather(1, source[..., None].expand_as(window))
