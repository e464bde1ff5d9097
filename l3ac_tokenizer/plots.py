"""Spectrograms, and common helpers for matplotlib figures.

Axes: T samples, F frequency bins.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

SPECTROGRAM_RANGE_DB = 80.0
"""Range of levels that spectrograms show, down from the loudest."""

WINDOW, HOP = 512, 128
"""Samples of a spectrogram's window, and from one window to the next."""


def spectrogram_db(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Power spectral density (F = 257, frames) of audio (T,) in dB, floored at -120 dB; Hann windows, no padding."""
    audio = np.pad(audio, (0, max(0, WINDOW - audio.size)))
    window = np.hanning(WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / (sampling_rate * (window**2).sum())
    power[:, 1:-1] *= 2  # the negative frequencies
    return 10 * np.log10(np.maximum(power.T, 1e-12))


def spectrogram_image(audio: np.ndarray) -> np.ndarray:
    """Gray levels (F, frames) uint8 of a spectrogram of audio (T,), the loudest white, low frequencies last."""
    decibels = spectrogram_db(audio, 1)
    gray = (decibels - decibels.max()) / SPECTROGRAM_RANGE_DB + 1
    return (gray.clip(0, 1) * 255).astype(np.uint8)[::-1]


def draw_spectrogram(axis: Any, audio: np.ndarray, sampling_rate: int, top: float | None = None) -> Any:
    """Draw a spectrogram of audio (T,) on an axis of matplotlib, in seconds and kHz.

    Args:
        axis: where to draw.
        audio: the clip.
        sampling_rate: its sampling rate in Hz.
        top: the level in dB of the brightest color; None: the loudest of the clip.

    Returns:
        The image of matplotlib.
    """
    decibels = spectrogram_db(audio, sampling_rate)
    top = decibels.max() if top is None else top
    return axis.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=(0, audio.size / sampling_rate, 0, sampling_rate / 2000),
        vmin=top - SPECTROGRAM_RANGE_DB,
        vmax=top,
        cmap="magma",
    )


def open_axis(axis: Any) -> None:
    """Give an axis of matplotlib a faint grid, and no frame at the top and right."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def as_png(figure: Any) -> bytes:
    """A figure of matplotlib as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
