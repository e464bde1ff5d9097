"""Finite scalar quantization (FSQ): latents of a frame to one id and back (arXiv 2309.15505, 2504.04949).

Axes: B batch, N frames, D features, L latent dimensions, K codebooks.

A frame has L *quantized values* in [-1, 1]. Its *digits* are the indices of these values, 0 … level − 1. Its *id* is
the number that the digits form in mixed radix, the first digit varying fastest.

Usually K = 1. In the residual form (arXiv 2411.19842, Eq. 3 and 4) a frame has K · L digits: one id of L digits from
each of K codebooks, or a single id of all digits, which `split_ids` splits into the K ids.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import as_audio_codes, as_ids, id_outside

BOUNDARY_NOISE = 1e-4
"""Bound of the rounding noise of latents on the level scale, where neighboring boundaries are 1 apart."""


HALF_PRECISION = (torch.float16, torch.bfloat16)


def radices(levels: Sequence[int]) -> list[int]:
    """Place values of the digits of an id: 1, L₀, L₀·L₁, …"""
    return [1, *itertools.accumulate(levels[:-1], mul)]


def digits_to_ids(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (…, L) → ids (…), int64."""
    return (digits.to(torch.int64) * torch.tensor(radices(levels), device=digits.device)).sum(dim=-1)


