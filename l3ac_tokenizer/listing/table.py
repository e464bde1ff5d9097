"""Rows of CSV, TSV and JSON-lines files, each with its line number for messages."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import DataError

JSON_LINES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (*JSON_LINES, ".csv", ".tsv")
"""Suffixes of the files that `read_table` reads, in lower case."""


def read_table(path: str | os.PathLike[str], *needed: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and values of each row, by column; blank lines are skipped.

    A TSV quotes nothing; every suffix that is neither TSV nor JSON lines is read as CSV. A byte-order mark is ignored.

    Args:
        path: of the file.
        needed: columns that must exist and have a value in every row.

    Raises:
        DataError: a line is damaged, or a needed column or value is missing.
        OSError: the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with open(path, newline="", encoding="utf-8-sig") as lines:
        rows = _json_rows(path, lines) if suffix in JSON_LINES else _csv_rows(path, lines, needed)
        try:
            for number, row in rows:
                if empty := [name for name in needed if row.get(name) in (None, "")]:
                    raise DataError(f"{path}, line {number}, has no {empty[0]}: give it one, or remove the line.")
                yield number, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a table ({error}): repair it.") from error


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of all columns: the header of a CSV or TSV, or every key that occurs in JSON lines.

    Raises:
        DataError, OSError: see `read_table`.
    """
    if Path(path).suffix.lower() in JSON_LINES:
        return list(dict.fromkeys(name for _, row in read_table(path) for name in row))
    with open(path, newline="", encoding="utf-8-sig") as lines:
        try:
            return list(_csv_reader(Path(path), lines).fieldnames or [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a table ({error}): repair it.") from error


def _csv_reader(path: Path, lines: Iterable[str]) -> csv.DictReader[str]:
    if path.suffix.lower() == ".tsv":
        return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.DictReader(lines)


def _csv_rows(path: Path, lines: Iterable[str], needed: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _csv_reader(path, lines)
    missing = [name for name in needed if name not in (rows.fieldnames or [])]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; its header is {rows.fieldnames}.")
    for row in rows:
        yield rows.line_num, row


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error}): repair or remove it.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}, is not a JSON object: write one object a line.")
        yield number, row
