"""The standard table: the measurements that people expect of a codec, one row for each codec, on one data set.

It holds nothing that is not in a summary or in the result of `measure_speed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...markup import markdown_code, markdown_text
from ..cost import MAC_SECONDS
from .tables import Summary, csv_table, short_reason, table

Row = Mapping[str, Any]
"""`dataset`, `codec`, `unavailable` (the reason, or None), and a number or None by name."""


@dataclass(frozen=True)
class Column:
    """A column of the standard table.

    Attributes:
        title: heading, with the unit.
        decimals: decimal places.
        of: name of a second column, shown after `of`: the largest possible value.
    """

    title: str
    decimals: int
    of: str | None = None


METRICS: Mapping[str, Column] = {
    "stoi": Column("STOI ↑", 3),
    "pesq_wb": Column("PESQ-WB ↑", 2),
    "wer": Column("WER, % ↓", 1),
    "utmos": Column("UTMOS ↑", 2),
    "distillmos": Column("DistillMOS ↑", 2),
    "speaker_similarity": Column("speaker similarity ↑", 3),
    "f0_correlation": Column("F0 correlation ↑", 3),
    "voicing_error": Column("voicing error, % ↓", 1),
}
"""Metric of a summary → its column."""

COLUMNS: Mapping[str, Column] = {
    "clips": Column("clips", 0),
    "kbps": Column("kb/s", 2),
    "ids_per_second": Column("ids/s", 2),
    "codebooks": Column("codebooks", 0),
    **METRICS,
    "id_entropy": Column("id entropy, bits a frame", 2, of="id_bits"),
    "rtf_encode": Column("RTF encode", 3),
    "rtf_decode": Column("RTF decode", 3),
    "parameters": Column("parameters, M", 2),
    "gmacs_encode": Column("G MAC/s encode", 2),
    "gmacs_decode": Column("G MAC/s decode", 2),
}
"""Name in `standard.csv` → column, in order."""


@dataclass(frozen=True)
class Standard:
    """Measurements of the standard table that a summary lacks.

    Attributes:
        speed: result of `measure_speed`.
        missing: scorer that could not be opened → reason.
    """

    speed: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict)


def standard_rows(summary: Summary, standard: Standard) -> list[Row]:
    """Rows of all data sets.

    Metrics also have the bounds of their interval and the number of clips with a value, in columns `NAME_low`,
    `NAME_high` and `NAME_count`.
    """
    return [
        {"dataset": dataset, "codec": codec["title"], **_row(summary, codec, dataset, standard.speed)}
        for dataset in summary["datasets"]
        for codec in summary["codecs"]
    ]


def _row(summary: Summary, codec: Mapping[str, Any], dataset: str, speed: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"unavailable": None, **dict.fromkeys(COLUMNS), "id_bits": None}
    row |= {f"{name}_{what}": None for name in METRICS for what in ("low", "high", "count")}
    if codec["unavailable"] is not None:
        return row | {"unavailable": short_reason(codec["unavailable"])}
    of = codec["datasets"][dataset]
    row["clips"] = of["clips"]
    rate = of["bits_per_second"]["mean"]
    row["kbps"] = None if rate is None else rate / 1000
    for name in METRICS.keys() & of["values"].keys():
        mean, scale = of["values"][name], summary["metrics"][name]["scale"]
        row[name] = None if mean["mean"] is None else scale * mean["mean"]
        row[f"{name}_count"] = mean["count"]
        if mean["interval"] is not None:
            row[f"{name}_low"], row[f"{name}_high"] = (scale * bound for bound in mean["interval"])
    if codec["rates"] is not None:
        row["ids_per_second"] = codec["rates"]["tokens_per_second"]
        row["codebooks"] = len(codec["rates"]["codebooks"])
    if of["ids"] is not None:
        row["id_entropy"] = sum(book["entropy"] for book in of["ids"]["codebooks"])
        row["id_bits"] = float(np.log2([book["size"] for book in of["ids"]["codebooks"]]).sum())
    for timed in speed["rows"]:
        if timed["codec"] == codec["name"]:
            row["rtf_encode"], row["rtf_decode"] = timed["encode"], timed["decode"]
    if codec["parameters"] is not None:
        row["parameters"] = codec["parameters"] / 1e6
    if codec["gmacs"] is not None:
        row |= {f"gmacs_{way}": macs / MAC_SECONDS for way, macs in codec["gmacs"].items()}
    return row


def standard_cells(row: Row) -> list[str]:
    """Text of the row's cells, `–` in place of a missing value."""
    return [_cell(row, name, column) for name, column in COLUMNS.items()]


