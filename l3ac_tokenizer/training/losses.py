"""Losses, one function per equation. Axes: B batch, T samples, J time steps, M mel bands.

`x` is the reference audio and `y` the generated audio, both (B, T); zero padding inside a batch counts as audio, as in
the published training. "Paper" is arXiv 2504.04949, "TAAE" arXiv 2411.19842.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

PUBLISHED_SCALES = (5, 6, 7, 8, 9, 10)
"""Window lengths 2^i of the published training code."""

PAPER_SCALES = (5, 6, 7, 8, 9, 10, 11)
"""Window lengths 2^i of the paper's Eq. 3, one more than its code has."""

MODULUS_FLOOR = 1e-8


def l1_loss(y: Tensor, x: Tensor) -> Tensor:
    """Element-wise loss: mean |y - x| over all elements."""
    return (y - x).abs().mean()


def cosine_loss(y: Tensor, x: Tensor) -> Tensor:
    """1 - cosine between y and x, mean over the batch; 1 for a silent item.

    Not in the paper. SI-SDR is a function of the same cosine c, 10 log10(c^2 / (1 - c^2)), but infinite at c = 0,
    where training starts. Unlike the element-wise loss, it does not reward silence while the phase is unknown.
    """
    return 1 - torch.nn.functional.cosine_similarity(y, x, dim=-1, eps=1e-4).mean()


