"""`TokenizedCorpus`: reading the shards of a tokenized corpus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..quantization import join_ids
from .arrow import ids_of
from .errors import CorpusError
from .spec import METADATA_KEY, CorpusMetadata

ROWS_AT_ONCE = 1024


class TokenizedCorpus:
    """Parquet files with ids of one model.

    Attributes:
        files: paths of the shards, in order.
        metadata: of the ids.

    Args:
        path: folder with the shards, or one file.

    Raises:
        CorpusError: there are no shards, one was not made by tokenization, or two are of different models.
        OSError: a file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path} exists: check the path.")
        self.files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not self.files:
            raise CorpusError(f"{path} holds no .parquet files: give the output of `l3ac tokenize`.")
        self.metadata = _metadata_of(self.files[0])
        for file in self.files[1:]:
            other = _metadata_of(file)
            if other.weights_digest != self.metadata.weights_digest or other.split != self.metadata.split:
                raise CorpusError(
                    f"{file} has ids of {other.model} (weights {other.weights_digest[:12]}…, split {other.split}) and "
                    f"{self.files[0]} of {self.metadata.model} (weights {self.metadata.weights_digest[:12]}…, split "
                    f"{self.metadata.split}): give them as two corpora."
                )

    def __len__(self) -> int:
        """Number of clips."""
        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Tables of consecutive rows; `columns` None: all columns."""
        for file in self.files:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=columns):
                    yield pa.Table.from_batches([batch])

    def stored_ids(self, table: pa.Table) -> list[np.ndarray]:
        """The ids of each clip in a table of `tables` as they are stored, (N,) or (N, split) int32."""
        return ids_of(table["ids"], self.metadata.split)

    def whole_ids(self, table: pa.Table) -> list[np.ndarray]:
        """The ids (N,) int64 of each clip in a table of `tables`, joined where they were split.

        Raises:
            ValueError: an id is out of range.
        """
        levels, split = self.metadata.levels, self.metadata.split
        stored = self.stored_ids(table)
        return [join_ids(ids if split > 1 else ids[:, None], levels, split) for ids in stored]


def _metadata_of(file: Path) -> CorpusMetadata:
    try:
        metadata = pq.read_schema(file).metadata or {}
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{file} is not a complete Parquet file ({error}): copy or make it again.") from error
    if METADATA_KEY not in metadata:
        raise CorpusError(
            f"{file} has no `l3ac` metadata, without which its ids have no meaning: tokenize the audio again."
        )
    return CorpusMetadata.from_json(metadata[METADATA_KEY], str(file))
