"""Normalization over time with the statistics of the clip or with stored ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .span import Span


class Moments:
    """Accumulator of mean and variance over clips that arrive in chunks, in float64."""

    def __init__(self) -> None:
        self.count: Tensor | float = 0.0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, x: Tensor, inside: Tensor | None) -> None:
        """Add the time steps of x (B, T, C) that the mask `inside` (B, T) selects; None: all."""
        x = x.double()
        if inside is None:
            inside = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        x = x.masked_fill(~inside[..., None], 0.0)
        self.count = self.count + inside.sum(dim=1, keepdim=True)
        self.total = self.total + x.sum(dim=1)
        self.squares = self.squares + x.square().sum(dim=1)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance (B, C) of everything added, float64."""
        mean = torch.as_tensor(self.total / self.count)
        variance = torch.as_tensor(self.squares / self.count) - mean.square()
        return mean, variance.clamp(min=0.0)


class TimeNorm(nn.Module):
    """Affine instance normalization over the time steps of a clip, on (B, T, C).

    With `"clip"`, as published, the statistics are those of the clip. With `"frozen"`, they are stored averages over a
    calibration set (`CodecModel.calibrate_time_norm`), so that the decoder is local in time.
    """

    eps = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_clips_tracked", torch.zeros((), dtype=torch.int64))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_clips_tracked: Tensor

    @property
    def is_calibrated(self) -> bool:
        """True if statistics for `"frozen"` are stored."""
        return bool(self.num_clips_tracked)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        if self in span.statistics:
            scale, shift = self._affine(*span.statistics[self], wide)
        elif span.time_norm == "frozen":
            scale, shift = span.prepared(self, x, lambda _: self._affine(self.running_mean, self.running_var, wide))
        else:
            clip = self._of_clip(x.to(wide), span.inside(x.shape[1], 0, x.device))
            scale, shift = self._affine(*clip, wide)
        return (x.to(wide) * scale + shift).to(x.dtype)

    def _affine(self, mean: Tensor, variance: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scale and shift (B, 1, C) or (1, C) of type `wide` for the mean and variance (B, C) or (C,)."""
        scale = self.weight.to(wide) * torch.rsqrt(variance.to(wide) + self.eps)
        shift = self.bias.to(wide) - mean.to(wide) * scale
        return scale.unsqueeze(-2), shift.unsqueeze(-2)

    @staticmethod
    def _of_clip(x: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
        if inside is None:
            variance, mean = torch.var_mean(x, dim=1, correction=0)
            return mean, variance
        weight = inside[..., None].to(x.dtype) / inside.sum(dim=1)[:, None, None]
        mean = (x * weight).sum(dim=1)
        return mean, ((x - mean[:, None]).square() * weight).sum(dim=1)


@contextmanager
def collected_statistics(norms: Sequence[TimeNorm]) -> Iterator[dict[TimeNorm, Tensor]]:
    """Context that sums the means and variances (2, C) over each clip, by normalization; for clips processed singly."""
    sums = {norm: torch.zeros(2, len(norm.weight), dtype=torch.float64) for norm in norms}

    def collect(norm: nn.Module, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        moments = Moments()
        moments.add(inputs[0], None)
        sums[norm] += torch.stack(moments.statistics())[:, 0].double().cpu()  # type: ignore[index]

    handles = [norm.register_forward_hook(collect) for norm in norms]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()
