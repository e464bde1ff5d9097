"""A manifest as a source: its clips, whole files or segments, with all other columns carried along."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ...listing.columns import COLUMN_NAMES
from ...listing.errors import DataError
from ...listing.manifest import ManifestRow, load_manifest
from ...names import common_folder, public_path
from ...urls import absolute, public_text
from .audio_folder import FileSource
from .base import RESERVED


def open_manifest(path: str, *, allow_outside: bool = False) -> FileSource:
    """The clips that a manifest lists, in its order.

    A clip without an id is named after its path, without suffix unless two paths differ in that alone, and a segment
    also after its start: `a@1.5`. Of absolute paths, what follows the folder of the manifest counts, or else the folder
    that they have in common. Files outside the folder of the manifest are read with `allow_outside` only.

    Raises:
        DataError: a line is damaged or names no audio, or two clips have the same id.
        OSError: the file cannot be read.
    """
    manifest = load_manifest(path, RESERVED)
    if not manifest.rows:
        raise DataError(f"{public_text(path)} lists no clips: add some, one a line.")
    types = {
        name: pa.string() if name in COLUMN_NAMES else _type(row.values.get(name) for row in manifest.rows)
        for name in manifest.columns
    }
    has_segments = any(row.is_segment for row in manifest.rows)
    root = absolute(manifest.root)
    common = common_folder((row.path for row in manifest.rows), root)
    shown = {row.path: public_path(row.path, root, common) for row in manifest.rows}
    stems: dict[str, set[str]] = defaultdict(set)
    for name in shown.values():
        stems[os.path.splitext(name)[0]].add(name)
    rows = []
    for row in manifest.rows:
        values = {
            name: row.path if name == "path" else _value(row.values[name], types[name]) for name in manifest.columns
        }
        given = row.values.get("id")
        values["id"] = given if isinstance(given, str) and given else values.get("id") or _default_id(row, shown, stems)
        rows.append(values | {"start": row.start, "seconds": row.seconds} if has_segments else values)
    return FileSource("manifest", manifest.root, rows, types, allow_outside=allow_outside)


def _default_id(row: ManifestRow, shown: Mapping[str, str], stems: Mapping[str, set[str]]) -> str:
    stem = os.path.splitext(shown[row.path])[0]
    name = stem if len(stems[stem]) == 1 else shown[row.path]
    return f"{name}@{row.start}" if row.is_segment else name


def _type(values: Iterable[Any]) -> pa.DataType:
    """The Arrow type that holds some JSON values exactly; without a simple one, they are kept as JSON text."""
    values = [value for value in values if value is not None]
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return pa.bool_()
    integers = [value for value in values if type(value) is int]
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in integers):
        return pa.int64()
    if kinds in ({float}, {int, float}) and all(abs(value) <= 2**53 for value in integers):
        return pa.float64()
    return pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if kind == pa.string() and value is not None:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()  # Arrow has no lone surrogates, which JSON may have
    return float(value) if kind == pa.float64() and value is not None else value
