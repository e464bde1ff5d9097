"""Finite scalar quantization: six small numbers a frame and their one id (arXiv 2309.15505, 2504.04949).

Axes: B batch, N frames, D features, L latent dimensions, K streams of ids. A *code* is a tensor (…, L) of
values in [-1, 1]; its *digits* are whole numbers 0 … level − 1; its *id* is the digits in mixed radix, the first
one fastest. Almost always K = 1. In the residual form (arXiv 2411.19842, Eq. 3 and 4) a frame has K · L digits, K small
ids of L digits each, and still one id of all its digits, which `split_ids` cuts into the K small ones.
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
    streams = _cut(ids, sizes)
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
    return _joined([streams[..., group] for group in range(groups)], sizes)


def _cut(ids: _Ids, sizes: Sequence[int]) -> list[_Ids]:
    rest, streams = _int64(ids), []
    for size in sizes:
        streams.append(rest % size)
        rest = rest // size
    return streams


def _joined(streams: Sequence[_Ids], sizes: Sequence[int]) -> _Ids:
    ids = _int64(streams[0])  # whose step is 1
    for stream, step in zip(streams[1:], radices(sizes)[1:], strict=True):
        ids = ids + _int64(stream) * step
    return ids


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
    """A linear layer that computes in float32, or wider as its weights, whatever the autocast state."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) of any type → (…, D') in float32 or wider."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.to(wide)
            return F.linear(x.to(wide), self.weight.to(wide), bias)


class ToFloat32(nn.Module):
    """What stands in a projection's place where features are the latents themselves."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, L) of any type → float32."""
        return x.float()


def residual_levels(levels: Sequence[int], num_quantizers: int) -> list[int]:
    """Levels of each of K residual stages that together are the grid of `levels`: 3 for 9 = 2³ + 1 and K = 3.

    Raises:
        ValueError: A grid does not decompose, as 7 = 6 + 1 does not into two stages or three.
    """
    roots = []
    for level in levels:
        steps = round((level - 1) ** (1 / num_quantizers))
        if steps**num_quantizers != level - 1 or (steps < 2 and num_quantizers > 1):
            raise ValueError(
                f"{level} levels have no {num_quantizers} residual stages; that takes n^{num_quantizers} + 1 levels, "
                "n a whole number of at least 2."
            )
        roots.append(steps + 1)
    return roots


