"""The files that an evaluation leaves beside its rows."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

from ..atomic import atomic_write
from .run import Evaluation
from .summary import flat_row, summarize
from .tables import markdown


def write_report(evaluation: Evaluation, output: str | Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write `clips.csv` (and `.parquet`), `summary.json` and `table.md`.

    Returns:
        The summary, and the files by what they are.

    Raises:
        OSError: one cannot be written.
    """
    folder = Path(output)
    summary = summarize(evaluation)
    files = {"clips": folder / "clips.csv", "summary": folder / "summary.json", "table": folder / "table.md"}
    rows = [flat_row(row, evaluation.metrics) for row in evaluation.rows]
    _write(files["clips"], _as_csv(rows))
    if importlib.util.find_spec("pyarrow") is not None and rows:
        files["parquet"] = folder / "clips.parquet"
        _write(files["parquet"], _as_parquet(rows))
    _write(files["summary"], (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode())
    _write(files["table"], markdown(summary).encode())
    return summary, files


def _as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("codec", "dataset", "clip", "failures")
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in rows[0]])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
