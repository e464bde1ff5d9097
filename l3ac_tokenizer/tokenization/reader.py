"""`TokenizedCorpus`: reading the shards of a tokenized corpus."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..quantization import join_ids
from ..storage import objects_below, suffix_of
from ..urls import absolute, is_url, joined, public_text
from .arrow import ids_of
from .errors import CorpusError
from .parquet_files import batches, open_parquet
from .record import FinishedShards, record_of
from .spec import METADATA_KEY, CorpusMetadata, shard_name

ROWS_AT_ONCE = 1024


def require_same_ids(first: CorpusMetadata, where: str, other: CorpusMetadata, other_where: str) -> None:
    """Refuse ids of two models, levels or groups as one corpus; `where` and `other_where` are their places.

    Raises:
        CorpusError: they differ.
    """
    if other.weights_digest != first.weights_digest or other.split != first.split:
        raise CorpusError(
            f"{other_where} has ids of {other.model} (weights {other.weights_digest[:12]}…, split {other.split}) and "
            f"{where} of {first.model} (weights {first.weights_digest[:12]}…, split {first.split}): give them as two "
            "corpora."
        )
    if other.level_lufs != first.level_lufs:
        raise CorpusError(
            f"{other_where} has ids of clips leveled to {other.level_lufs} LUFS and {where} to {first.level_lufs}: "
            "give them as two corpora."
        )


class TokenizedCorpus:
    """Parquet files with ids of one model.

    Attributes:
        files: paths or URLs of the shards, in order.
        metadata: of the ids.

    Args:
        path: folder or URL with the shards, or one file. At a URL the record of the job says which there are, and all
            are of its model; without a record, they are listed.

    Raises:
        CorpusError: there are no shards, one was not made by tokenization, or two are of different models or levels.
        OSError: a file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        recorded: FinishedShards | None = None
        self.files: Sequence[str | Path]
        if isinstance(path, str) and is_url(path):
            self.files, recorded = _shards_at(absolute(path))
        else:
            path = Path(path)
            if not path.exists():
                raise FileNotFoundError(f"no file or folder {path} exists: check the path.")
            self.files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not self.files:
            raise CorpusError(f"{public_text(str(path))} holds no .parquet files: give the output of `l3ac tokenize`.")
        self._rows = None if recorded is None else sum(entry.rows for entry in recorded.values())
        self.metadata = _metadata_of(self.files[0])
        for file in self.files[1:] if recorded is None else ():
            require_same_ids(self.metadata, str(self.files[0]), _metadata_of(file), str(file))

    def __len__(self) -> int:
        """Number of clips."""
        if self._rows is not None:
            return self._rows
        rows = 0
        for path in self.files:
            with open_parquet(path) as file:
                rows += file.metadata.num_rows
        return rows

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Tables of consecutive rows; `columns` None: all columns."""
        for file in self.files:
            for batch in batches(file, ROWS_AT_ONCE, columns):
                yield pa.Table.from_batches([batch])

    def recordings(self, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Each recording of a corpus in segments: its id, and the rows of its segments in order, without gaps.

        Raises:
            CorpusError: the corpus is not in segments.
        """
        if not self.metadata.in_segments:
            raise CorpusError(f"{self.files[0]} has no segments of recordings: every row is a clip of its own.")
        names = None if columns is None else [*dict.fromkeys(["recording", *columns])]
        waiting: list[pa.Table] = []
        for table in self.tables(names):
            recordings = table["recording"].to_numpy(zero_copy_only=False)
            changes = np.flatnonzero(recordings[1:] != recordings[:-1]) + 1
            for start, stop in itertools.pairwise([0, *changes.tolist(), len(recordings)]):
                part = table.slice(start, stop - start)
                if waiting and waiting[-1]["recording"][0] != part["recording"][0]:
                    yield _recording(waiting)
                    waiting = []
                waiting.append(part)
        if waiting:
            yield _recording(waiting)

    def stored_ids(self, table: pa.Table) -> list[np.ndarray]:
        """The ids of each clip in a table of `tables` as they are stored, (N,) or (N, split) int32."""
        return ids_of(table["ids"], self.metadata.split)

    def whole_ids(self, table: pa.Table) -> list[np.ndarray]:
        """The ids (N,) int64 of each clip in a table of `tables`, joined where they were split.

        Raises:
            ValueError: an id is out of range.
        """
        return [self.joined(ids) for ids in self.stored_ids(table)]

    def joined(self, stored: np.ndarray) -> np.ndarray:
        """The ids (N,) int64 of one clip from those of `stored_ids`.

        Raises:
            ValueError: an id is out of range.
        """
        levels, split = self.metadata.levels, self.metadata.split
        return join_ids(stored if split > 1 else stored[:, None], levels, split)


def _recording(parts: list[pa.Table]) -> tuple[str, pa.Table]:
    return parts[0]["recording"][0].as_py(), pa.concat_tables(parts)


def _shards_at(url: str) -> tuple[list[str], FinishedShards | None]:
    """The shards at a URL, and their record if there is one, which listings that lag behind do not change."""
    if suffix_of(url) == ".parquet":
        return [url], None
    job, entries = record_of(url).read()
    if job is not None:
        return [joined(url, shard_name(shard)) for shard in sorted(entries)], entries
    names = (name for name in objects_below(url) if "/" not in name and name.endswith(".parquet"))
    return [joined(url, name) for name in sorted(names)], None


def _metadata_of(file: str | Path) -> CorpusMetadata:
    with open_parquet(file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
    name = public_text(str(file))
    if METADATA_KEY not in metadata:
        raise CorpusError(
            f"{name} has no `l3ac` metadata, without which its ids have no meaning: tokenize the audio again."
        )
    return CorpusMetadata.from_json(metadata[METADATA_KEY], name)
