"""Where on the clips' timelines a tensor lies: what makes padding, chunks and streams exact.

Features are (B, T, C): batch, time, channels. Every layer with a temporal context asks the *span* that
travels with the tensor for the columns around it, and the span answers as the clip itself would: zeros
before its first and after its last column, never a neighbour's padding.

- `WholeSpan`: the tensor is the whole clip. Columns from a row's end on are padding.
- `StreamSpan`: the tensor is the next piece of each clip. A layer that looks ahead by some columns answers as
  many columns late; what it still needs of the past is kept in `state`.

Both move with the tensor: layers that change the rate call `down` or `up`.
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
"""Columns of a stream."""


class Span(ABC):
    """The protocol that layers see.

    Attributes:
        time_norm: `"clip"` normalises over the clip, `"frozen"` with stored statistics.
        statistics: Mean and variance (B, 4) for each time normalisation that is already known.
    """

    def __init__(self, time_norm: TimeNormMode = "clip", statistics: Statistics | None = None):
        self.time_norm = time_norm
        self.statistics: Statistics = statistics or {}

    @abstractmethod
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        """The columns that `layer` needs to answer for x (B, T, C), `before` and `after` a column's own.

        Returns:
            window: Columns to compute on, zero outside the clip.
            centre: The columns (B, T, C) that the answer belongs to.
            crop: 0 if `window` starts at `centre`'s first column, so that the layer pads with zeros itself;
                `before` if `window` reaches `before` columns further back and `after` columns further on.
        """

    @abstractmethod
    def delayed(self, x: Tensor, columns: int, layer: nn.Module) -> Tensor:
        """The columns (B, T, C) that an answer `columns` late belongs to; `layer` answers so, by `around`."""

    @abstractmethod
    def positions(self, length: int, margin: int, device: torch.device) -> Tensor:
        """Places (B or 1, length) of columns on their clips' timelines, from `margin` before the first column."""

    @abstractmethod
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor | None:
        """Mask (B, length) of columns within the clips, from `margin` before the first; None: all are."""

    @abstractmethod
    def neighbours(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Columns (B, T + 2, C) or (B, T + 1, C) for interpolation, edges repeated beyond the clip."""

    @abstractmethod
    def down(self, rate: int) -> None:
        """`rate` columns have become one."""

    @abstractmethod
    def up(self, rate: int, delay: int) -> None:
        """One column has become `rate`; a stream's answer comes `delay` new columns late."""

    @abstractmethod
    def prepared(self, layer: nn.Module, x: Tensor, prepare: Callable[[int], Prepared]) -> Prepared:
        """What `layer` derives from its weights, `prepare(columns)` for those of x (B, T, C); streams do it once."""

    def mask(self, x: Tensor) -> Tensor:
        """x (B, T, C) with zeros in place of columns outside the clips."""
        inside = self.inside(x.shape[1], 0, x.device)
        return x if inside is None else x.masked_fill(~inside[..., None], 0.0)


class WholeSpan(Span):
    """Whole clips from their first column.

    Args:
        ends: Columns of each clip (B,); None where all clips fill the tensor.
    """

    def __init__(self, ends: Tensor | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.ends = ends

    @override
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        x = self.mask(x)
        return x, x, 0

    @override
    def delayed(self, x: Tensor, columns: int, layer: nn.Module) -> Tensor:
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
    def neighbours(self, x: Tensor, layer: nn.Module) -> Tensor:
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


class StreamSpan(Span):
    """The next columns of each clip, which may stand at different places of their clips.

    Args:
        starts: Position of the tensor's first column on each clip's timeline; columns at negative positions
            lie before the clip.
        ends: Columns of each clip, None while a clip's end is not known.
        state: Past columns by layer, each with the batch as first axis; read and replaced by the layers.
        kept: What layers derived from their weights, for all pieces.
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

    def remember(self, x: Tensor, columns: int, layer: nn.Module) -> Tensor:
        """x (B, T, C) behind the last `columns` columns that `layer` saw (zeros at first)."""
        past = self.state.get(layer)
        if past is None:
            past = x.new_zeros(x.shape[0], columns, x.shape[2])
        window = torch.cat([past.to(x.dtype), x], dim=1)
        self.state[layer] = window[:, x.shape[1] :].clone()  # a view would keep the piece alive
        return window

    @override
    def around(self, x: Tensor, before: int, after: int, layer: nn.Module) -> tuple[Tensor, Tensor, int]:
        length = x.shape[1]
        window = self.remember(self.mask(x), before + after, layer)
        self.starts = [start - after for start in self.starts]
        return window, window[:, before : before + length], before

    @override
    def delayed(self, x: Tensor, columns: int, layer: nn.Module) -> Tensor:
        return self.remember(x, columns, layer)[:, : x.shape[1]] if columns else x

    @override
    def inside(self, length: int, margin: int, device: torch.device) -> Tensor | None:
        firsts = [start - margin for start in self.starts]
        if all(
            first >= 0 and (end is None or first + length <= end) for first, end in zip(firsts, self.ends, strict=True)
        ):
            return None
        positions = self.positions(length, margin, device)
        unknown = torch.iinfo(torch.int64).max
        ends = torch.tensor([unknown if end is None else end for end in self.ends], device=device)
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
    def neighbours(self, x: Tensor, layer: nn.Module) -> Tensor:
        window = self.remember(x, 1, layer)
        length = window.shape[1]
        if self.inside(length, 1, x.device) is None:
            return window
        positions = self.positions(length, 1, x.device)
        ends = torch.tensor([2**62 if end is None else end for end in self.ends], device=x.device)
        clamped = torch.minimum(positions.clamp(min=0), ends[:, None] - 1)
        source = (clamped - positions[:, :1]).clamp(0, length - 1)
        return window.gather(1, source[..., None].expand_as(window))

    @override
    def down(self, rate: int) -> None:
        self.starts = [start // rate for start in self.starts]
        self.ends = [None if end is None else end // rate for end in self.ends]

    @override
    def up(self, rate: int, delay: int) -> None:
        self.starts = [start * rate - delay for start in self.starts]
        self.ends = [None if end is None else end * rate for end in self.ends]
