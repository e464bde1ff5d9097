"""Manifests: one line a clip, as JSON lines, CSV or TSV with a header.

Columns are recognised by the names of `sources.KNOWN_NAMES`; the others are carried along. Paths are relative to the
manifest's folder (or to `clips/` in it, as Common Voice has them).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ..tokenization.errors import CorpusError
from ..tokenization.sources.audio_folder import Listing
from ..tokenization.sources.base import KNOWN_NAMES, renamed


def open_manifest(path: str) -> Listing:
    """The clips that a manifest lists, in its order.

    Raises:
        CorpusError: a line is damaged or names no audio, no column does, or two clips have one id.
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8-sig", newline="") as lines:
        try:
            entries = _read_json(lines) if path.lower().endswith(("jsonl", "ndjson")) else _read_table(path, lines)
        except (ValueError, csv.Error) as error:
            raise CorpusError(f"{path} cannot be read as a manifest ({error}): repair it.") from error
    names = renamed(dict.fromkeys(name for line in entries for name in line))
    if "path" not in names.values():
        columns = ", ".join(names) or "none"
        raise CorpusError(
            f"{path} has no column that names the audio ({', '.join(KNOWN_NAMES['path'])}); it has {columns}."
        )
    types = {
        ours: pa.string() if ours in KNOWN_NAMES else _type([line.get(name) for line in entries])
        for name, ours in names.items()
    }
    rows = []
    for number, line in enumerate(entries, 1):
        row = {ours: _value(line.get(name), types[ours]) for name, ours in names.items()}
        row.update({ours: row[ours] or None for ours in KNOWN_NAMES if ours in row})  # nothing written is not known
        if not row["path"]:
            raise CorpusError(f"{path} has no path in entry {number}: give it one, or remove the line.")
        if not row.get("id"):
            row["id"] = os.path.splitext(row["path"])[0]
        rows.append(row)
    return Listing("manifest", _root(path, rows), rows, types)


def _read_json(lines: Iterable[str]) -> list[dict[str, Any]]:
    read = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(value, dict):
                raise ValueError(f"line {number} is no object")
            read.append(value)
    return read


def _read_table(path: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    if path.lower().endswith(".tsv"):
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return list(csv.DictReader(lines))


def _type(values: list[Any]) -> pa.DataType:
    """The Arrow type that holds these values of JSON; what has no simple one is kept as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    for allowed, arrow in (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())):
        if kinds and kinds <= allowed:
            return arrow
    return pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if kind == pa.string() and not isinstance(value, (str, type(None))):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind == pa.float64() and value is not None else value


def _root(manifest: str, rows: list[dict[str, Any]]) -> str:
    folder = os.path.dirname(manifest) or "."
    first = rows[0]["path"] if rows else ""
    clips = os.path.join(folder, "clips")
    if not os.path.exists(os.path.join(folder, first)) and os.path.exists(os.path.join(clips, first)):
        return clips
    return folder
