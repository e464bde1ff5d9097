"""`ParquetSource`: Parquet files that hold audio or paths to it."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...limits import CLIP_BYTES, NAME_CHARACTERS
from ...listing.columns import COLUMN_NAMES, renamed
from ...listing.errors import DataError
from ...names import OutsideError, file_within, public_path
from ...storage import StorageError, read_bytes, size_of
from ...urls import absolute, is_url, joined, public_text, without_query
from ..parquet_files import column_values, open_parquet
from .base import RESERVED, Record
from .ids import file_names, unique_ids

_ROWS_AT_ONCE = 16

_AUDIO_NAMES = ("audio", "bytes", "wav", "flac", "speech")


class ParquetSource:
    """Rows of Parquet files with the same columns, as `datasets` writes them.

    Audio is a column of file bytes, of paths relative to the Parquet file, or of {bytes, path}. Types that differ from
    file to file become one that holds the values of all (integers and floats, a column of nulls and one of text). Ids
    are a column of ids, or else the names of the audio, or else `FILE:ROW`, see `unique_ids`.

    Args:
        files: paths or URLs.
        remarks: see `Source`.
        root: folder that audio is read within; None: that of the first file.
        allow_outside: also read audio outside `root`; without it such rows are failures.

    Raises:
        DataError: a file is not Parquet, has no column of audio, or other columns or types than the first.
    """

    kind = "Parquet"

    def __init__(
        self, files: Sequence[str], remarks: Sequence[str] = (), root: str | None = None, *, allow_outside: bool = False
    ) -> None:
        self.files = [absolute(file) for file in files]
        self._file_names = file_names(self.files)
        self._root = os.path.dirname(self.files[0]) if root is None else absolute(root)
        self._allow_outside = allow_outside
        metadata = [_metadata(file) for file in self.files]
        self._starts = [0, *itertools.accumulate(each.num_rows for each in metadata)]
        self._group_rows = [
            [each.row_group(group).num_rows for group in range(each.num_row_groups)] for each in metadata
        ]
        self._group_bytes = [
            each.row_group(group).total_byte_size for each in metadata for group in range(each.num_row_groups)
        ]
        self._schema = _common_schema(self.files, [each.schema.to_arrow_schema() for each in metadata])
        audio = audio_column(self._schema)
        if audio is None:
            raise DataError(
                f"{public_text(self.files[0])} has no column of audio bytes or paths among {_listed(self._schema)}."
            )
        self._audio = audio
        self._names = renamed((name for name in self._schema.names if name != self._audio), RESERVED)
        self.columns = {
            ours: pa.string() if ours in COLUMN_NAMES else self._schema.field(name).type
            for name, ours in self._names.items()
            if ours not in ("id", "path")
        }
        self._ids, renames = self._unique_ids()
        self.remarks = [*remarks, *renames]
        self._read: _GroupReader | None = None

    def _own_ids(self) -> Iterator[tuple[str, str]]:
        """File and own id of every row; of the files, only what ids are made of is read."""
        column = next((name for name, ours in self._names.items() if ours == "id"), None)
        audio = self._schema.field(self._audio).type
        if column is None and pa.types.is_struct(audio) and audio.get_field_index("path") >= 0:
            column = f"{self._audio}.path"
        elif column is None and _is_text(audio):
            column = self._audio
        for number, (start, stop) in enumerate(itertools.pairwise(self._starts)):
            values = (
                itertools.repeat(None, stop - start) if column is None else column_values(self.files[number], column)
            )
            for place, value in enumerate(values):
                yield self._file_names[number], self._own_id(number, place, value)

    def _own_id(self, number: int, place: int, value: Any) -> str:
        """The id of a row from its column of ids, or from the path of its audio where there is none."""
        if value is None or len(str(value)) > NAME_CHARACTERS.value:
            return f"{self._file_names[number]}:{place}"
        if "id" in self._names.values():
            return str(value)
        return os.path.splitext(public_path(value, self._root))[0]

    def _unique_ids(self) -> tuple[pa.Array | None, list[str]]:
        """The ids of all rows, where their own repeat; None where these are unique, which their hashes tell."""
        hashes = np.fromiter((hash(name) for _, name in self._own_ids()), np.int64)
        if len(np.unique(hashes)) == len(hashes):
            return None, []
        files, names = zip(*self._own_ids(), strict=True)
        ids, remarks = unique_ids(names, files)
        return pa.array(ids, type=pa.large_string()), remarks

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}

    def sizes(self) -> np.ndarray | None:
        """Bytes of the rows, the mean of their row group; None where the files hold paths."""
        if _is_text(self._schema.field(self._audio).type):
            return None
        rows = np.array([count for groups in self._group_rows for count in groups], dtype=np.int64)
        return np.repeat(np.array(self._group_bytes, dtype=np.int64) // np.maximum(rows, 1), rows)

    def digest(self) -> str:
        """SHA-256 over the names, sizes and numbers of rows of the files."""
        files = [
            (os.path.basename(without_query(file)), size_of(file), start)
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
        """Rows `start` to `stop` of one file; what is read of a row group is continued by the range that follows."""
        first = 0
        for group, rows in enumerate(self._group_rows[number]):
            low, high = max(start - first, 0), min(stop - first, rows)
            if low < high:
                if self._read is None or self._read.place != (number, group) or self._read.row > low:
                    self._read = None  # closed before the next one is opened
                    self._read = _GroupReader(self.files[number], (number, group), [self._audio, *self._names])
                for place, row in enumerate(self._read.rows(low, high), low):
                    yield first + place, row
            first += rows

    def _record(self, number: int, place: int, row: dict[str, Any]) -> Record:
        file = self.files[number]
        audio = row.pop(self._audio)
        columns = {ours: row[name] for name, ours in self._names.items()}
        inner = audio.get("path") if isinstance(audio, dict) else audio if isinstance(audio, str) else None
        data = audio.get("bytes") if isinstance(audio, dict) else audio if isinstance(audio, bytes) else None
        path = str(columns.pop("path", None) or inner or f"{os.path.basename(without_query(file))}:{place}")
        given = columns.pop("id", None)
        if self._ids is not None:
            name = self._ids[self._starts[number] + place].as_py()
        else:
            name = self._own_id(number, place, given if "id" in self._names.values() else inner)
        error = None if data or inner else f"{path} has no audio in its row: it is null."
        for label in filter(None, (given, inner)):
            NAME_CHARACTERS.check(len(str(label)), f"{name} has a name of {len(str(label)):,} characters", DataError)
        for key, value in columns.items():
            if value is not None and key in COLUMN_NAMES:
                columns[key] = str(value)
            elif type(value) is int and pa.types.is_floating(self.columns[key]) and int(float(value)) != value:
                error = f"{path} has {value} in the column {key}, too large beside fractions: store it as text."
        if data is None and error is None:
            try:
                data = file_within(
                    joined(os.path.dirname(file), inner or ""), self._root, allow_outside=self._allow_outside
                )
                data = read_bytes(data, CLIP_BYTES) if is_url(data) else data
            except StorageError:
                raise
            except (OutsideError, OSError, ValueError) as failed:
                error = str(failed)
        return Record(name, b"" if data is None else data, public_path(path, self._root), columns, error)


class _GroupReader:
    """Rows of one row group, decoded a few at a time: one value may stand in many rows, and take memory in each.

    Attributes:
        place: numbers of the file and the row group.
        row: the next row.
    """

    def __init__(self, path: str, place: tuple[int, int], columns: Sequence[str]) -> None:
        self.place = place
        self.row = 0
        self._file = open_parquet(path)
        self._batches = self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[place[1]], columns=list(columns))
        self._batch: pa.RecordBatch | None = None
        self._first = 0

    def rows(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """The rows from `start`, not before `row`, up to `stop`; those between are passed over."""
        for row in range(start, stop):
            while self._batch is None or row >= self._first + self._batch.num_rows:
                self._first += 0 if self._batch is None else self._batch.num_rows
                self._batch = None
                self._batch = next(self._batches, None)
                if self._batch is None:
                    raise DataError(f"its row group {self.place[1]} ends at row {row}: make the file again.")
            self.row = row
            yield self._batch.slice(row - self._first, 1).to_pylist()[0]


def read_schema(file: str) -> pa.Schema:
    """The columns of a Parquet file.

    Raises:
        DataError: it is not one.
    """
    return _metadata(file).schema.to_arrow_schema()


def lists_paths(schema: pa.Schema) -> bool:
    """Whether the column of audio has paths, not the audio itself."""
    column = audio_column(schema)
    return column is not None and _is_text(schema.field(column).type)


def unlisted(schemas: Mapping[str, pa.Schema], paths: Sequence[str]) -> list[str]:
    """Those of some audio files that no Parquet file of paths lists, given the columns of these by their files."""
    listed = {
        os.path.realpath(os.path.join(os.path.dirname(file), path))
        for file, schema in schemas.items()
        if (column := audio_column(schema)) and lists_paths(schema)
        for path in column_values(file, column)
        if path is not None
    }
    return [path for path in paths if os.path.realpath(path) not in listed]


def _metadata(file: str) -> pq.FileMetaData:
    with open_parquet(file) as parquet:
        return parquet.metadata


def _common_schema(files: Sequence[str], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of the first file, each of a type that holds the values of all files."""
    common = _plain(schemas[0])
    for file, schema in zip(files, map(_plain, schemas), strict=True):
        if sorted(schema.names) != sorted(common.names):
            raise DataError(
                f"{public_text(file)} has the columns {_listed(schema)} and {public_text(files[0])} has "
                f"{_listed(common)}: give them as two corpora."
            )
        for field in schema:
            try:
                merged = pa.unify_schemas(
                    [pa.schema([common.field(field.name)]), pa.schema([field])],
                    promote_options="permissive",
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"{public_text(file)} has {field.type} in the column {field.name} and {public_text(files[0])} has "
                    f"{common.field(field.name).type}: store it as one type."
                ) from error
            common = common.set(common.get_field_index(field.name), merged.field(0))
    return common


def _plain(schema: pa.Schema) -> pa.Schema:
    """A schema without metadata and dictionaries, which may differ where the values do not."""
    types = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return pa.schema(zip(schema.names, types, strict=True))


def _listed(schema: pa.Schema) -> str:
    return ", ".join(schema.names)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def audio_column(schema: pa.Schema) -> str | None:
    """The column of {bytes, path}, of bytes, or of paths, the usual names first; None if there is none."""

    def holds(kind: pa.DataType, name: str) -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 or kind.get_field_index("path") >= 0
        if _is_text(kind):
            return name in COLUMN_NAMES["path"]
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    fitting = [name for name in schema.names if holds(schema.field(name).type, name)]
    return next((name for name in (*_AUDIO_NAMES, *COLUMN_NAMES["path"], *fitting) if name in fitting), None)
