"""Finite scalar quantization: six small numbers a frame and their one id (arXiv 2309.15505, 2504.04949).

Axes: B batch, N frames (ids), D features, L latent dimensions ("digits"). A *code* is a tensor (…, L) of
values in [-1, 1]; its *digits* are whole numbers 0 … level − 1; its *id* is the digits in mixed radix, the first
one fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOUNDARY_NOISE = 1e-4
"""Rounding noise of latents on the level scale, whose boundaries are one apart."""


def radices(levels: Sequence[int]) -> list[int]:
    """What a step of each digit adds to the id: 1, L₀, L₀·L₁, …"""
    return [1, *accumulate(levels[:-1], mul)]


def digits_to_ids(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (…, L) → ids (…), int64."""
    return (digits.to(torch.int64) * torch.tensor(radices(levels), device=digits.device)).sum(dim=-1)


def ids_to_digits(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """Ids (…) → digits (…, L), int64; the inverse of `digits_to_ids`."""
    steps = torch.tensor(radices(levels), device=ids.device)
    sizes = torch.tensor(list(levels), device=ids.device)
    return (ids.to(torch.int64)[..., None] // steps) % sizes


def digits_to_codes(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (…, L) → values (…, L) in [-1, 1], float32."""
    sizes = torch.tensor(list(levels), device=digits.device, dtype=torch.float32)
    return 2 * digits.to(torch.float32) / (sizes - 1) - 1


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever its weights' type and the autocast state."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) of any type → (…, D') in float32."""
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self.weight.float(), bias)


class FSQ(nn.Module):
    """Features → latents → ids → features, in float32 throughout.

    Args:
        dim: Features D on both sides.
        levels: Odd number of levels of each latent dimension.
        quantizer: `"super_fsq"` (L3AC) rounds (tanh z + 1)/2·(L − 1); `"fsq"` (Mentzer et al., Eq. 1) rounds
            tanh z·(L − 1)·1.001/2.
        noise_probability: Share of elements that get uniform noise instead of rounding in training.
    """

    def __init__(self, dim: int, levels: Sequence[int], quantizer: str, noise_probability: float):
        super().__init__()
        self.levels = tuple(levels)
        self.quantizer = quantizer
        self.noise_probability = noise_probability
        self.project_in = Float32Linear(dim, len(self.levels))
        self.project_out = Float32Linear(len(self.levels), dim)

    @property
    def codebook_size(self) -> int:
        """Number of different ids."""
        return math.prod(self.levels)

    def scale(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → the level scale, on which rounding gives the digits: 0 … level − 1."""
        steps = torch.tensor([level - 1 for level in self.levels], device=latents.device, dtype=torch.float32)
        bounded = torch.tanh(latents.float())
        if self.quantizer == "fsq":
            return bounded * (steps * 1.001 / 2) + steps / 2
        return (bounded + 1) / 2 * steps

    def round(self, scaled: Tensor) -> Tensor:
        """Level scale (…, L) → digits (…, L) as float32, half to even of the value that the paper rounds."""
        if self.quantizer == "fsq":
            middle = torch.tensor([(level - 1) / 2 for level in self.levels], device=scaled.device)
            return torch.round(scaled - middle) + middle
        return torch.round(scaled)

    def near_boundary(self, latents: Tensor) -> Tensor:
        """Mask (…) of frames whose latents (…, L) lie so near a rounding boundary that rounding noise decides.

        Ids of such frames may differ between ways to compute them; count and report them.
        """
        scaled = self.scale(latents)
        return ((scaled - scaled.floor() - 0.5).abs() < BOUNDARY_NOISE).any(dim=-1)

    def latents_to_ids(self, latents: Tensor) -> Tensor:
        """Latents (…, L) before tanh → ids (…), int64."""
        return digits_to_ids(self.round(self.scale(latents)), self.levels)

    def ids_to_features(self, ids: Tensor) -> Tensor:
        """Ids (…) → features (…, D)."""
        return self.project_out(digits_to_codes(ids_to_digits(ids, self.levels), self.levels))

    def latents_to_features(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) without rounding."""
        return self.project_out(self._to_codes(self.scale(latents)))

    def straight_through(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) with gradients, as training sees them.

        An element is rounded or, with probability `noise_probability` in training mode, moved by uniform noise of
        one level's width; the gradient is that of the unrounded value.
        """
        scaled = self.scale(latents)
        digits = self.round(scaled.detach())
        if self.training and self.noise_probability > 0:
            noised = scaled.detach() + self._noise(scaled)
            digits = torch.where(torch.rand_like(scaled) < self.noise_probability, noised, digits)
        return self.project_out(self._to_codes(scaled + (digits - scaled).detach()))

    def _noise(self, scaled: Tensor) -> Tensor:
        """Uniform noise on the level scale: ±½ level of L for FSQ, ±½·(L − 1)/L for the paper's a + u/L."""
        noise = torch.rand_like(scaled) - 0.5
        if self.quantizer == "fsq":
            return noise
        return noise * torch.tensor([(level - 1) / level for level in self.levels], device=scaled.device)

    def _to_codes(self, scaled: Tensor) -> Tensor:
        steps = torch.tensor([level - 1 for level in self.levels], device=scaled.device, dtype=torch.float32)
        return 2 * scaled / steps - 1
