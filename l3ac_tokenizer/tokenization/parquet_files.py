"""Opening Parquet files: what their metadata claims is compared with their bytes before anything is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..causes import shortened
from ..limits import PARQUET_EXPANSION, PARQUET_ROWS
from ..storage import StorageError, open_parts
from ..urls import is_url, public_text
from .errors import CorpusError

FREE_ROWS, FREE_BYTES, FREE_VALUES = 1 << 16, 1 << 24, 1 << 22
"""Sizes that a file or column may have however few bytes it takes, see `limits.PARQUET_ROWS`."""

ROWS_AT_ONCE = 256
"""Rows of one column of names that are decoded together."""


def open_parquet(path: str | os.PathLike[str]) -> pq.ParquetFile:
    """Open a Parquet file or object, a context manager.

    Raises:
        CorpusError: it is not one, is incomplete, or claims more rows, values or bytes than it can hold.
        OSError: it cannot be read, or is not a regular file.
    """
    name = public_text(str(path))
    source = open_parts(path)
    size = source.seek(0, os.SEEK_END)
    if not is_url(path):
        source.close()
    try:
        file = pq.ParquetFile(source if is_url(path) else os.fspath(path))
        _check(file.metadata, size, name)
    except (CorpusError, StorageError):
        raise
    except (pa.ArrowException, ValueError, RuntimeError, MemoryError, OSError) as error:
        reason = shortened(" ".join(str(error).split()), 200)
        raise CorpusError(f"{name} is not a complete Parquet file ({reason}): copy or make it again.") from error
    return file


def batches(path: str | os.PathLike[str], rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Consecutive rows of a file, so many at once; `columns` None: all columns.

    Raises:
        CorpusError: as `open_parquet`, or a page of the file is damaged.
        OSError: it cannot be read, or is not a regular file.
    """
    with open_parquet(path) as file:
        try:
            yield from file.iter_batches(rows, columns=columns)
        except StorageError:
            raise
        except (pa.ArrowException, ValueError, OSError) as error:
            reason = shortened(" ".join(str(error).split()), 200)
            raise CorpusError(
                f"{public_text(str(path))} has damaged pages ({reason}): copy or make it again."
            ) from error


def _check(metadata: pq.FileMetaData, size: int, name: str) -> None:
    rows = metadata.num_rows
    if rows < 0:
        raise CorpusError(f"{name} states {rows} rows: make it again.")
    PARQUET_ROWS.check((rows - FREE_ROWS) / size, f"{name} states {rows:,} rows for {size:,} bytes", CorpusError)
    if sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)) != rows:
        raise CorpusError(f"{name} states {rows:,} rows, and its parts have another number: make it again.")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            stored = column.total_compressed_size
            what = f"{name} has {column.total_uncompressed_size:,} bytes and {column.num_values:,} values in {stored:,}"
            if not 0 <= stored <= size or column.total_uncompressed_size < 0 or column.num_values < 0:
                raise CorpusError(f"{what} of its {size:,} bytes: copy or make it again.")
            excess = max(column.total_uncompressed_size - FREE_BYTES, column.num_values - FREE_VALUES)
            PARQUET_EXPANSION.check(excess / max(1, stored), what, CorpusError)


def column_values(path: str, column: str) -> Iterator[Any]:
    """The values of one column of a file, in order; a dot leads to a field of a struct."""
    field = column.rpartition(".")[2]
    for batch in batches(path, ROWS_AT_ONCE, [column]):
        values = batch.column(0)
        inner = values.field(field) if pa.types.is_struct(values.type) else None
        missing = values.is_null().to_pylist() if inner is not None else ()
        if inner is None:
            yield from values.to_pylist()
        else:
            yield from (None if null else value for null, value in zip(missing, inner.to_pylist(), strict=True))
