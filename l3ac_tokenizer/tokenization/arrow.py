"""Rows of a tokenized corpus as Arrow tables.

On the way from workers to the writer a table has one row for each record of the source, failed ones included, or one
for each segment of it, with the columns `row` (number of the record), `row_segment` (from 0), `error` and `truncated`.
A shard on disk has none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..causes import failure
from ..inference import EncodedClip
from ..names import without_folders
from .encoding import ClipEncoder, SegmentEncoder
from .errors import CorpusError
from .sources.base import Record
from .spec import METADATA_KEY, CorpusMetadata, ranges


def ids_type(split: int) -> pa.DataType:
    """list<int32>, or list<fixed_size_list<int32>[split]> for ids in groups of digits."""
    return pa.list_(pa.int32() if split == 1 else pa.list_(pa.int32(), split))


ROW_GROUP_BYTES = 1 << 26
"""Most bytes of ids in a row group, which readers take into memory as a whole: 78 hours at 59 ids/s."""

SEGMENT_COLUMNS = {"recording": pa.string(), "start": pa.int64(), "end": pa.int64()}
"""Further columns of segments: id of the recording, and first and last sample, the last not included."""


def _of_recordings(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of recordings by their names in the rows of segments, whose text is not that of the recording."""
    return {"recording_text" if name == "text" else name: value for name, value in columns.items()}


def shard_schema(columns: Mapping[str, pa.DataType], metadata: CorpusMetadata) -> pa.Schema:
    """The schema of a shard: our columns, those carried along, and the corpus' metadata.

    Raises:
        CorpusError: a column carried along is called as one of ours.
    """
    if metadata.level_lufs is not None and "audio_scale" in columns:
        raise CorpusError(
            "the corpus has a column `audio_scale`, as leveling writes it: rename it, or use --lufs none."
        )
    if metadata.in_segments:
        columns = _of_recordings(columns)
        if taken := sorted(columns.keys() & SEGMENT_COLUMNS.keys()):
            raise CorpusError(f"the corpus has a column `{taken[0]}`, as segments have it: rename it.")
    return pa.schema(
        [
            ("id", pa.string()),
            ("ids", ids_type(metadata.split)),
            ("num_samples", pa.int64()),
            ("sampling_rate", pa.int32()),
            ("path", pa.string()),
            *([] if metadata.level_lufs is None else [("audio_scale", pa.float32())]),
            *(SEGMENT_COLUMNS.items() if metadata.in_segments else ()),
            *columns.items(),
        ],
        metadata={METADATA_KEY: metadata.to_json()},
    )


def write_shard(table: pa.Table, file: Any) -> None:
    """Write a shard as Parquet; its row groups have at most `ROW_GROUP_BYTES` of ids, or one row."""
    lengths = np.diff(table["ids"].combine_chunks().offsets.to_numpy())
    width = getattr(table.schema.field("ids").type.value_type, "list_size", 1) * 4
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for start, stop in ranges(
            range(table.num_rows), lengths.astype(np.int64) * width, table.num_rows, ROW_GROUP_BYTES
        ):
            writer.write_table(table.slice(start, stop - start))