def ids_to_digits(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """Ids (…) → digits (…, L), int64; the inverse of `digits_to_ids`."""
    steps = torch.tensor(radices(levels), device=ids.device)
    sizes = torch.tensor(list(levels), device=ids.device)
    return (ids.to(torch.int64)[..., None] // steps) % sizes


def digits_to_values(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (…, L) → quantized values (…, L) in [-1, 1], float32."""
    sizes = torch.tensor(list(levels), device=digits.device, dtype=torch.float32)
    return 2 * digits.to(torch.float32) / (sizes - 1) - 1


_Ids = TypeVar("_Ids", np.ndarray, Tensor)


def split_sizes(levels: Sequence[int], groups: int = 2) -> list[int]:
    """Codebook size of each group of `split_ids`: 343 and 343 for two groups of six digits with 7 levels each.

    The L digits are divided into `groups` contiguous runs of as equal length as possible, the longer ones first.

    Raises:
        ValueError: `groups` is not between 1 and L.
    """
    if not 1 <= groups <= len(levels):
        raise ValueError(f"`groups` is {groups}; ids of {len(levels)} digits split into 1 to {len(levels)} groups.")
    short, longer = divmod(len(levels), groups)
    ends = [0, *itertools.accumulate([short + 1] * longer + [short] * (groups - longer))]
    return [math.prod(levels[start:end]) for start, end in itertools.pairwise(ends)]


def split_ids(ids: _Ids, levels: Sequence[int], groups: int = 2) -> _Ids:
    """Ids (…) → ids of G groups of digits (…, G), int64, for models that predict G small ids for each frame.

    The id of a group is the number that its digits form in mixed radix, the first digit varying fastest. A single group
    has the ids themselves, L groups have the digits.

    Args:
        ids: Integers, array or tensor.
        levels: Number of levels of each digit.
        groups: Number of groups G; `split_sizes` gives the codebook size of each.

    Raises:
        ValueError: An id is not below the product of `levels`, or `groups` is not between 1 and L.
    """
    sizes = split_sizes(levels, groups)
    check_ids(ids, math.prod(levels))
    parts = _cut(ids, sizes)
    return np.stack(parts, axis=-1) if isinstance(ids, np.ndarray) else torch.stack(parts, dim=-1)


def join_ids(parts: _Ids, levels: Sequence[int], groups: int = 2) -> _Ids:
    """Ids of G groups of digits (…, G) → ids (…), int64; the inverse of `split_ids`.

    Raises:
        ValueError: The last axis is not `groups` long, or an id is not below the codebook size of its group.
    """
    sizes = split_sizes(levels, groups)
    if parts.shape[-1:] != (groups,):
        raise ValueError(f"`parts` has shape {tuple(parts.shape)}; its last axis must have length {groups}.")
    for group, size in enumerate(sizes):
        check_ids(parts[..., group], size, f"`parts[..., {group}]`")
    return _joined([parts[..., group] for group in range(groups)], sizes)


def _cut(ids: _Ids, sizes: Sequence[int]) -> list[_Ids]:
    rest, parts = _int64(ids), []
    for size in sizes:
        parts.append(rest % size)
        rest = rest // size
    return parts


def _joined(parts: Sequence[_Ids], sizes: Sequence[int]) -> _Ids:
    ids = _int64(parts[0])  # whose place value is 1
    for part, place_value in zip(parts[1:], radices(sizes)[1:], strict=True):
        ids = ids + _int64(part) * place_value
    return ids


def check_ids(ids: np.ndarray | Tensor, codebook_size: int, name: str = "`ids`") -> None:
    """Check that ids are integers from 0 to `codebook_size` − 1; their range is not checked in compiled code.

    Raises:
        ValueError: The type is not an integer type, or an id is out of range; the message calls the ids `name`.
    """
    wrong = id_outside(as_ids(ids, name), codebook_size)
    if wrong is not None:
        raise ValueError(f"{name} holds {wrong}; ids are 0 to {codebook_size - 1} here.")


def _int64(ids: _Ids) -> _Ids:
    return ids.astype(np.int64) if isinstance(ids, np.ndarray) else ids.to(torch.int64)


class Float32Module(nn.Module):
    """Module whose weights stay in float32, or wider, when a model is cast to half precision.

    What determines ids is such a module: in half precision, rounding errors reach several percent of the ids, and
    depend on batch, padding and chunks.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Float32Module:
        def kept_wide(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            narrowed = changed.dtype in HALF_PRECISION and tensor.dtype not in HALF_PRECISION
            return tensor.to(changed.device) if narrowed else changed

        return super()._apply(kept_wide, recurse)

    def float32_from_half(self) -> None:
        """Widen weights that were made in half precision."""
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            if tensor.dtype in HALF_PRECISION:
                tensor.data = tensor.data.float()


class Float32Linear(nn.Linear):
    """Linear layer that computes in float32, or wider as its weights, regardless of autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) of any type → (…, D') in float32 or wider."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.to(wide)
            return F.linear(x.to(wide), self.weight.to(wide), bias)


class ToFloat32(nn.Module):
    """Identity in float32, in place of a projection where the features are the latents themselves."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, L) of any type → float32."""
        return x.float()


def residual_levels(levels: Sequence[int], num_quantizers: int) -> list[int]:
    """Levels of each of K residual stages that together have the grid `levels`: 3 for 9 = 2³ + 1 and K = 3.

    Raises:
        ValueError: A number of levels has no K stages: 7 = 6 + 1 has neither two nor three.
    """
    roots = []
    for level in levels:
        steps = round((level - 1) ** (1 / num_quantizers))
        if steps**num_quantizers != level - 1 or (steps < 2 and num_quantizers > 1):
            raise ValueError(
                f"{level} levels cannot be decomposed into {num_quantizers} residual stages; that needs "
                f"n^{num_quantizers} + 1 levels with an integer n of at least 2."
            )
        roots.append(steps + 1)
    return roots


class FSQ(Float32Module):
    """Finite scalar quantizer: features → latents → ids → features, in float32 throughout.

    Args:
        dim: Number of features D; learned projections map them to L latents and back. None: the features are the
            latents.
        levels: Number of levels of each latent dimension; with several stages, of each stage.
        quantizer: `"super_fsq"` (L3AC, TAAE) rounds (tanh z + 1)/2·(L − 1); `"fsq"` (Mentzer et al., Eq. 1) rounds
            tanh z·(L − 1)·1.001/2.
        noise_probability: Share of elements that training moves by uniform noise instead of rounding.
        num_quantizers: Number of codebooks K, one for each residual stage (arXiv 2411.19842, Eq. 3 and 4). Each stage
            divides the steps of the previous one by its number of levels less 1; together, stages of l levels have a
            grid of (l − 1)^K + 1 levels.
        clip: Decode values beyond ±1 as ±1; ids of several stages can express them, but no encoder does.
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
        """Number of ids in each codebook."""
        return math.prod(self.levels)

    def ids_to_codebooks(self, ids: Tensor) -> Tensor:
        """Ids of whole frames (B, N) → ids of each codebook (B, K, N)."""
        return torch.stack(_cut(ids, [self.codebook_size] * self.num_quantizers), dim=1)

    def codebooks_to_ids(self, ids: Tensor) -> Tensor:
        """Ids of each codebook (B, K, N) → ids of whole frames (B, N); the inverse of `ids_to_codebooks`."""
        return _joined(ids.unbind(1), [self.codebook_size] * self.num_quantizers)

    def scale(self, latents: Tensor, steps: Tensor | None = None) -> Tensor:
        """Latents (…, L) → positions (…, L) on the level scale, 0 … level − 1, which round to the digits.

        Args:
            latents: Latents before tanh.
            steps: Number of steps from the lowest to the highest level, broadcast with the latents; None: by `levels`.
        """
        # With several stages, each amplifies the rounding error of the previous one.
        wide = torch.float32 if self.num_quantizers == 1 else torch.float64
        steps = self._steps(latents) if steps is None else steps
        bounded = torch.tanh(latents.to(wide))
        if self.quantizer == "fsq":
            return bounded * (steps * 1.001 / 2) + steps / 2
        return (bounded + 1) / 2 * steps

    def round(self, scaled: Tensor) -> Tensor:
        """Positions (…, L) on the level scale → digits (…, L) as floats; the paper's value is rounded half to even."""
        if self.quantizer == "fsq":
            middle = self._steps(scaled) / 2
            return torch.round(scaled - middle) + middle
        return torch.round(scaled)

    def _stages(self, latents: Tensor) -> list[Tensor]:
        """Latents (…, L) → positions (…, L) on the level scale of each stage."""
        stages = [self.scale(latents)]
        for _ in range(1, self.num_quantizers):
            rest = stages[-1] - self.round(stages[-1])  # −½ … ½ of a step: the whole scale of the next stage
            stages.append((rest + 0.5) * self._steps(latents))
        return stages

    def near_boundary(self, latents: Tensor) -> Tensor:
        """Mask (…) of frames whose latents (…, L) lie within `BOUNDARY_NOISE` of a rounding boundary.

        Their ids may differ between implementations that are equal up to floating-point rounding.
        """
        scaled = torch.cat(self._stages(latents), dim=-1)
        return ((scaled - scaled.floor() - 0.5).abs() < BOUNDARY_NOISE).any(dim=-1)

    def latents_to_ids(self, latents: Tensor) -> Tensor:
        """Latents (…, L) before tanh → ids of whole frames (…), int64."""
        digits = torch.cat([self.round(scaled) for scaled in self._stages(latents)], dim=-1)
        return digits_to_ids(digits, self.levels * self.num_quantizers)

    def ids_to_values(self, ids: Tensor) -> Tensor:
        """Ids of whole frames (…) → quantized values (…, L), float32: the sum over the stages."""
        digits = ids_to_digits(ids, self.levels * self.num_quantizers).unflatten(-1, (self.num_quantizers, -1))
        stages = digits_to_values(digits, self.levels).unbind(-2)
        steps = self._steps(digits)
        values = sum((stage / steps**index for index, stage in enumerate(stages[1:], 1)), start=stages[0])
        return values.clamp(-1, 1) if self.clip else values

    def ids_to_features(self, ids: Tensor) -> Tensor:
        """Ids of whole frames (…) → features (…, D)."""
        return self.project_out(self.ids_to_values(ids))

    def from_codes(self, audio_codes: Tensor) -> Tensor:
        """Ids of each codebook (B, K, N) → features (B, N, D), float32.

        Raises:
            ValueError: The ids are of another type, shape or range.
        """
        codes = as_audio_codes(audio_codes, self.num_quantizers, self.codebook_size)
        return self.ids_to_features(self.codebooks_to_ids(codes))

    def latents_to_features(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) without rounding."""
        return self.project_out(self._to_values(self.scale(latents)))

    def straight_through(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → features (…, D) with straight-through gradients.

        The forward value is the quantized one or, in training mode, that of `_in_training`; the gradient is that of the
        unrounded value.
        """
        values = self._to_values(self.scale(latents))
        still = latents.detach()
        seen = self._in_training(still) if self.training else self.ids_to_values(self.latents_to_ids(still))
        return self.project_out(seen + (values - values.detach()))  # exactly `seen`

    def _in_training(self, latents: Tensor) -> Tensor:
        """Latents (…, L) → values (…, L), each element either rounded or moved by uniform noise one level wide.

        With l levels, noise on the level scale is within ±½ for FSQ and ±½·(l − 1)/l for the paper's a + u/l.
        """
        steps = self._steps(latents) ** self.num_quantizers
        scaled = self.scale(latents, steps)
        noise = torch.rand_like(scaled) - 0.5
        if self.quantizer == "super_fsq":
            noise = noise * steps / (steps + 1)
        noised = torch.rand_like(scaled) < self.noise_probability
        return self._to_values(torch.where(noised, scaled + noise, self.round(scaled)), steps)

    def _steps(self, like: Tensor) -> Tensor:
        return torch.tensor([level - 1 for level in self.levels], device=like.device, dtype=torch.float32)

    def _to_values(self, scaled: Tensor, steps: Tensor | None = None) -> Tensor:
        return (2 * scaled / (self._steps(scaled) if steps is None else steps) - 1).float()


class RandomLevelsFSQ(FSQ):
    """FSQ trained with random numbers of levels, so that the levels can be chosen after training (arXiv 2411.19842).

    Args:
        levels: Number of levels of each latent dimension; with several stages, of each stage.
        noise_probability: Share of training items that are moved by uniform noise one step wide (Eq. 2).
        training_levels: Numbers of levels, of which each training item draws one for all its dimensions.
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
        """Latents (B, …, L) → values (B, …, L), each item as a whole either rounded or moved by noise."""
        each = (len(latents), *(1,) * (latents.ndim - 1))
        choices = torch.tensor(self.training_levels, device=latents.device, dtype=torch.float32)
        steps = choices[torch.randint(len(choices), each, device=latents.device)] - 1
        scaled = self.scale(latents, steps)
        noised = torch.rand(each, device=latents.device) < self.noise_probability
        moved = scaled + torch.rand_like(scaled) - 0.5
        return self._to_values(torch.where(noised, moved, self.round(scaled)), steps)
