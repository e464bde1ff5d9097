"""Quality of decoded audio against its original, and use of the codebook.

Every metric of audio takes two mono clips (T,) of the same length and gives a float. A clip that a metric
has no value for (PESQ finds no speech, too short a clip, silence) raises [`MetricError`], for the caller to
count: no number is made up. The libraries that do the work are in the extra `eval`.

Axes: T samples, N ids, L latent dimensions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from ..quantization import ids_to_digits
from ..usage import Usage, usage


class MetricError(ValueError):
    """A metric is not defined for this clip."""


def stoi(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility, about 0 (none) to 1, of pystoi.

    Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", 2011.

    Raises:
        MetricError: fewer than 30 frames (0.4 s) of the reference are not silent.
    """
    from pystoi import stoi as pystoi

    _check_pair(reference, estimate)
    if not reference.any():
        raise MetricError("STOI has no value: the reference is silent.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns, and returns 1e-5
        try:
            return float(pystoi(reference, estimate, sampling_rate))
        except (RuntimeWarning, ValueError) as error:  # ValueError: not one frame
            raise MetricError("STOI needs 0.4 s of audio that is not silent.") from error


def pesq(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int, band: str = "wb") -> float:
    """Perceptual evaluation of speech quality as MOS-LQO, about 1 (bad) to 4.6, of the package `pesq`.

    ITU-T P.862.2 (`band="wb"`) or P.862 with the mapping of P.862.1 (`"nb"`). Audio of another rate than
    16 kHz is resampled to it with soxr.

    Raises:
        MetricError: PESQ finds no speech, or the clip is shorter than a quarter of a second.
    """
    import soxr
    from pesq import PesqError
    from pesq import pesq as itu_pesq

    _check_pair(reference, estimate)
    if not estimate.any():
        raise MetricError("PESQ has no value: the estimate is silent.")
    if sampling_rate != 16_000:
        reference, estimate = (soxr.resample(clip, sampling_rate, 16_000) for clip in (reference, estimate))
    try:
        value = float(itu_pesq(16_000, reference, estimate, band))
    except PesqError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise MetricError(f"PESQ has no value: {reason}.") from error
    if not math.isfinite(value):
        raise MetricError("PESQ has no value: its result is not a number.")
    return value


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, without removing means, of torchmetrics.

    10·log10(‖αs‖² / ‖αs − ŝ‖²), α = ŝᵀs/‖s‖²: Le Roux et al., "SDR – half-baked or well done?", 2019. Equal
    clips give some 150 dB, the limit of float64.

    Raises:
        MetricError: one of the clips is silent.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    _check_pair(reference, estimate)
    if not (reference.any() and estimate.any()):
        raise MetricError("SI-SDR has no value: a clip is silent.")
    return float(scale_invariant_signal_distortion_ratio(_float64(estimate), _float64(reference)))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-distortion ratio in dB, 10·log10(‖s‖² / ‖s − ŝ‖²), of torchmetrics (as its SNR).

    No distortion is allowed for (BSS Eval's SDR allows a filter of 512 taps). Silence in place of the clip
    has 0 dB; equal clips give some 150 dB, the limit of float64.

    Raises:
        MetricError: the reference is silent.
    """
    from torchmetrics.functional.audio import signal_noise_ratio

    _check_pair(reference, estimate)
    if not reference.any():
        raise MetricError("SDR has no value: the reference is silent.")
    return float(signal_noise_ratio(_float64(estimate), _float64(reference)))


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Distance of mel spectrograms M, 0 for equal clips: mean |ln M − ln M̂| + ‖M − M̂‖ / ‖M‖.

    "Mel distance" of Parker et al., "Scaling Transformers for Low-Bitrate High-Quality Speech Coding"
    (TAAE), 2024, with Frobenius norms: magnitude spectrograms with a Hann window of 2048 samples, FFT of
    2048, hop of 256, magnitudes floored at 1e-4, 128 mel bands (Slaney's scale and area norm) up to half the
    sampling rate.

    Raises:
        MetricError: the clip has fewer than 1025 samples, or the reference is silent.
    """
    _check_pair(reference, estimate)
    if reference.size <= 1024:
        raise MetricError(f"The mel distance needs 1025 samples; the clip has {reference.size}.")
    if not reference.any():
        raise MetricError("The mel distance has no value: the reference is silent.")
    window = torch.hann_window(2048, dtype=torch.float64)
    spectra = torch.stft(
        torch.stack([_float64(reference), _float64(estimate)]),
        n_fft=2048,
        hop_length=256,
        window=window,
        return_complex=True,
    )  # (2, 1025, frames)
    mel, mel_hat = _mel_filters(sampling_rate).T @ spectra.abs().clamp(min=1e-4)
    convergence = torch.linalg.norm(mel - mel_hat) / torch.linalg.norm(mel)
    return float((mel.log() - mel_hat.log()).abs().mean() + convergence)


@cache
def _mel_filters(sampling_rate: int) -> torch.Tensor:
    """Weights (1025 bins, 128 bands), float64."""
    filters = mel_filter_bank(
        num_frequency_bins=1025,
        num_mel_filters=128,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).to(torch.float64)


def codebook_usage(ids: np.ndarray, levels: Sequence[int]) -> tuple[Usage, list[Usage]]:
    """Use of the codebook by ids (N,), and of the levels of each latent dimension (L of them).

    Raises:
        ValueError: see [`usage`].
    """
    whole = usage(ids, math.prod(levels))
    digits = ids_to_digits(torch.from_numpy(np.asarray(ids)), levels).numpy()  # (N, L)
    return whole, [usage(digits[:, dimension], level) for dimension, level in enumerate(levels)]


def _check_pair(reference: np.ndarray, estimate: np.ndarray) -> None:
    """Refuse what is not two finite mono clips of one length."""
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise ValueError(
            f"The clips have the shapes {reference.shape} and {estimate.shape}; "
            "give two mono clips (num_samples,) of one length."
        )
    if not (np.isfinite(reference).all() and np.isfinite(estimate).all()):
        raise ValueError("A clip holds NaN or infinite samples; give finite ones.")


def _float64(clip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(clip, dtype=np.float64))
