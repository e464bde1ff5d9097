"""HTML report of an evaluation: players of examples, sortable tables and the chart, in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...listening_page import audio_data_url, listening_page, player, section
from ...markup import html_text
from ..codecs.base import SCORING_RATE
from .standard_table import COLUMNS, Row, standard_cells
from .tables import COUNTED, failure_counts, mean_cell, metric_title

PLAYED_SECONDS = 10.0
"""Length of longer clips on the page, which contains their audio."""


@dataclass(frozen=True)
class Example:
    """A clip to listen to.

    Attributes:
        name: Its name.
        audio: Title of the codec → audio (T,) at `SCORING_RATE`; None if there is none.
    """

    name: str
    audio: Mapping[str, np.ndarray | None]


def make_page(
    summary: Mapping[str, Any], examples: Sequence[Example], chart: bytes | None, standard: Sequence[Row] = ()
) -> str:
    """The page.

    Args:
        summary: result of `summarize_evaluation`.
        examples: clips to listen to.
        chart: an SVG.
        standard: result of `standard_rows`.
    """
    domains = dict.fromkeys(facts["domain"] for facts in summary["datasets"].values())
    sections = [
        section(f"Standard table, {dataset}", _standard_table([row for row in standard if row["dataset"] == dataset]))
        for dataset in dict.fromkeys(row["dataset"] for row in standard)
    ]
    sections += [section(domain.capitalize(), _quality_table(summary, domain)) for domain in domains]
    if chart is not None:
        source = f"data:image/svg+xml;base64,{base64.b64encode(chart).decode()}"
        sections.append(section("Rate and quality", f'<img class="chart" alt="quality over rate" src="{source}">'))
    if examples:
        sections.insert(0, section("Listen", _players(examples)))
    clips = ", ".join(
        f"{name}: {facts['clips']} clips, {facts['seconds'] / 60:.1f} minutes"
        for name, facts in summary["datasets"].items()
    )
    introduction = (
        f"{html_text(clips)}. Means over clips with 95&nbsp;% bootstrap intervals; over several data sets, the mean "
        "of their means. Everything is compared at 16&nbsp;kHz. Click a column to sort by it; hover over a heading for "
        "its source."
    )
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items() if version)
    return listening_page("Codecs compared", introduction, sections, html_text(versions))


def _players(examples: Sequence[Example]) -> str:
    titles = list(dict.fromkeys(title for example in examples for title in example.audio))
    head = "".join(f"<th>{html_text(example.name)}</th>" for example in examples)
    rows = []
    for title in titles:
        cells = "".join(f"<td>{_player(example.audio.get(title))}</td>" for example in examples)
        rows.append(f"<tr><th>{html_text(title)}</th>{cells}</tr>")
    return f'<div class="scroll"><table class="players"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _player(audio: np.ndarray | None) -> str:
    if audio is None:
        return "–"
    return player(audio_data_url(audio[: round(PLAYED_SECONDS * SCORING_RATE)], SCORING_RATE))


def _standard_table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html_text(title)}</th>" for title in ("codec", *(of.title for of in COLUMNS.values())))
    lines = []
    for row in rows:
        name = f'<td class="name">{html_text(row["codec"])}</td>'
        if row["unavailable"] is not None:
            lines.append(_missing_row(name, row["unavailable"], len(COLUMNS)))
            continue
        cells = [
            f"<td>{text}</td>" if row[key] is None else f'<td data-value="{row[key]}">{text}</td>'
            for key, text in zip(COLUMNS, standard_cells(row), strict=True)
        ]
        lines.append(f"<tr>{name}{''.join(cells)}</tr>")
    return _sortable(head, lines)


def _missing_row(name: str, reason: str, columns: int) -> str:
    reason = html_text(f"not available: {reason}")
    return f'<tr class="missing">{name}<td class="note" colspan="{columns}">{reason}</td></tr>'


def _sortable(head: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _quality_table(summary: Mapping[str, Any], domain: str) -> str:
    available = [codec for codec in summary["codecs"] if codec["unavailable"] is None]
    names = [
        name
        for name in summary["metrics"]
        if any(codec["domains"][domain]["values"][name]["count"] for codec in available)
    ]
    metrics = [summary["metrics"][name] for name in names]
    head = "".join(f"<th>{title}</th>" for title in ("codec", "kb/s", "clips"))
    head += "".join(
        f'<th title="{html_text(metric["source"])}">{html_text(metric_title(metric))}</th>' for metric in metrics
    )
    rows = [_quality_row(summary, codec, domain, names) for codec in summary["codecs"]]
    return _sortable(f"{head}<th>{COUNTED}</th>", rows)


def _quality_row(summary: Mapping[str, Any], codec: Mapping[str, Any], domain: str, names: Sequence[str]) -> str:
    cells = [f'<td class="name">{html_text(codec["title"])}</td>']
    if codec["unavailable"] is not None:
        return _missing_row(cells[0], codec["unavailable"], len(names) + 3)
    of = codec["domains"][domain]
    rate = of["bits_per_second"]["mean"]
    cells.append("<td>–</td>" if rate is None else f'<td data-value="{rate}">{rate / 1000:.2f}</td>')
    cells.append(f'<td data-value="{of["clips"]}">{of["clips"]}</td>')
    for name in names:
        mean = of["values"][name]
        value, _, interval = mean_cell(mean, summary["metrics"][name]).partition(" ")
        number = "" if mean["mean"] is None else f' data-value="{mean["mean"]}"'
        cells.append(f"<td{number}>{value}<small>{interval}</small></td>")
    failed = failure_counts(of)
    return f'<tr>{"".join(cells)}<td class="note">{html_text(failed)}</td></tr>'
