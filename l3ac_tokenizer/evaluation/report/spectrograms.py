"""Spectrograms of the examples, a row a codec and a column a clip. Axes: T samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...plots import as_png
from ..codecs.base import SCORING_RATE

SECONDS = 5.0
"""What is shown of a longer clip."""
RANGE_DB = 80.0


def draw_spectrograms(rows: Mapping[str, Sequence[np.ndarray | None]], columns: Sequence[str]) -> bytes:
    """A PNG.

    Args:
        rows: title → clips (T,) at `SCORING_RATE`, one a column, or None where there is none; the first row sets the
            scale of each column.
        columns: titles.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(columns) + 1, 1.6 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col", sharey=True)
    tops = [_decibels(clip).max() if clip is not None else 0.0 for clip in next(iter(rows.values()))]
    for row, (title, clips) in zip(axes, rows.items(), strict=True):
        for axis, clip, top in zip(row, clips, tops, strict=True):
            if clip is None:
                axis.set_axis_off()
                continue
            seconds = min(SECONDS, clip.size / SCORING_RATE)
            axis.imshow(
                _decibels(clip),
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, SCORING_RATE / 2000),
                vmin=top - RANGE_DB,
                vmax=top,
                cmap="magma",
            )
        row[0].set_ylabel(f"{title}\nkHz", fontsize=8)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8)
    return as_png(figure)


def _decibels(clip: np.ndarray) -> np.ndarray:
    """Power (257, frames) in dB, windows of 32 ms every 8 ms."""
    from matplotlib.mlab import specgram

    clip = clip[: round(SECONDS * SCORING_RATE)]
    clip = np.pad(clip, (0, max(0, 640 - clip.size)))
    return 10 * np.log10(np.maximum(specgram(clip, NFFT=512, Fs=SCORING_RATE, noverlap=384)[0], 1e-12))