def _cell(row: Row, name: str, column: Column) -> str:
    if row[name] is None:
        return "–"
    text = f"{row[name]:.{column.decimals}f}"
    if column.of is not None:
        return f"{text} of {row[column.of]:.{column.decimals}f}"
    if name in METRICS and row[f"{name}_count"] < row["clips"]:
        return f"{text} ({row[f'{name}_count']})"
    return text


def standard_table(rows: Sequence[Row], dataset: str) -> str:
    """The table of one data set, in Markdown."""
    lines = [[dataset, *(column.title for column in COLUMNS.values())]]
    for row in rows:
        if row["dataset"] == dataset:
            cells = standard_cells(row)
            if row["unavailable"] is not None:
                cells[0] = f"not available: {row['unavailable']}."
            lines.append([row["codec"], *cells])
    return table(lines)


def standard_notes(standard: Standard) -> str:
    """Notes below the table, in Markdown: the method of its columns, and the scorers that are missing."""
    speed = standard.speed
    threads = f"{speed['threads']} thread{'s' if speed['threads'] > 1 else ''}"
    notes = [
        "Means over clips; `standard.csv` has their 95 % bootstrap intervals. In parentheses: the number "
        "of clips with a value (a transcript, an F0), where not all have one. F0 correlation is over the frames voiced "
        "in both clips: read it beside the voicing error.",
        "Id entropy: the entropies of single ids, summed over the codebooks, of the largest possible; it is biased low "
        "unless there are far more ids than codebook entries.",
        f"RTF: seconds of computation per second of audio, for {speed['seconds']:g} s of noise on {threads} of the "
        f"CPU, medians of {speed['rounds']} interleaved rounds.",
        "MAC: matrix products and convolutions per second of audio; a multiply and an add count as one.",
    ]
    notes += [
        markdown_text(f"{name} is not available: {short_reason(reason)}.") for name, reason in standard.missing.items()
    ]
    return " ".join(notes)


def standard_report(
    rows: Sequence[Row],
    standard: Standard,
    weights: Mapping[str, str],
    about: Mapping[str, str],
    page: Path,
    command: str,
) -> dict[Path, bytes]:
    """The page of several data sets and its CSV, by path.

    Args:
        rows: results of `standard_rows`.
        standard: see `Standard`.
        weights: codec that the page is about → digest of its weights.
        about: data set → what it holds, in Markdown, in the order of the page.
        page: path of the page.
        command: the command that writes the page.
    """
    named = [f"{markdown_code(title)} (weights digest `{digest}`)" for title, digest in weights.items()]
    parts = [
        "# The standard table",
        f"What `l3ac evaluate --standard` measures of {', '.join(named)}, classical codecs, and the neural codecs that "
        f"people compare with where they could be had. Generated by `{command}`.",
    ]
    for dataset, text in about.items():
        parts += [f"## {markdown_text(dataset[:1].upper() + dataset[1:])}", text, standard_table(rows, dataset)]
    quiet = "For speed beside other codecs on a quiet machine, see [speed.md](speed.md)."
    parts += ["## How it was measured", f"{standard_notes(standard)} {quiet}"]
    return {page: ("\n\n".join(parts) + "\n").encode(), page.with_suffix(".csv"): csv_table(rows)}


def standard_page(rows: Sequence[Row], standard: Standard) -> str:
    """Content of `standard.md`: a table for each data set, and the notes."""
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    return "\n\n".join([*(standard_table(rows, dataset) for dataset in datasets), standard_notes(standard)]) + "\n"
