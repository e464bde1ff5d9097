"""Result files of an evaluation: rows, summary, tables, plots and a page to listen."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ...files import atomic_write
from ..run import EXAMPLES, Evaluation, audio_path
from ..summary import flat_row, summarize_evaluation
from .html import Example, make_page
from .plots import draw_chart, draw_spectrograms
from .standard_table import Standard, standard_page, standard_rows
from .tables import cost_table, csv_table, summary_tables

MOST_EXAMPLES = 4
"""Maximum number of clips on the page and among the spectrograms."""


def write_report(
    evaluation: Evaluation, output: str | Path, standard: Standard | None = None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write `clips.csv` (and `.parquet`), `summary.json`, `table.md`, `index.html`, and with matplotlib plots.

    `index.html` contains players of examples, tables and the chart; `chart.png` and `.svg` need speech,
    `spectrograms.png` needs examples. With `standard`, also the standard table: `standard.md`, `.csv` and `.json`, and
    as the first table of the page.

    Returns:
        The summary, and the paths of the files by name.

    Raises:
        OSError: a file cannot be written.
    """
    folder = Path(output)
    summary = summarize_evaluation(evaluation)
    rows = [flat_row(row, evaluation.metrics) for row in evaluation.rows]
    contents = {"clips.csv": csv_table(rows), "table.md": summary_tables(summary).encode()}
    contents["summary.json"] = (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode()
    if importlib.util.find_spec("pyarrow") is not None and rows:
        contents["clips.parquet"] = _as_parquet(rows)
    examples = _examples(evaluation, folder)
    charts: dict[str, bytes] = {}
    if importlib.util.find_spec("matplotlib") is not None:
        charts = draw_chart(summary)
        contents |= {f"chart.{kind}": picture for kind, picture in charts.items()}
        if examples:
            titles = list(examples[0].audio)
            grid = {title: [example.audio[title] for example in examples] for title in titles}
            contents["spectrograms.png"] = draw_spectrograms(grid, [example.name for example in examples])
    standard_table = [] if standard is None else standard_rows(summary, standard)
    if standard is not None:
        contents["standard.md"] = standard_page(standard_table, standard).encode()
        contents["standard.csv"] = csv_table(standard_table)
        contents["standard.json"] = (json.dumps(standard_table, indent=1, ensure_ascii=False) + "\n").encode()
    contents["index.html"] = make_page(summary, examples, charts.get("svg"), standard_table).encode()
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    return summary, {name: folder / name for name in contents}


def write_cost(cost: Mapping[str, Any], output: str | Path) -> dict[str, Path]:
    """Write `cost.json` and `cost.md`; returns their paths by name.

    Raises:
        OSError: a file cannot be written.
    """
    contents = {"cost.json": json.dumps(cost, indent=1) + "\n", "cost.md": cost_table(cost) + "\n"}
    for name, content in contents.items():
        with atomic_write(Path(output, name)) as file:
            file.write(content.encode())
    return {name: Path(output, name) for name in contents}


def _examples(evaluation: Evaluation, folder: Path) -> list[Example]:
    """Clips whose audio was kept, of all data sets, each with the original first."""
    chosen = []
    for clip in evaluation.data.spread(EXAMPLES):
        audio: dict[str, np.ndarray | None] = {"original": _read(audio_path(folder, "original", clip))}
        for codec in evaluation.codecs:
            if codec.unavailable is None:
                audio[codec.title] = _read(audio_path(folder, codec.name, clip))
        if audio["original"] is not None:
            chosen.append(Example(clip.key, audio))
    return chosen[:: -(-len(chosen) // MOST_EXAMPLES)] if chosen else []


def _read(path: Path) -> np.ndarray | None:
    return soundfile.read(path, dtype="float32")[0] if path.exists() else None


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("codec", "dataset", "clip", "failures")
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in rows[0]])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()
