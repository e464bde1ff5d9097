"""`ParquetSource`: Parquet files that hold audio or paths to it."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...listing.columns import COLUMN_NAMES, renamed
from ...listing.errors import DataError
from .base import RESERVED, Record

_AUDIO_NAMES = ("audio", "bytes", "wav", "flac", "speech")


class ParquetSource:
    """Rows of Parquet files with the same schema, as `datasets` writes them.

    Audio is a column of file bytes, of paths relative to the Parquet file, or of {bytes, path}.

    Raises:
        DataError: a file is not Parquet, has no column of audio, or another schema than the first.
    """

    kind = "Parquet"

    def __init__(self, files: Sequence[str]) -> None:
        self.files = [os.path.abspath(file) for file in files]
        metadata = [_metadata(file) for file in self.files]
        self._starts = [0, *itertools.accumulate(each.num_rows for each in metadata)]
        self._schema = metadata[0].schema.to_arrow_schema()
        for file, each in zip(self.files, metadata, strict=True):
            if each.schema.to_arrow_schema().names != self._schema.names:
                raise DataError(f"{file} has other columns than {self.files[0]}: give them as two corpora.")
        self._audio = _audio_column(self.files[0], self._schema)
        self._names = renamed((name for name in self._schema.names if name != self._audio), RESERVED)
        self.columns = {
            ours: pa.string() if ours in COLUMN_NAMES else self._schema.field(name).type
            for name, ours in self._names.items()
            if ours not in ("id", "path")
        }
        self._group: tuple[tuple[int, int], pa.Table] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def digest(self) -> str:
        """SHA-256 over the names, sizes and numbers of rows of the files."""
        files = [
            (os.path.basename(file), os.path.getsize(file), start)
            for file, start in zip(self.files, self._starts[1:], strict=True)
        ]
        return hashlib.sha256(json.dumps([files, self._schema.names]).encode()).hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The rows from `start` up to, not including, `stop`, counted over all files."""
        while start < stop:
            number = bisect.bisect_right(self._starts, start) - 1
            first = self._starts[number]
            within = min(stop, self._starts[number + 1]) - first
            for place, row in self._rows(number, start - first, within):
                yield self._record(number, place, row)
            start = first + within

    def _rows(self, number: int, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows `start` to `stop` of one file; the last row group is kept in memory for the range that follows."""
        with pq.ParquetFile(self.files[number]) as file:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                low, high = max(start - first, 0), min(stop - first, rows)
                if low < high:
                    if self._group is None or self._group[0] != (number, group):
                        self._group = None  # freed before the next one is read
                        self._group = (number, group), file.read_row_group(group, [self._audio, *self._names])
                    for place, row in enumerate(self._group[1].slice(low, high - low).to_pylist(), low):
                        yield first + place, row
                first += rows

    def _record(self, number: int, place: int, row: dict[str, Any]) -> Record:
        file = self.files[number]
        audio = row.pop(self._audio)
        columns = {ours: row[name] for name, ours in self._names.items()}
        inner = audio.get("path") if isinstance(audio, dict) else audio if isinstance(audio, str) else None
        data = audio.get("bytes") if isinstance(audio, dict) else audio if isinstance(audio, bytes) else None
        path = columns.pop("path", None) or inner or f"{os.path.basename(file)}:{place}"
        name = columns.pop("id", None)
        if name is None:
            name = os.path.splitext(inner)[0] if inner else f"{os.path.splitext(os.path.basename(file))[0]}:{place}"
        columns = {
            key: str(value) if value is not None and key in COLUMN_NAMES else value for key, value in columns.items()
        }
        opened = data if data is not None else os.path.join(os.path.dirname(file), inner or "")
        error = None if data or inner else f"{path} has no audio in its row: it is null."
        return Record(str(name), opened, path, columns, error)


def _metadata(file: str) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is not a complete Parquet file ({error}): copy or make it again.") from error


def _audio_column(file: str, schema: pa.Schema) -> str:
    """The column of {bytes, path}, of bytes, or of paths; the usual names first."""

    def holds(kind: pa.DataType, name: str) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 or kind.get_field_index("path") >= 0
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return name in COLUMN_NAMES["path"]
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    fitting = [name for name in schema.names if holds(schema.field(name).type, name)]
    for name in (*_AUDIO_NAMES, *COLUMN_NAMES["path"]):
        if name in fitting:
            return name
    if not fitting:
        raise DataError(f"{file} has no column of audio bytes or paths among {', '.join(schema.names)}.")
    return fitting[0]
