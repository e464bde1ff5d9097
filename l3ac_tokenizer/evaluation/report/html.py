"""One HTML file to hear and compare: players of examples, sortable tables, the chart. It needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import soundfile

from ..codecs.base import SCORING_RATE
from .tables import COUNTED, mean_cell

SECONDS = 10.0
"""What is heard of a longer clip: the page carries it."""


@dataclass(frozen=True)
class Example:
    """A clip to hear: its name, and audio (T,) at `SCORING_RATE` by the codec's title; None where there is none."""

    name: str
    audio: Mapping[str, np.ndarray | None]


def make_page(summary: Mapping[str, Any], examples: Sequence[Example], chart: bytes | None) -> str:
    """The page.

    Args:
        summary: of `summarize`.
        examples: clips to hear.
        chart: an SVG.
    """
    domains = dict.fromkeys(facts["domain"] for facts in summary["datasets"].values())
    sections = [_section(domain.capitalize(), _quality_table(summary, domain)) for domain in domains]
    if chart is not None:
        source = f"data:image/svg+xml;base64,{base64.b64encode(chart).decode()}"
        sections.append(_section("Rate and quality", f'<img class="chart" alt="quality over rate" src="{source}">'))
    if examples:
        sections.insert(0, _section("Listen", _players(examples)))
    clips = ", ".join(
        f"{name}: {facts['clips']} clips, {facts['seconds'] / 60:.1f} minutes"
        for name, facts in summary["datasets"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items() if version)
    return Template(_PAGE).substitute(
        clips=html.escape(clips), versions=html.escape(versions), sections="\n".join(sections)
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>\n{body}</section>"


def _players(examples: Sequence[Example]) -> str:
    titles = list(dict.fromkeys(title for example in examples for title in example.audio))
    head = "".join(f"<th>{html.escape(example.name)}</th>" for example in examples)
    rows = []
    for title in titles:
        cells = "".join(f"<td>{_player(example.audio.get(title))}</td>" for example in examples)
        rows.append(f"<tr><th>{html.escape(title)}</th>{cells}</tr>")
    return f'<div class="scroll"><table class="players"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _player(audio: np.ndarray | None) -> str:
    if audio is None:
        return "–"
    file = io.BytesIO()
    soundfile.write(file, audio[: round(SECONDS * SCORING_RATE)], SCORING_RATE, format="FLAC", subtype="PCM_16")
    source = base64.b64encode(file.getvalue()).decode()
    return f'<audio controls preload="metadata" src="data:audio/flac;base64,{source}"></audio>'


def _quality_table(summary: Mapping[str, Any], domain: str) -> str:
    available = [codec for codec in summary["codecs"] if codec["unavailable"] is None]
    names = [
        name
        for name in summary["metrics"]
        if any(codec["domains"][domain]["values"][name]["count"] for codec in available)
    ]
    head = ["codec", "kb/s", "clips"]
    for name in names:
        metric = summary["metrics"][name]
        head.append(f"{metric['title']}\u00a0{'↑' if metric['higher_is_better'] else '↓'}")
    rows = [_quality_row(summary, codec, domain, names) for codec in summary["codecs"]]
    sources = "".join(f'<th title="{html.escape(_source(summary, title))}">{html.escape(title)}</th>' for title in head)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{sources}<th>{COUNTED}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _source(summary: Mapping[str, Any], title: str) -> str:
    found = [metric["source"] for metric in summary["metrics"].values() if title[:-2] == metric["title"]]
    return found[0] if found else ""


def _quality_row(summary: Mapping[str, Any], codec: Mapping[str, Any], domain: str, names: Sequence[str]) -> str:
    cells = [f'<td class="name">{html.escape(codec["title"])}</td>']
    if codec["unavailable"] is not None:
        reason = html.escape(f"not available: {codec['unavailable']}")
        return f'<tr class="missing">{cells[0]}<td class="note" colspan="{len(names) + 3}">{reason}</td></tr>'
    of = codec["domains"][domain]
    rate = of["bits_per_second"]["mean"]
    cells.append("<td>–</td>" if rate is None else f'<td data-value="{rate}">{rate / 1000:.2f}</td>')
    cells.append(f'<td data-value="{of["clips"]}">{of["clips"]}</td>')
    for name in names:
        mean = of["values"][name]
        value, _, interval = mean_cell(mean, summary["metrics"][name]).partition(" ")
        number = "" if mean["mean"] is None else f' data-value="{mean["mean"]}"'
        cells.append(f"<td{number}>{value}<small>{interval}</small></td>")
    failed = ", ".join(f"{title}: {count}" for title, count in of["failed"].items()) or "none"
    return f'<tr>{"".join(cells)}<td class="note">{html.escape(failed)}</td></tr>'


_PAGE = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
