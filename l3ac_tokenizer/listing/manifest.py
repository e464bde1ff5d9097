"""Manifests: one clip a line, as JSON lines, CSV or TSV with a header.

| column | meaning |
|---|---|
| `path`, or another name of `COLUMN_NAMES["path"]` | audio file, relative to the manifest's folder or its `clips/` |
| `start`, or NeMo's `offset` | seconds into the file at which the clip begins; 0 where it is missing |
| `seconds`, or NeMo's `duration` beside a start | length of the clip; up to the file's end where it is missing |
| `id`, `text`, `speaker`, `language`, or other names of theirs | see `COLUMN_NAMES` |
| any other | kept under its own name |

A `duration` without a start describes a whole file, as SpeechBrain writes it, and cuts nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..storage import exists
from ..urls import is_url, joined, public_text
from .columns import COLUMN_NAMES, renamed
from .errors import DataError
from .table import read_table, table_columns


class ManifestRow(NamedTuple):
    """One clip of a manifest.

    Attributes:
        line: number of its line.
        path: of the audio, as written.
        start: seconds into the file.
        seconds: length; None: up to the file's end.
        values: all other columns by their names in `Manifest.columns`, as written; None where nothing is.
    """

    line: int
    path: str
    start: float
    seconds: float | None
    values: dict[str, Any]

    @property
    def is_segment(self) -> bool:
        """Whether the row is a part of its file."""
        return self.start > 0 or self.seconds is not None


@dataclass(frozen=True)
class Manifest:
    """The clips that a manifest lists, in its order.

    Attributes:
        root: folder that paths are relative to.
        columns: our names of its columns, without those of the segment.
        rows: the clips.
    """

    root: str
    columns: tuple[str, ...]
    rows: tuple[ManifestRow, ...]


def load_manifest(path: str | os.PathLike[str], reserved: tuple[str, ...] = ()) -> Manifest:
    """Read a manifest; columns called like a `reserved` one are left out.

    Raises:
        DataError: a line is damaged, names no audio, or has a start or length out of range; or no column
            names the audio.
        OSError: the file cannot be read.
    """
    path = os.fspath(path)
    columns = table_columns(path)
    names = renamed(columns, reserved)
    audio = next((name for name, ours in names.items() if ours == "path"), None)
    if audio is None:
        raise DataError(
            f"{public_text(path)} has no column that names the audio ({', '.join(COLUMN_NAMES['path'])}); it has "
            f"{', '.join(columns) or 'none'}."
        )
    name = public_text(path)
    rows = []
    in_use: set[str] = set()
    for line, values in read_table(path):
        audio_path = values.get(audio)
        if not isinstance(audio_path, str) or not audio_path:
            raise DataError(f"{name}, line {line}, has no path: give it one, or remove the line.")
        start, seconds, used = segment_of(values, f"{name}, line {line}")
        in_use.update(used)
        rows.append((line, audio_path, start, seconds, values))
    others = {name: ours for name, ours in names.items() if name not in in_use}
    root = _root(path, rows[0][1] if rows else "")
    return Manifest(
        root,
        tuple(others.values()),
        tuple(
            ManifestRow(
                line,
                audio_path,
                start,
                seconds,
                {ours: _value(ours, values.get(name)) for name, ours in others.items() if ours != "path"},
            )
            for line, audio_path, start, seconds, values in rows
        ),
    )


def segment_of(row: Mapping[str, Any], where: str) -> tuple[float, float | None, tuple[str, ...]]:
    """The part of a file that a row of any manifest means: its start and length in seconds, and their columns.

    Raises:
        DataError: they are not numbers, the start is below 0, or the length not above 0; the message begins `where`.
    """
    start_name = next((name for name in ("start", "offset") if _is_given(row.get(name))), None)
    lengths = ("seconds", "duration") if start_name is not None else ("seconds",)
    length_name = next((name for name in lengths if _is_given(row.get(name))), None)
    try:
        start = 0.0 if start_name is None else float(row[start_name])
        seconds = None if length_name is None else float(row[length_name])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: start and seconds must be numbers ({error}).") from error
    if not 0 <= start < math.inf or not (seconds is None or 0 < seconds < math.inf):
        raise DataError(
            f"{where}: the clip begins at {start:g} s and is {seconds} s long; the start must be at least 0 and the "
            "length above 0."
        )
    return start, seconds, tuple(name for name in (start_name, length_name) if name is not None)


def _is_given(value: Any) -> bool:
    return value is not None and value != ""


def _value(column: str, value: Any) -> Any:
    """A known column without text is unknown; other columns keep what is written."""
    return None if column in COLUMN_NAMES and value == "" else value


def _root(manifest: str, first: str) -> str:
    folder = os.path.dirname(manifest) or "."
    clips = os.path.join(folder, "clips")
    if is_url(first):
        return folder
    if not exists(joined(folder, first)) and exists(joined(clips, first)):
        return clips
    return folder
