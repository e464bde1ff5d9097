"""Receptive fields: the samples that an id depends on, and the samples that an id changes.

Both are measured in two ways, each exact to the sample:

- *Gradients*, with every maximum of the network replaced by a mean. A maximum passes a gradient to one of its inputs
  only, so plain gradients reach the far end of a window by chance. Means give every sample that can have an effect.
- *Perturbation* of the unchanged network, over many frames: the largest effect observed.

Axes: B batch, T samples, N ids, L latent dimensions. Times are in samples unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..modeling import CodecModel
from ..modeling.layers import means_for_maxima
from ..modeling.span import TimeNormMode

FRAMES = 64
"""Number of frames that are perturbed, each in a row of its own."""

PERTURBED_ROWS = 8
"""Number of perturbed frames in one batch."""


@dataclass(frozen=True)
class Reach:
    """Look-back and look-ahead.

    Attributes:
        before: Look-back in samples.
        after: Look-ahead in samples.
    """

    before: int
    after: int


@dataclass(frozen=True)
class ReceptiveField:
    """Dependence of a latent on each sample, or of each sample on a latent.

    Attributes:
        first: Position of the first sample of `strength`, relative to the first sample of the id's frame.
        strength: Absolute derivative (T,) for each sample.
    """

    first: int
    strength: Tensor


def noise(samples: int, rows: int = 1, seed: int = 0) -> Tensor:
    """White noise (rows, 1, samples) at a tenth of full scale."""
    return 0.1 * torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _in_float64(model: CodecModel) -> Iterator[None]:
    """Context in which the model computes in float64: derivatives through attention layers may be below 1e-45."""
    dtype = model.dtype
    model.double()
    try:
        yield
    finally:
        nn.Module.to(model, dtype)


def encoder_field(model: CodecModel) -> ReceptiveField:
    """Dependence of one latent on each sample: the gradient of a random projection of the latent.

    For blockwise attention, the frame is the last of a block, whose look-back is the longest.
    """
    hop = model.config.hop_length
    frame = _whole_blocks(model, model.encoder.lookback + hop) - 1
    wave = noise((frame + model.encoder_lookahead // hop + 3) * hop).to(model.device).double().requires_grad_()
    with means_for_maxima(), torch.enable_grad(), _in_float64(model):
        latent = model.encode(wave).latents[0, frame]
        (gradient,) = torch.autograd.grad((latent * _direction(latent)).sum(), wave)
    return ReceptiveField(-frame * hop, gradient[0, 0].abs())


def decoder_field(model: CodecModel, time_norm: TimeNormMode = "frozen") -> ReceptiveField:
    """Dependence of each decoded sample on one latent: the derivative along a random direction.

    For blockwise attention, the frame is the first of a block, which is attended to the longest.
    """
    config, hop = model.config, model.config.hop_length
    lead = _whole_blocks(model, model.decoder_lookahead)
    generator = torch.Generator().manual_seed(0)
    shape = (1, lead + model.decoder.lookback // hop + 3, len(config.levels))
    latents = torch.randn(shape, generator=generator).to(model.device)
    tangent = torch.zeros_like(latents)
    tangent[0, lead] = _direction(tangent[0, lead])
    # Fused CPU attention does not support forward-mode differentiation.
    with (
        means_for_maxima(),
        torch.enable_grad(),
        _in_float64(model),
        sdpa_kernel(SDPBackend.MATH),
        forward_ad.dual_level(),
    ):
        dual = forward_ad.make_dual(latents, tangent)
        derivative = forward_ad.unpack_dual(model.decode(latents=dual, time_norm=time_norm).audio_values).tangent
    return ReceptiveField(-lead * hop, derivative[0, 0].abs())


def reach_of_id(field: ReceptiveField, hop: int) -> Reach:
    """Look-back and look-ahead of an id: the samples that it depends on before and after its own frame."""
    first, last = _ends(field)
    return Reach(-first, last - (hop - 1))


def reach_of_sample(field: ReceptiveField) -> Reach:
    """Look-back and look-ahead of a decoded sample, in samples to the first sample of the farthest id."""
    first, last = _ends(field)
    return Reach(last, -first)


@torch.no_grad()
def perturbed_reach_of_id(model: CodecModel, found: Reach, frames: int = FRAMES) -> int:
    """Largest look-ahead at which a changed sample changed a latent, over this many frames.

    In each row, a click is added `found.after` samples after a frame; if the frame's latent does not change, the click
    is moved closer.
    """
    hop = model.config.hop_length
    context = -(-model.encoder_lookahead // hop) + 2
    farthest = 0
    for start in range(0, frames, PERTURBED_ROWS):
        rows = min(PERTURBED_ROWS, frames - start)
        wave = noise((2 * context + 8) * hop, rows, seed=start).to(model.device, model.dtype)
        before = model.encode(wave).latents
        for after in (found.after + 1, found.after, found.after - 1, found.after // 2):
            changed = wave.clone()
            changed[:, 0, (context + 1) * hop - 1 + after] += 1.0
            if bool((model.encode(changed).latents[:, context] != before[:, context]).any()):
                farthest = max(farthest, after)
                break
    return farthest


@torch.no_grad()
def perturbed_reach_of_sample(model: CodecModel, time_norm: TimeNormMode, frames: int = FRAMES) -> int | None:
    """Largest look-ahead at which a changed id changed a sample, over this many frames; None: the whole clip."""
    config, hop = model.config, model.config.hop_length
    lead = model.decoder_lookahead // hop + 3
    farthest = 0
    for start in range(0, frames, PERTURBED_ROWS):
        generator = torch.Generator().manual_seed(start)
        rows = min(PERTURBED_ROWS, frames - start)
        ids = torch.randint(config.codebook_size, (rows, 1, lead + 2), generator=generator).to(model.device)
        changed = ids.clone()
        other = torch.randint(1, config.codebook_size, (rows,), generator=generator).to(model.device)
        changed[:, 0, lead] = (ids[:, 0, lead] + other) % config.codebook_size
        waves = [model.decode(codes, time_norm=time_norm).audio_values[:, 0] for codes in (ids, changed)]
        moved = (waves[0] != waves[1]).any(dim=0).nonzero()
        if len(moved):
            farthest = max(farthest, lead * hop - int(moved[0]))
    return None if farthest >= lead * hop else farthest


def _whole_blocks(model: CodecModel, samples: int) -> int:
    """Number of ids in the fewest whole attention spans that are longer than `samples`."""
    span = model.config.attention_span
    return (samples // (span * model.config.hop_length) + 1) * span


def _direction(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).to(like.device, like.dtype)


def _ends(field: ReceptiveField) -> tuple[int, int]:
    positions = field.strength.nonzero()[:, 0] + field.first
    return int(positions[0]), int(positions[-1])