def encode_records(
    records: Sequence[Record], first: int, columns: Mapping[str, pa.DataType], encoder: ClipEncoder, rank: int | None
) -> pa.Table:
    """A table with the rows of each record, of which the first has the number `first`.

    Its columns are ours, those carried along, `row`, `row_segment`, `error` and `truncated`.
    """
    records, stored = _with_storable_columns(records, columns)
    sound = [record for record in records if record.error is None]
    pieces = encoder.pieces([record.audio for record in sound], [record.name or record.path for record in sound], rank)
    rows = [
        (number, segment, clip)
        for number, record in enumerate(records)
        for segment, clip in enumerate(next(pieces) if record.error is None else [EncodedClip.failed(record.error)])
    ]
    numbers = pa.array([number for number, _, _ in rows], type=pa.int64())
    clips = [clip for _, _, clip in rows]
    scales = pa.array([clip.audio_scale for clip in clips], type=pa.float32())
    ids = pa.array([_storable(record.id) for record in records], type=pa.string()).take(numbers)
    lengths = np.array([clip.num_samples for clip in clips], dtype=np.int64)
    segments = np.array([segment for _, segment, _ in rows], dtype=np.int64)
    of_segments: dict[str, Any] = {}
    if isinstance(encoder, SegmentEncoder):
        ends = np.cumsum(lengths)
        ends -= (ends - lengths)[np.maximum.accumulate(np.where(segments == 0, np.arange(len(rows)), 0))]
        of_segments = {"recording": ids, "start": pa.array(ends - lengths), "end": pa.array(ends)}
        names = zip(ids.to_pylist(), segments, clips, strict=True)
        ids = pa.array([f"{id}-{segment:05d}" if clip.error is None else id for id, segment, clip in names])
        stored = _of_recordings(stored)
    return pa.table(
        {
            "id": ids,
            "ids": ids_array([clip.ids for clip in clips], encoder.split),
            "num_samples": pa.array(lengths),
            "sampling_rate": pa.array([encoder.model.config.sampling_rate] * len(rows), type=pa.int32()),
            "path": pa.array([_storable(record.path) for record in records], type=pa.string()).take(numbers),
            **({} if encoder.level_lufs is None else {"audio_scale": scales}),
            **of_segments,
            **{name: values.take(numbers) for name, values in stored.items()},
            "row": pa.array(first + numbers.to_numpy()),
            "row_segment": pa.array(segments),
            "error": pa.array([_note(clip.error) for clip in clips], type=pa.string()),
            "truncated": pa.array([_note(clip.truncated) for clip in clips], type=pa.string()),
        }
    )


def _with_storable_columns(
    records: Sequence[Record], columns: Mapping[str, pa.DataType]
) -> tuple[Sequence[Record], dict[str, pa.Array]]:
    """The further columns of records as arrays; a record with a value that Arrow cannot hold becomes a failure."""

    def array(name: str, some: Sequence[Record]) -> pa.Array:
        return pa.array([_storable(record.columns.get(name)) for record in some], type=columns[name])

    try:
        return records, {name: array(name, records) for name in columns}
    except Exception:  # each record alone shows which one
        checked = []
        for record in records:
            try:
                for name in columns:
                    array(name, [record])
                checked.append(record)
            except Exception as error:
                reason = f"{record.path} has a value in the column {name} that cannot be stored ({failure(error)})."
                checked.append(replace(record, columns={}, error=record.error or reason))
        return checked, {name: array(name, checked) for name in columns}


def _storable(value: Any) -> Any:
    """Text without lone surrogates, which Arrow refuses: they are escaped; any other value as it is."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _note(text: str | None) -> str | None:
    """A message about a clip, without the folders of this machine."""
    return None if text is None else _storable(without_folders(text))


def ids_array(all_ids: Sequence[np.ndarray], split: int) -> pa.ListArray:
    """The ids (N,) or (N, split) of each clip as an Arrow array of `ids_type`."""
    offsets = np.cumsum([0, *map(len, all_ids)], dtype=np.int32)
    values: pa.Array = pa.array(
        np.concatenate([np.empty(0, np.int32), *(ids.reshape(-1).astype(np.int32) for ids in all_ids)])
    )
    if split > 1:
        values = pa.FixedSizeListArray.from_arrays(values, split)
    return pa.ListArray.from_arrays(offsets, values)


def ids_of(column: pa.ChunkedArray | pa.Array, split: int) -> list[np.ndarray]:
    """The inverse of `ids_array`: views (N,) or (N, split) int32 of each clip's ids."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    offsets = column.offsets.to_numpy()
    values = column.values
    flat = values.flatten().to_numpy() if split > 1 else values.to_numpy()
    rows = flat.reshape(-1, split) if split > 1 else flat
    return [rows[start:stop] for start, stop in itertools.pairwise(offsets)]
