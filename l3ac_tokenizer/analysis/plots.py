"""Plots of receptive fields and of loss sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..markup import figure_text
from ..plots import as_png, open_axis
from .latency import LatencyAnalysis
from .loss_sensitivity import LossSensitivity, deviation_db
from .receptive_field import ReceptiveField

BINS = 400
"""Number of stretches of time in the plot of a receptive field."""

FLOOR_DB = -120.0
NEAR_MS = 100.0
"""Times are linear up to here, and logarithmic beyond."""

_TITLES = {
    "encoder": "An id of {} depends on these samples",
    "decoder": "These decoded samples of {} depend on an id (frozen time normalization)",
}


def draw_fields(analysis: LatencyAnalysis, fields: Mapping[str, ReceptiveField]) -> bytes:
    """PNG of the receptive fields of `encoder` and `decoder`.

    Shown is the largest derivative in each stretch of time, in dB relative to the maximum, over the time from the id's
    first sample. The id's own samples are shaded; dashed lines mark the first and last dependence.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    for axis, (side, field) in zip(figure.subplots(2, 1), fields.items(), strict=True):
        levels = 20 * np.log10(np.maximum(field.strength.double().cpu().numpy(), 1e-300) / float(field.strength.max()))
        times = 1e3 * (np.arange(len(levels)) + field.first) / analysis.sampling_rate
        edges = _symlog_edges(times[0], times[-1])
        index = np.clip(np.digitize(times, edges) - 1, 0, len(edges) - 2)
        tops = np.full(len(edges) - 1, -np.inf)
        np.maximum.at(tops, index, levels)
        filled = np.isfinite(tops)
        left, right = edges[:-1][filled], edges[1:][filled]
        axis.fill_between(
            np.stack([left, right], axis=1).ravel(),
            FLOOR_DB,
            np.repeat(np.maximum(tops[filled], FLOOR_DB), 2),
            color="#0b6e99",
            linewidth=0,
        )
        touched = times[field.strength.cpu().numpy() > 0]
        for at, align in ((touched[0], "right"), (touched[-1], "left")):
            axis.axvline(at, color="#c2410c", linestyle="--", linewidth=1)
            axis.annotate(
                _time(at),
                (at, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if align == "right" else 4, -4),
                textcoords="offset points",
                ha=align,
                va="top",
                color="#c2410c",
            )
        axis.axvspan(0, 1e3 * analysis.hop_length / analysis.sampling_rate, color="#a16207", alpha=0.3, linewidth=0)
        axis.set_xscale("symlog", linthresh=NEAR_MS)
        low, high = 2.5 * min(times[0], -NEAR_MS), 2.5 * max(times[-1], NEAR_MS)
        ticks = [sign * size for size in (1e4, 1e3, 1e2, 50) for sign in (-1, 1) if low <= sign * size <= high] + [0]
        axis.set_xticks(sorted(ticks), [_time(tick) for tick in sorted(ticks)])
        axis.minorticks_off()
        axis.set(
            xlim=(low, high),
            ylim=(FLOOR_DB, 5),
            ylabel="derivative, dB",
            title=figure_text(_TITLES[side].format(analysis.title)),
        )
        open_axis(axis)
    figure.supxlabel("time from the first sample of the id's frame (shaded)")
    return as_png(figure)


def draw_sensitivity(found: Sequence[LossSensitivity], sampling_rate: int) -> bytes:
    """PNG with the gradient over samples and over bins, in dB relative to its neighborhood, a row for each loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.7 * len(found)), layout="constrained")
    for one, (left, right) in zip(found, figure.subplots(len(found), 2, squeeze=False), strict=True):
        left.plot(deviation_db(one.samples)[:2000], linewidth=0.5, color="#0b6e99")
        left.set_title(figure_text(f"{one.loss}: samples"), fontsize=9)
        frequencies = np.linspace(0, sampling_rate / 2000, len(one.bins))
        right.plot(frequencies, deviation_db(one.bins), linewidth=0.5, color="#0b6e99")
        right.set_title("bins, kHz", fontsize=9)
        for axis in (left, right):
            axis.set_ylim(-12, 12)
            open_axis(axis)
    figure.supylabel("dB relative to the neighborhood")
    return as_png(figure)


def _symlog_edges(first: float, last: float) -> np.ndarray:
    """Edges of stretches of time that are about equally wide on the symlog axis."""

    def scaled(ms: float) -> float:
        return float(np.sign(ms) * (min(abs(ms), NEAR_MS) / NEAR_MS + np.log10(max(abs(ms), NEAR_MS) / NEAR_MS)))

    places = np.linspace(scaled(first), scaled(last), BINS + 1)
    return np.sign(places) * np.where(
        np.abs(places) <= 1, NEAR_MS * np.abs(places), NEAR_MS * 10.0 ** (np.abs(places) - 1)
    )


def _time(ms: float) -> str:
    return f"{ms / 1e3:.3g} s" if abs(ms) >= 1000 else f"{ms:.3g} ms"