def hann_window(length: int, *, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Periodic Hann window (length,), computed in `dtype`: a float32 window would limit float64 gradients."""
    position = torch.arange(length, dtype=dtype, device=device)
    return 0.5 - 0.5 * torch.cos(position * (2 * math.pi / length))


def stft_modulus(audio: Tensor, scale: int) -> Tensor:
    """Modulus of the STFT, window n = 2^scale, hop n / 4, reflection-padded by n / 2: (B, n/2 + 1, frames).

    At a modulus of zero the gradient is zero, as defined by `Tensor.abs` for complex numbers.
    """
    length = 2**scale
    spectrum = torch.stft(
        audio,
        n_fft=length,
        hop_length=length // 4,
        window=hann_window(length, dtype=audio.dtype, device=audio.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return spectrum.abs()


def stft_linear_and_log(y: Tensor, x: Tensor, scale: int, floor: float = MODULUS_FLOOR) -> tuple[Tensor, Tensor]:
    """Both terms of the spectrogram loss (paper Eq. 3) at one scale.

    linear = mean |S(y) - S(x)|; log = mean |log10 S(y)^2 - log10 S(x)^2| with S floored before
    squaring (published: at 1e-8; the gradient of a cell grows with 1 / S).
    """
    modulus_y, modulus_x = stft_modulus(y, scale), stft_modulus(x, scale)
    linear = (modulus_y - modulus_x).abs().mean()
    log = modulus_y.clamp_min(floor).log10() - modulus_x.clamp_min(floor).log10()
    return linear, 2 * log.abs().mean()


def multi_scale_stft_loss(
    y: Tensor, x: Tensor, scales: Sequence[int] = PUBLISHED_SCALES, floor: float = MODULUS_FLOOR
) -> Tensor:
    """Spectrogram loss: mean over the scales of linear + log term (paper Eq. 3)."""
    terms = [torch.stack(stft_linear_and_log(y, x, scale, floor)).sum() for scale in scales]
    return torch.stack(terms).mean()


def stft_l1_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean |S(y) - S(x)|, S the modulus of one STFT of 2048 samples, floored at 1e-4 (TAAE, Eq. 8)."""
    modulus_y, modulus_x = (stft_modulus(audio, 11).clamp_min(1e-4) for audio in (y, x))
    return (modulus_y - modulus_x).abs().mean()


def mel_loss(predicted: Tensor, target: Tensor, bands: int = 80) -> Tensor:
    """L1 of two log-mel spectrograms, concatenated to (B, J, M), plus half the L1 of the first's differences over time.

    The first spectrogram has `bands` bands.
    """
    error = predicted - target
    first, second = error[..., :bands], error[..., bands:]
    return first.abs().mean() + second.abs().mean() + 0.5 * first.diff(dim=1).abs().mean()


SPECTRAL_RESOLUTIONS = ((11, 160, 1e-2), (10, 120, 1e-2), (9, 80, 1e-2), (8, 40, 5e-3), (7, 16, 5e-3))
"""Window length 2^i, mel bands and magnitude floor of each resolution of `spectral_loss`."""

MEL_FLOOR = 1e-4


@functools.cache
def _mel_filters(bins: int, bands: int, sampling_rate: int) -> Tensor:
    """Slaney mel filters (bins, bands) from 0 to half the sampling rate."""
    filters = mel_filter_bank(bins, bands, 0.0, sampling_rate / 2, sampling_rate, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(filters).float()


def spectral_loss(y: Tensor, x: Tensor, sampling_rate: int = 16_000) -> Tensor:
    """Multi-resolution loss on magnitudes, which leaves the phase free.

    The mean over five resolutions of the sum of three terms: L1 of log magnitudes, L1 of log-mel magnitudes, and
    spectral convergence |S(x) - S(y)|_F / |S(x)|_F (Yamamoto et al., arXiv 1910.11480, Eq. 4 and 5). Floors keep
    near-silence from dominating the gradient.
    """
    terms = []
    for scale, bands, floor in SPECTRAL_RESOLUTIONS:
        of_y, of_x = stft_modulus(y, scale), stft_modulus(x, scale)
        terms.append((of_y.clamp_min(floor).log() - of_x.clamp_min(floor).log()).abs().mean())
        filters = _mel_filters(of_x.shape[1], bands, sampling_rate).to(of_x).T
        mel_y, mel_x = ((filters @ modulus).clamp_min(MEL_FLOOR).log() for modulus in (of_y, of_x))
        terms.append((mel_y - mel_x).abs().mean())
        terms.append((of_x - of_y).norm() / of_x.norm().clamp_min(floor))
    return torch.stack(terms).sum() / len(SPECTRAL_RESOLUTIONS)


def clamp_max(loss: Tensor, maximum: float) -> Tensor:
    """Loss-weight clamp (paper Eq. 2): a loss above `maximum` is scaled down to it, its gradient likewise.

    l * (maximum / stop_gradient(|l|)); NaN passes unchanged.
    """
    factor = torch.where(loss >= maximum, maximum / loss.detach().abs(), torch.ones_like(loss))
    return loss * factor


def discriminator_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Least-squares loss of the discriminator (Mao et al., arXiv 1611.04076).

    L_D = sum_k mean(D_k(y)^2) + mean((1 - D_k(x))^2), over the last maps D_k of the sub-discriminators k. `fake`
    and `real` are their feature maps of generated, detached y and of reference x.
    """
    return torch.stack(
        [y[-1].float().square().mean() + (1 - x[-1].float()).square().mean() for y, x in zip(fake, real, strict=True)]
    ).sum()


def adversarial_loss(fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Least-squares loss of the generator: L_adv = sum_k mean((1 - D_k(y))^2) (first part of paper Eq. 6)."""
    return torch.stack([(1 - y[-1].float()).square().mean() for y in fake]).sum()


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """L_fm = sum_k sum_j mean |phi_kj(y) - phi_kj(x)| over all maps phi but the last (second part of paper Eq. 6).

    A sum, not a mean, over the maps; x gets no gradient.
    """
    pairs = [pair for y, x in zip(fake, real, strict=True) for pair in zip(y[:-1], x[:-1], strict=True)]
    return torch.stack([(y.float() - x.detach().float()).abs().mean() for y, x in pairs]).sum()


def hinge_discriminator_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Hinge loss of TAAE's discriminator: mean over k of mean relu(1 - D_k(x)) + mean relu(1 + D_k(y)).

    `fake` and `real` are the feature maps of generated, detached y and of reference x; D_k are the last ones.
    """
    return torch.stack(
        [(1 - x[-1].float()).relu().mean() + (1 + y[-1].float()).relu().mean() for y, x in zip(fake, real, strict=True)]
    ).mean()


def hinge_adversarial_loss(fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Hinge loss of the generator: mean over k of mean -D_k(y). TAAE trains with weight 0 on it."""
    return torch.stack([-y[-1].float().mean() for y in fake]).mean()


def relative_distance(y: Tensor, x: Tensor, floor: float = 0.0) -> Tensor:
    """Mean |x - y| over mean |x| + `floor`, means over all axes; x gets no gradient."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x = x.detach().to(wide)
    return (y.to(wide) - x).abs().mean() / (x.abs().mean() + floor)


def relative_feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Relative L1 distance of all maps but the last, mean over maps and sub-discriminators (TAAE, Eq. 7)."""
    pairs = [pair for y, x in zip(fake, real, strict=True) for pair in zip(y[:-1], x[:-1], strict=True)]
    return torch.stack([relative_distance(y, x, 1e-3) for y, x in pairs]).mean()
