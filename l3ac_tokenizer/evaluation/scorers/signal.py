"""Signal metrics of Codec-SUPERB and TAAE, computed for every clip.

To add one, write a function of reference, estimate and sampling rate, and add a line to `SIGNAL_METRICS`.

Axes: T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ... import metrics
from .base import Metric

SIGNAL_METRICS: Mapping[str, tuple[Metric, Callable[[np.ndarray, np.ndarray, int], float]]] = {
    "stoi": (Metric("STOI", 3, True, "Codec-SUPERB, TAAE; pystoi"), metrics.stoi),
    "pesq_wb": (Metric("PESQ-WB", 2, True, "ITU-T P.862.2; Codec-SUPERB, TAAE"), metrics.pesq),
    "pesq_nb": (Metric("PESQ-NB", 2, True, "ITU-T P.862, P.862.1"), lambda x, y, rate: metrics.pesq(x, y, rate, "nb")),
    "sdr": (Metric("SDR, dB", 2, True, "BSS Eval, 512 taps; Codec-SUPERB"), lambda x, y, _: metrics.sdr(x, y)),
    "superb_mel": (Metric("MEL", 3, False, "Codec-SUPERB"), metrics.superb_mel),
    "si_sdr": (Metric("SI-SDR, dB", 2, True, "TAAE"), lambda x, y, _: metrics.si_sdr(x, y)),
    "mel_distance": (Metric("mel distance", 3, False, "TAAE"), metrics.mel_distance),
    "stft_distance": (Metric("STFT distance", 3, False, "TAAE"), lambda x, y, _: metrics.stft_distance(x, y)),
}
"""Name → presentation, and function of reference (T,), estimate (T,) and sampling rate."""

SPEECH_ONLY = ("stoi", "pesq_wb", "pesq_nb")
"""Metrics of speech, which Codec-SUPERB does not compute for other audio either."""
