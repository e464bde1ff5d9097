"""Rows of CSV, TSV and JSON-lines files, each with its line number for messages."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..parsing import parse_json
from ..storage import suffix_of
from ..urls import is_url, public_text
from .errors import DataError
from .text import read_text

JSON_LINES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (*JSON_LINES, ".csv", ".tsv")
"""Suffixes of the files that `read_table` reads, in lower case."""


def read_table(
    path: str | os.PathLike[str], *needed: str, open_ended: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and values of each row, by column; blank lines are skipped.

    A TSV quotes nothing; every suffix that is neither TSV nor JSON lines is read as CSV.

    Args:
        path: of the file.
        needed: columns that must exist and have a value in every row.
        open_ended: the last column of a CSV or TSV may hold any number of fields, of which the first is read.

    Raises:
        DataError: a line is damaged, or has more or fewer fields than the header, or a needed column or value is
            missing.
        OSError: the file cannot be read.
    """
    text = io.StringIO(read_text(path), newline="")
    name = _shown(path)
    is_json = suffix_of(name) in JSON_LINES
    for number, row in _json_rows(name, text) if is_json else _csv_rows(name, text, needed, open_ended):
        if empty := [column for column in needed if row.get(column) in (None, "")]:
            raise DataError(f"{name}, line {number}, has no {empty[0]}: give it one, or remove the line.")
        yield number, row


def table_columns(path: str | os.PathLike[str]) -> list[str]:
    """Names of all columns: the header of a CSV or TSV, or every key that occurs in JSON lines.

    Raises:
        DataError, OSError: see `read_table`.
    """
    name = _shown(path)
    if suffix_of(name) in JSON_LINES:
        return list(dict.fromkeys(column for _, row in read_table(path) for column in row))
    return _header(name, _csv_reader(name, io.StringIO(read_text(path), newline="")))


def _shown(path: str | os.PathLike[str]) -> str:
    """The name of a table in messages."""
    return public_text(path) if isinstance(path, str) and is_url(path) else str(Path(path))


def _csv_reader(path: str, lines: Iterable[str]) -> csv.DictReader[str]:
    if suffix_of(path) == ".tsv":
        return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.DictReader(lines)


def _header(path: str, rows: csv.DictReader[str]) -> list[str]:
    try:
        return list(rows.fieldnames or [])
    except csv.Error as error:
        raise _not_a_table(path, error) from error


def _csv_rows(
    path: str, lines: Iterable[str], needed: Iterable[str], open_ended: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _csv_reader(path, lines)
    header = _header(path, rows)
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; its header is {header}.")
    try:
        for row in rows:
            extra = row.pop(None, [])
            if not open_ended and (extra or None in row.values()):
                fields = len(header) + len(extra) - list(row.values()).count(None)
                raise DataError(
                    f"{path}, line {rows.line_num}, has {fields} fields and the header has {len(header)}: quote fields "
                    "that contain the delimiter, or complete the line."
                )
            yield rows.line_num, row
    except csv.Error as error:
        raise _not_a_table(path, error) from error


def _not_a_table(path: str, error: csv.Error) -> DataError:
    return DataError(f"{path} cannot be read as a table ({error}): repair it.")


def _json_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}, is not JSON ({error}): repair or remove it.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}, is not a JSON object: write one object a line.")
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except RecursionError as error:
            raise DataError(f"{path}, line {number}, is nested too deeply: repair or remove it.") from error
        except UnicodeEncodeError as error:
            raise DataError(f"{path}, line {number}, has half of a UTF-16 character: repair or remove it.") from error
        yield number, row
