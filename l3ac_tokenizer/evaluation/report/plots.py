"""Plots of an evaluation: the rate–distortion chart, after Figure 1 of the L3AC paper, and spectrograms of examples."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...markup import figure_text
from ...plots import as_png, draw_spectrogram, open_axis, spectrogram_db
from ..codecs.base import SCORING_RATE
from .paper_figures import L3AC_FIGURE_1, PaperResult

PANELS = {"stoi": "STOI", "pesq_wb": "PESQ-WB"}
_COLORS = ("#0b6e99", "#c2410c", "#4d7c0f", "#7e22ce", "#b91c1c", "#0f766e", "#a16207", "#1d4ed8")
_PAPER = "#8a8a8a"
_NAMED_BELOW = ("DAC", "WavTokenizer")
_WITHOUT_COST = 5.0
"""Radius in points of codecs whose multiply–accumulates were not counted."""

SHOWN_SECONDS = 5.0
"""Length of longer clips in `draw_spectrograms`."""


def draw_chart(summary: Mapping[str, Any], papers: Sequence[PaperResult] = L3AC_FIGURE_1) -> dict[str, bytes]:
    """Speech quality over bit rate as `{"png": …, "svg": …}`; empty if no codec was measured on speech.

    Filled circles with 95 % intervals were measured here; dashed ones are a paper's, on its data. The radius grows with
    the logarithm of the multiply–accumulates for 10 s: counted in full for measured codecs, as printed for a paper's.
    """
    measured = [
        codec
        for codec in summary["codecs"]
        if codec["unavailable"] is None
        and codec["title"] != "original"
        and codec["domains"].get("speech", {}).get("values", {}).get("stoi", {}).get("mean") is not None
        and codec["domains"]["speech"]["bits_per_second"]["mean"]
    ]
    if not measured:
        return {}
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "svg.hashsalt": "l3ac", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10.5, 5.4), layout="constrained")
        for axis, (metric, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            for name in dict.fromkeys(point.codec for point in papers):
                _draw_paper(axis, [point for point in papers if point.codec == name], metric)
            for codec, color in zip(measured, _COLORS * len(measured), strict=False):
                _draw_measured(axis, codec, metric, color, name_left=_is_just_left_of_another(codec, measured, metric))
            axis.set(xscale="log", xlabel="kb/s", ylabel=title)
            axis.set_xticks(ticks := [0.5, 1, 2, 4, 8, 16], [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
            axis.margins(x=0.12, y=0.12)
            open_axis(axis)
        _draw_legend(figure)
        pictures = {}
        for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
            file = io.BytesIO()
            figure.savefig(file, format=kind, **options)
            pictures[kind] = file.getvalue()
    return pictures


def _radius(gmacs: float | None) -> float:
    """Radius of a codec's circle in points."""
    return _WITHOUT_COST if gmacs is None else 3.0 + 3.5 * math.log10(1 + gmacs)


def _draw_paper(axis: Any, points: Sequence[PaperResult], metric: str) -> None:
    rates, values = [point.kbps for point in points], [getattr(point, metric) for point in points]
    axis.plot(rates, values, color=_PAPER, linewidth=0.7, linestyle=":", zorder=1)
    for point, value in zip(points, values, strict=True):
        size, dashes = 2 * _radius(point.gmacs), (0, (2, 1.5))
        axis.scatter(point.kbps, value, s=size**2, facecolors="none", edgecolors=_PAPER, linestyles=[dashes], zorder=2)
    first, side = points[0], -1 if points[0].codec in _NAMED_BELOW else 1
    axis.annotate(
        first.codec,
        (first.kbps, values[0]),
        xytext=(0, side * (_radius(first.gmacs) + 2)),
        textcoords="offset points",
        ha="center",
        va="bottom" if side > 0 else "top",
        fontsize=7,
        color=_PAPER,
    )


def _place(codec: Mapping[str, Any], metric: str) -> tuple[float, float | None]:
    """Bit rate in kb/s, and mean of the metric."""
    speech = codec["domains"]["speech"]
    return speech["bits_per_second"]["mean"] / 1000, speech["values"][metric]["mean"]


def _is_just_left_of_another(codec: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Whether a name to the right would overlap another codec."""
    rate, mean = _place(codec, metric)
    others = (_place(other, metric) for other in measured if other is not codec)
    return mean is not None and any(
        other is not None and rate < at < 1.5 * rate and abs(other - mean) < 0.05 * mean for at, other in others
    )


def _draw_measured(axis: Any, codec: Mapping[str, Any], metric: str, color: str, name_left: bool) -> None:
    (rate, _), value = _place(codec, metric), codec["domains"]["speech"]["values"][metric]
    if value["mean"] is None:
        return
    gmacs = None if codec["gmacs"] is None else sum(codec["gmacs"].values())
    low, high = value["interval"] or (value["mean"], value["mean"])
    shape = "D" if codec["parameters"] is None else "o"
    axis.errorbar(
        rate,
        value["mean"],
        yerr=[[value["mean"] - low], [high - value["mean"]]],
        fmt=shape,
        markersize=2 * _radius(gmacs) if shape == "o" else 6,
        color=color,
        alpha=0.85,
        capsize=2,
        elinewidth=1,
        zorder=4,
    )
    axis.annotate(
        figure_text(codec["title"]),
        (rate, value["mean"]),
        xytext=((-1 if name_left else 1) * (_radius(gmacs) + 3), 0),
        textcoords="offset points",
        ha="right" if name_left else "left",
        va="center",
        fontsize=8,
        color=color,
        zorder=5,
    )


def _draw_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    def circle(label: str, gmacs: float | None, **style: Any) -> Any:
        shape = "D" if gmacs is None else "o"
        size = 6.0 if gmacs is None else 2 * _radius(gmacs)
        return Line2D([], [], linestyle="none", marker=shape, markersize=size, label=label, **style)

    hollow = {"markerfacecolor": "none", "markeredgecolor": _PAPER}
    figure.legend(
        handles=[
            circle("measured here, 95 % interval", 1, color=_COLORS[0]),
            circle("measured here, not a network", None, color=_COLORS[1]),
            circle("L3AC paper, Fig. 1: its data, its count of cost", 1, **hollow),
            *(circle(f"{gmacs} G MAC for 10 s", gmacs, **hollow) for gmacs in (1, 40, 500)),
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
        labelspacing=2.2,
        columnspacing=3,
        borderpad=1.4,
    )


def draw_spectrograms(rows: Mapping[str, Sequence[np.ndarray | None]], columns: Sequence[str]) -> bytes:
    """Spectrograms as a PNG, a row for each codec and a column for each clip.

    Args:
        rows: title of a codec → clips (T,) at `SCORING_RATE`, one for each column, None if missing; the first row sets
            the scale of each column.
        columns: titles of the clips.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(columns) + 1, 1.6 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex="col", sharey=True)
    shown = round(SHOWN_SECONDS * SCORING_RATE)
    first = next(iter(rows.values()))
    tops = [0.0 if clip is None else spectrogram_db(clip[:shown], SCORING_RATE).max() for clip in first]
    for row, (title, clips) in zip(axes, rows.items(), strict=True):
        for axis, clip, top in zip(row, clips, tops, strict=True):
            if clip is None:
                axis.set_axis_off()
            else:
                draw_spectrogram(axis, clip[:shown], SCORING_RATE, top)
        row[0].set_ylabel(f"{figure_text(title)}\nkHz", fontsize=8)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(figure_text(title), fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8)
    return as_png(figure)
