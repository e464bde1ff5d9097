"""Signal metrics: quality of decoded audio against its original, each as its source defines it.

Every metric takes two mono clips (T,) of the same length and returns a float. If it is undefined for a clip (PESQ finds
no speech, the clip is too short or silent), it raises [`MetricError`] for the caller to count; no default value stands
in. The libraries that compute the metrics are in the extra `eval`.

STOI, PESQ-WB, SDR and MEL are those of Codec-SUPERB (Wu et al., 2024, arXiv 2402.13071), which the L3AC paper reports;
STOI, PESQ, SI-SDR, mel and STFT distance are those of TAAE (Parker et al., 2024, arXiv 2411.19842, App. D).

Axes: T samples.
"""

from __future__ import annotations

import math
import warnings
from functools import cache

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank


class MetricError(ValueError):
    """The metric is undefined for this clip."""


def stoi(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Short-time objective intelligibility, about 0 (none) to 1, by pystoi.

    Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", 2011.
    Codec-SUPERB uses its own implementation, which resamples to 10 kHz with a different filter.

    Raises:
        MetricError: the reference has fewer than 30 frames (0.4 s) that are not silent.
    """
    from pystoi import stoi as pystoi

    _check_pair(reference, estimate)
    if not reference.any():
        raise MetricError("STOI has no value: the reference is silent.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi only warns, and returns 1e-5
        try:
            return float(pystoi(reference, estimate, sampling_rate))
        except (RuntimeWarning, ValueError) as error:  # ValueError: less than one frame
            raise MetricError("STOI needs 0.4 s of audio that is not silent.") from error


def pesq(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int, band: str = "wb") -> float:
    """Perceptual evaluation of speech quality as MOS-LQO, about 1 (bad) to 4.6, by the package `pesq`.

    ITU-T P.862.2 (`band="wb"`) or P.862 with the mapping of P.862.1 (`"nb"`). Audio at other sampling rates is
    resampled to 16 kHz with soxr.

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
        raise MetricError("PESQ has no value: its result is not a finite number.")
    return value


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB with means removed, by torchmetrics.

    10·log10(‖αs‖² / ‖αs − ŝ‖²), α = ŝᵀs/‖s‖²: Le Roux et al., "SDR – half-baked or well done?", 2019; TAAE's
    SI-SDR. Equal clips give about 150 dB, the limit of float64.

    Raises:
        MetricError: a clip is constant.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    _check_pair(reference, estimate)
    if not (np.ptp(reference) and np.ptp(estimate)):
        raise MetricError("SI-SDR has no value: a clip is silent.")
    return float(scale_invariant_signal_distortion_ratio(_float64(estimate), _float64(reference), zero_mean=True))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-distortion ratio in dB, up to a distortion filter of 512 taps, by torchmetrics.

    Vincent et al., "Performance measurement in blind audio source separation", 2006 (BSS Eval); Codec-SUPERB's SDR,
    there by `mir_eval`. Values are capped at 100 dB, near the limit of float64, where a filter makes the clips equal.

    Raises:
        MetricError: a clip is silent or has fewer than 512 samples, or the filter is not determined (pure tones).
    """
    from torchmetrics.functional.audio import signal_distortion_ratio

    _check_pair(reference, estimate)
    if not (reference.any() and estimate.any()):
        raise MetricError("SDR has no value: a clip is silent.")
    if reference.size < 512:
        raise MetricError(f"SDR needs 512 samples; the clip has {reference.size}.")
    try:
        value = float(signal_distortion_ratio(_float64(estimate), _float64(reference)))
    except RuntimeError as error:  # torch's error for a singular matrix
        raise MetricError("SDR has no value: the distortion filter is not determined.") from error
    if math.isnan(value):  # the coherence of clips that a filter makes equal, rounded past 1
        value = math.inf
    return min(value, 100.0)


def superb_mel(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """Codec-SUPERB's MEL, 0 for equal clips: Σ over two scales of mean |lg M² − lg M̂²| + mean |M − M̂|.

    The mel spectrogram loss of `descript-audiotools` with 150 bands of a window of 2048 samples and 80 of one of 512,
    hops of a quarter: magnitude spectrograms (periodic Hann window, centered, reflected at the ends), mel bands of
    Slaney's scale and area norm up to half the sampling rate, floored at 1e-5 for the logarithm only.

    Raises:
        MetricError: the clip has fewer than 1025 samples.
    """
    _check_pair(reference, estimate)
    if reference.size <= 1024:
        raise MetricError(f"MEL needs 1025 samples; the clip has {reference.size}.")
    loss = 0.0
    for window, bands in ((2048, 150), (512, 80)):
        magnitudes = _spectra(reference, estimate, window, window // 4).abs()
        mel, mel_hat = _mel_filters(sampling_rate, window, bands).T @ magnitudes
        difference = 2 * (mel.clamp(min=1e-5).log10() - mel_hat.clamp(min=1e-5).log10())
        loss += float(difference.abs().mean() + (mel - mel_hat).abs().mean())
    return loss


def mel_distance(reference: np.ndarray, estimate: np.ndarray, sampling_rate: int) -> float:
    """TAAE's mel distance of spectrograms M, 0 for equal clips: mean |ln M − ln M̂| + ‖M − M̂‖ / ‖M‖.

    Frobenius norms; magnitude spectrograms with a Hann window of 2048 samples, FFT of 2048, hop of 256, magnitudes
    floored at 1e-4, 128 mel bands (Slaney's scale and area norm) up to half the sampling rate.

    Raises:
        MetricError: the clip has fewer than 1025 samples, or the reference is silent.
    """
    magnitudes = _floored_magnitudes(reference, estimate, "The mel distance", 256)
    return _spectral_distance(*(_mel_filters(sampling_rate, 2048, 128).T @ magnitudes))


def stft_distance(reference: np.ndarray, estimate: np.ndarray) -> float:
    """TAAE's STFT distance of spectrograms S, 0 for equal clips: mean |ln S − ln Ŝ| + ‖S − Ŝ‖ / ‖S‖.

    As [`mel_distance`] without mel bands and with a hop of 512: `auraloss`'s STFT loss of spectral convergence and
    log magnitude, in float64.

    Raises:
        MetricError: as [`mel_distance`].
    """
    return _spectral_distance(*_floored_magnitudes(reference, estimate, "The STFT distance", 512))


def _spectral_distance(reference: Tensor, estimate: Tensor) -> float:
    convergence = torch.linalg.norm(reference - estimate) / torch.linalg.norm(reference)
    return float((reference.log() - estimate.log()).abs().mean() + convergence)


def _floored_magnitudes(reference: np.ndarray, estimate: np.ndarray, name: str, hop: int) -> Tensor:
    """Magnitudes (2, 1025, frames), 1e-4 at least."""
    _check_pair(reference, estimate)
    if reference.size <= 1024:
        raise MetricError(f"{name} needs 1025 samples; the clip has {reference.size}.")
    if not reference.any():
        raise MetricError(f"{name} has no value: the reference is silent.")
    return _spectra(reference, estimate, 2048, hop).abs().clamp(min=1e-4)


def _spectra(reference: np.ndarray, estimate: np.ndarray, window: int, hop: int) -> Tensor:
    """Complex spectra (2, window / 2 + 1, frames) of both clips, reflected at their ends."""
    return torch.stft(
        torch.stack([_float64(reference), _float64(estimate)]),
        n_fft=window,
        hop_length=hop,
        window=torch.hann_window(window, dtype=torch.float64),
        return_complex=True,
    )


@cache
def _mel_filters(sampling_rate: int, window: int, bands: int) -> Tensor:
    """Weights (window / 2 + 1, bands), float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # bands narrower than a bin stay empty, as in librosa
        filters = mel_filter_bank(
            num_frequency_bins=window // 2 + 1,
            num_mel_filters=bands,
            min_frequency=0.0,
            max_frequency=sampling_rate / 2,
            sampling_rate=sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    return torch.from_numpy(filters).to(torch.float64)


def _check_pair(reference: np.ndarray, estimate: np.ndarray) -> None:
    """Refuse anything but two finite mono clips of one length."""
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise ValueError(
            f"The clips have the shapes {reference.shape} and {estimate.shape}; "
            "give two mono clips (num_samples,) of one length."
        )
    if not (np.isfinite(reference).all() and np.isfinite(estimate).all()):
        raise ValueError("A clip holds NaN or infinite samples; give finite ones.")


def _float64(clip: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(clip, dtype=np.float64))