class FSQ(nn.Module):
    """Features → latents → ids → features, in float32 throughout.

    Args:
        dim: Features D on both sides, which learned projections bring to L and back; None: they are the latents.
        levels: Number of levels of each latent dimension, of each stage where there are several.
        quantizer: `"super_fsq"` (L3AC, TAAE) rounds (tanh z + 1)/2·(L − 1); `"fsq"` (Mentzer et al., Eq. 1) rounds
            tanh z·(L − 1)·1.001/2.
        noise_probability: Share of elements that get uniform noise instead of rounding in training.
        num_quantizers: Number K of residual stages (arXiv 2411.19842, Eq. 3 and 4): each divides the steps of the one
            before by L − 1. Together they are the grid of (L − 1)^K + 1 levels, its id cut into K small ones.
        clip: Codes beyond ±1, which ids of several stages can say and no encoder does, are decoded as ±1.
    """

    def __init__(
        self,
        dim: int | None,
        levels: Sequence[int],
        quantizer: str,
        noise_probability: float,
        num_quantizers: int = 1,
        clip: bool = False,
    ):
        super().__init__()
        self.levels = tuple(levels)
        self.quantizer = quantizer
        self.noise_probability = noise_probability
        self.num_quantizers = num_quantizers
        self.clip = clip
        width = len(self.levels)
        self.project_in = ToFloat32() if dim is None else Float32Linear(dim, width)
        self.project_out = ToFloat32() if dim is None else Float32Linear(width, dim)

    @property
    def codebook_size(self) -> int:
        """Number of different ids of each stream."""
        return math.prod(self.levels)

    def ids_to_streams(self, ids: Tensor) -> Tensor:
        """Ids of frames (B, N) → ids of each stage (B, K, N)."""
        return torch.stack(_cut(ids, [self.codebook_size] * self.num_quantizers), dim=1)

    def streams_to_ids(self, streams: Tensor) -> Tensor:
        """Ids of each stage (B, K, N) → ids of frames (B, N); the inverse of `ids_to_streams`."""
        return _joined(streams.unbind(1), [self.codebook_size] * self.num_quantizers)

    def scale(self, latents: Tensor, steps: Tensor | None = None) -> Tensor:
        """Latents (…, L) → the level scale, on which rounding gives the digits: 0 … level − 1.

        Args:
            latents: Before tanh.
            steps: From the lowest level to the highest, which broadcast with the latents; None: those of `levels`.
        """
        # With several stages, the rounding error of the first grows from each to the next.
        wide = torch.float32 if self.num_quantizers == 1 else torch.float64
        steps = self._steps(latents) if steps is None else steps
        bounded = torch.tanh(latents.to(wide))
        if self.quantizer == "fsq":
            return bounded * (steps * 1.001 / 2) + steps / 2
        return (bounded + 1) / 2 * steps

    def round(self, scaled: Tensor) -> Tensor:
        """Level scale (…, L) → digits (…, L) as float, half to even of the value that the paper rounds."""
        if self.quantizer == "fsq":
            middle = self._steps(scaled) / 2
            return torch.round(scaled - middle) + middle
        return torch.round(scaled)

    def _stages(self, latents: Tensor) -> list[Tensor]:
        """Latents (…, L) → their place on the level scale (…, L) of each stage."""
        stages = [self.scale(latents)]
        for _ in range(1, self.num_quantizers):
            left = stages[-1] - self.round(stages[-1])  # -½ … ½ of a step, which is all of the next stage's scale
            stages.append((left + 0.5) * self._steps(latents))
        return stages

    def near_boundary(self, latents: Tensor) -> Tensor:
        """Mask (…) of frames whose latents (…, L) lie so near a rounding boundary that rounding noise decides.

        Ids of such frames may differ between ways to compute them; count and report them.
        """
        scaled = torch.cat(self._stages(latents), dim=-1)
        return ((scaled - scaled.floor() - 0.5).abs() < BOUNDARY_NOISE).any(dim=-1)

    def latents_to_ids(self, latents: Tensor) -> Tensor:
        """Latents (…, L) before tanh → ids of frames (…), int64."""
        digits = torch.cat([self.round(scaled) for scaled in self._stages(latents)], dim=-1)
        return digits_to_ids(digits, self.levels * self.num_quantizers)

    def ids_to_codes(self, ids: Tensor) -> Tensor:
        """Ids of frames (…) → values (…, L), the sum over the stages, float32."""
        digits = ids_to_digits(ids, self.levels * self.num_quantizers).unflatten(-1, (self.num_quantizers, -1))
        stages = digits_to_codes(digits, self.levels).unbind(-2)
        steps = self._steps(digits)
        codes = sum((stage / steps**index for index, stage in enumerate(stages[1:], 1)), start=stages[0])
        return codes.clamp(-1, 1) if self.clip else codes

    def ids_to_features(self, ids: Tensor) -> Tensor:
        """Ids of frames (…) → features (…, D)."""
        return self.project_out(self.ids_to_codes(ids))

    def latents_to_features(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) without rounding."""
        return self.project_out(self._to_codes(self.scale(latents)))

    def straight_through(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) with gradients, as training sees them.

        The values are those of the ids or, in training mode, what `_in_training` makes of them; the gradient is that
        of the unrounded value.
        """
        codes = self._to_codes(self.scale(latents))
        still = latents.detach()
        seen = self._in_training(still) if self.training else self.ids_to_codes(self.latents_to_ids(still))
        return self.project_out(seen + (codes - codes.detach()))  # exactly `seen`

    def _in_training(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → values (…, L), each element rounded or moved by uniform noise of one level's width.

        On the level scale that is ±½ level of L for FSQ, ±½·(L − 1)/L for the paper's a + u/L.
        """
        steps = self._steps(latents) ** self.num_quantizers
        scaled = self.scale(latents, steps)
        noise = torch.rand_like(scaled) - 0.5
        if self.quantizer == "super_fsq":
            noise = noise * steps / (steps + 1)
        noised = torch.rand_like(scaled) < self.noise_probability
        return self._to_codes(torch.where(noised, scaled + noise, self.round(scaled)), steps)

    def _steps(self, like: Tensor) -> Tensor:
        return torch.tensor([level - 1 for level in self.levels], device=like.device, dtype=torch.float32)

    def _to_codes(self, scaled: Tensor, steps: Tensor | None = None) -> Tensor:
        return (2 * scaled / (self._steps(scaled) if steps is None else steps) - 1).float()


class RandomLevelsFSQ(FSQ):
    """FSQ of which training sees every number of levels, so that it can be chosen afterwards (arXiv 2411.19842).

    Args:
        levels: Of each latent dimension, of each stage where there are several.
        noise_probability: Share of training items that get uniform noise of one step's width (Eq. 2).
        training_levels: Of which each training item draws one for all its dimensions.
        num_quantizers: As in `FSQ`.
        clip: As in `FSQ`.
    """

    def __init__(
        self,
        levels: Sequence[int],
        noise_probability: float,
        training_levels: Sequence[int],
        num_quantizers: int = 1,
        clip: bool = False,
    ):
        super().__init__(None, levels, "super_fsq", noise_probability, num_quantizers, clip)
        self.training_levels = tuple(training_levels)

    def _in_training(self, latents: Tensor) -> Tensor:
        """Latents (B, …, L) → values (B, …, L): each item rounded or, all of it, moved by noise."""
        each = (len(latents), *(1,) * (latents.ndim - 1))
        choices = torch.tensor(self.training_levels, device=latents.device, dtype=torch.float32)
        steps = choices[torch.randint(len(choices), each, device=latents.device)] - 1
        scaled = self.scale(latents, steps)
        noised = torch.rand(each, device=latents.device) < self.noise_probability
        moved = scaled + torch.rand_like(scaled) - 0.5
        return self._to_codes(torch.where(noised, moved, self.round(scaled)), steps)
