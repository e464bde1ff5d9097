"""A manifest as a source: its clips, whole files or segments, with all other columns carried along."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ...listing.columns import COLUMN_NAMES
from ...listing.manifest import ManifestRow, load_manifest
from .audio_folder import FileSource
from .base import RESERVED


def open_manifest(path: str) -> FileSource:
    """The clips that a manifest lists, in its order.

    A clip without an id is named after its path, without suffix, and a segment also after its start: `a@1.5`.

    Raises:
        DataError: a line is damaged or names no audio, or two clips have the same id.
        OSError: the file cannot be read.
    """
    manifest = load_manifest(path, RESERVED)
    types = {
        name: pa.string() if name in COLUMN_NAMES else _type(row.values.get(name) for row in manifest.rows)
        for name in manifest.columns
    }
    has_segments = any(row.is_segment for row in manifest.rows)
    rows = []
    for row in manifest.rows:
        values = {
            name: row.path if name == "path" else _value(row.values[name], types[name]) for name in manifest.columns
        }
        values["id"] = values.get("id") or _default_id(row)
        rows.append(values | {"start": row.start, "seconds": row.seconds} if has_segments else values)
    return FileSource("manifest", manifest.root, rows, types)


def _default_id(row: ManifestRow) -> str:
    name = os.path.splitext(row.path)[0]
    return f"{name}@{row.start}" if row.is_segment else name


def _type(values: Iterable[Any]) -> pa.DataType:
    """The Arrow type of some JSON values; those without a simple one are kept as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    for allowed, arrow in (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())):
        if kinds and kinds <= allowed:
            return arrow
    return pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if kind == pa.string() and not isinstance(value, (str, type(None))):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind == pa.float64() and value is not None else value
