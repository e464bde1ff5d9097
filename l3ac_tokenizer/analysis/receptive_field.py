"""Receptive fields: which samples an id depends on, and which samples an id changes.

Two ways, each exact to the sample:

- *Gradients*, with every maximum of the network replaced by a mean: a maximum passes the gradient of one of its inputs
  only, so that plain gradients see the far end of a window by chance. What is left is what can matter at all.
- *Perturbation* of the network as it is, over many frames: what did matter, the largest of all.

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

from ..modeling import CodecModel, layers
from ..modeling.span import TimeNormMode

FRAMES = 64
"""Frames that are perturbed, each in a row of its own, to find the farthest effect."""

ROWS = 8
"""Perturbed frames that go through the network at once."""


@dataclass(frozen=True)
class Reach:
    """How far something depends on what lies around it.

    Attributes:
        before: Samples of look-back.
        after: Samples of look-ahead.
    """

    before: int
    after: int


@dataclass(frozen=True)
class Field:
    """How much a value depends on each sample, or a sample on a value.

    Attributes:
        first: Position of the first sample of `strength`, counted from the first sample of the id's frame.
        strength: Absolute derivative (T,) by sample.
    """

    first: int
    strength: Tensor


@contextmanager
def means_for_maxima() -> Iterator[None]:
    """Inside, the poolings of all networks take means where they take maxima."""
    maximum = layers.sliding_maximum

    def mean(u: Tensor, kernel: int) -> Tensor:
        return u.unfold(-1, kernel, 1).mean(dim=-1)

    layers.sliding_maximum = mean
    try:
        yield
    finally:
        layers.sliding_maximum = maximum


def noise(samples: int, rows: int = 1, seed: int = 0) -> Tensor:
    """White noise (rows, 1, samples) at a tenth of full scale."""
    return 0.1 * torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed))


@contextmanager
def _in_float64(model: CodecModel) -> Iterator[None]:
    """Inside, the model computes in float64: a derivative through many layers of attention may be below 1e-45."""
    dtype = model.dtype
    model.double()
    try:
        yield
    finally:
        nn.Module.to(model, dtype)


def encoder_field(model: CodecModel) -> Field:
    """How much one latent depends on each sample: the gradient of a random projection of it.

    Where attention has blocks, the frame is the last of one, whose look-back is the longest.
    """
    hop = model.config.hop_length
    frame = _whole_blocks(model, model.encoder.lookback + hop) - 1
    wave = noise((frame + model.encoder_lookahead // hop + 3) * hop).to(model.device).double().requires_grad_()
    with means_for_maxima(), torch.enable_grad(), _in_float64(model):
        latent = model.encode(wave).latents[0, frame]
        (gradient,) = torch.autograd.grad((latent * _direction(latent)).sum(), wave)
    return Field(-frame * hop, gradient[0, 0].abs())


def decoder_field(model: CodecModel, time_norm: TimeNormMode = "frozen") -> Field:
    """How much each decoded sample depends on one latent: the derivative along a random direction.

    Where attention has blocks, the frame is the first of one, which is seen for the longest time.
    """
    config, hop = model.config, model.config.hop_length
    lead = _whole_blocks(model, model.decoder_lookahead)
    generator = torch.Generator().manual_seed(0)
    shape = (1, lead + model.decoder.lookback // hop + 3, len(config.levels))
    latents = torch.randn(shape, generator=generator).to(model.device)
    tangent = torch.zeros_like(latents)
    tangent[0, lead] = _direction(tangent[0, lead])
    # The fused attention of CPUs has no derivative in this direction.
    with (
        means_for_maxima(),
        torch.enable_grad(),
        _in_float64(model),
        sdpa_kernel(SDPBackend.MATH),
        forward_ad.dual_level(),
    ):
        dual = forward_ad.make_dual(latents, tangent)
        derivative = forward_ad.unpack_dual(model.decode(latents=dual, time_norm=time_norm).audio_values).tangent
    return Field(-lead * hop, derivative[0, 0].abs())


def reach_of_id(field: Field, hop: int) -> Reach:
    """Samples before and after an id's own that it depends on."""
    first, last = _ends(field)
    return Reach(-first, last - (hop - 1))


def reach_of_sample(field: Field) -> Reach:
    """How far back and ahead a decoded sample sees, in samples to the first sample of the farthest id."""
    first, last = _ends(field)
    return Reach(last, -first)


@torch.no_grad()
def perturbed_reach_of_id(model: CodecModel, found: Reach, frames: int = FRAMES) -> int:
    """Largest look-ahead at which a changed sample changed a latent, over so many frames.

    In each row the sample `found.after` after another frame gets a click; where no latent of its frame moves, the
    frame's look-ahead is looked for nearer by.
    """
    hop = model.config.hop_length
    context = -(-model.encoder_lookahead // hop) + 2
    farthest = 0
    for start in range(0, frames, ROWS):
        rows = min(ROWS, frames - start)
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
    """Largest look-ahead at which a changed id changed a sample, over so many frames; None: the whole clip."""
    config, hop = model.config, model.config.hop_length
    lead = model.decoder_lookahead // hop + 3
    farthest = 0
    for start in range(0, frames, ROWS):
        generator = torch.Generator().manual_seed(start)
        rows = min(ROWS, frames - start)
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
    """Ids of as many whole spans of attention as are longer than `samples`."""
    span = model.config.attention_span
    return (samples // (span * model.config.hop_length) + 1) * span


def _direction(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).to(like.device, like.dtype)


def _ends(field: Field) -> tuple[int, int]:
    positions = field.strength.nonzero()[:, 0] + field.first
    return int(positions[0]), int(positions[-1])
