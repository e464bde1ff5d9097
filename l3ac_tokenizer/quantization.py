"""Finite scalar quantization: six small numbers a frame and their one id (arXiv 2309.15505, 2504.04949).

Axes: B batch, N frames (ids), D features, L latent dimensions ("digits"). A *code* is a tensor (…, L) of
values in [-1, 1]; its *digits* are whole numbers 0 … level − 1; its *id* is the digits in mixed radix, the first
one fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from operator import mul
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOUNDARY_NOISE = 1e-4
"""Rounding noise of latents on the level scale, whose boundaries are one apart."""


def radices(levels: Sequence[int]) -> list[int]:
    """What a step of each digit adds to the id: 1, L₀, L₀·L₁, …"""
    return [1, *itertools.accumulate(levels[:-1], mul)]


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


_Ids = TypeVar("_Ids", np.ndarray, Tensor)


def split_sizes(levels: Sequence[int], groups: int = 2) -> list[int]:
    """Number of different ids in each stream of `split_ids`: 343, 343 for the two groups of six digits of 7.

    The L digits fall into `groups` runs of neighbours as even as can be, longer ones first.

    Raises:
        ValueError: `groups` is not between 1 and L.
    """
    if not 1 <= groups <= len(levels):
        raise ValueError(f"`groups` is {groups}; ids of {len(levels)} digits split into 1 to {len(levels)} groups.")
    short, longer = divmod(len(levels), groups)
    ends = [0, *itertools.accumulate([short + 1] * longer + [short] * (groups - longer))]
    return [math.prod(levels[start:end]) for start, end in itertools.pairwise(ends)]


def split_ids(ids: _Ids, levels: Sequence[int], groups: int = 2) -> _Ids:
    """Ids (…) → streams (…, G) of small ids, int64: the digits of each group in mixed radix, first one fastest.

    For models that rather predict G small ids a frame than one of a large codebook. One group gives the ids
    themselves, L groups the digits.

    Args:
        ids: Whole numbers, array or tensor.
        levels: Number of levels of each digit.
        groups: Number G of streams; `split_sizes` tells the size of each.

    Raises:
        ValueError: An id is not below the product of `levels`, or `groups` is not between 1 and L.
    """
    sizes = split_sizes(levels, groups)
    check_ids(ids, math.prod(levels))
    rest, streams = _int64(ids), []
    for size in sizes:
        streams.append(rest % size)
        rest = rest // size
    return np.stack(streams, axis=-1) if isinstance(ids, np.ndarray) else torch.stack(streams, dim=-1)


def join_ids(streams: _Ids, levels: Sequence[int], groups: int = 2) -> _Ids:
    """Streams (…, G) of small ids → ids (…), int64; the inverse of `split_ids`.

    Raises:
        ValueError: The last axis is not `groups` long, or a stream has an id that is not below its size.
    """
    sizes = split_sizes(levels, groups)
    if streams.shape[-1:] != (groups,):
        raise ValueError(f"`streams` has shape {tuple(streams.shape)}; its last axis must be the {groups} groups.")
    for group, size in enumerate(sizes):
        check_ids(streams[..., group], size, f"`streams[..., {group}]`")
    whole = _int64(streams)
    return sum((whole[..., group] * step for group, step in enumerate(radices(sizes))), start=0 * whole[..., 0])


def check_ids(ids: np.ndarray | Tensor, codebook_size: int, name: str = "`ids`") -> None:
    """Refuse what is not a whole number from 0 to `codebook_size` − 1; compiled code is not checked.

    Raises:
        ValueError: The type is not of whole numbers, or an id is out of range; `name` is said in the message.
    """
    whole = (
        ids.dtype.kind in "iu"
        if isinstance(ids, np.ndarray)
        else not (ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool)
    )
    if not whole:
        raise ValueError(f"{name} is of type {ids.dtype}; ids are whole numbers (int64).")
    if torch.compiler.is_compiling() or 0 in ids.shape:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= codebook_size:
        raise ValueError(f"{name} holds {low if low < 0 else high}; ids are 0 to {codebook_size - 1} here.")


def _int64(ids: _Ids) -> _Ids:
    return ids.astype(np.int64) if isinstance(ids, np.ndarray) else ids.to(torch.int64)


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
