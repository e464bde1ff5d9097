"""A source that is a list of audio files."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..errors import CorpusError
from .base import Record


class Listing:
    """Audio files with what is known of them.

    The list is kept as an Arrow table: compact, and shared between workers where they can.

    Args:
        kind: what it is, in words.
        root: folder that relative paths begin in.
        rows: of each file at least `id` and `path`; `size` (bytes) counts for the digest only.
        types: types of further columns; those that are not named are strings.

    Raises:
        CorpusError: there are no rows, or two have one id.
    """

    def __init__(
        self,
        kind: str,
        root: str,
        rows: Sequence[Mapping[str, Any]],
        types: Mapping[str, pa.DataType] | None = None,
    ) -> None:
        if not rows:
            raise CorpusError(f"{root} holds no audio files: check the path.")
        twice = next((name for name, count in Counter(row["id"] for row in rows).items() if count > 1), None)
        if twice is not None:
            paths = [row["path"] for row in rows if row["id"] == twice]
            raise CorpusError(f"{paths[0]} and {paths[1]} both have the id {twice!r}: rename one.")
        self.kind = kind
        self.root = os.path.abspath(root)
        names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
        self._table = pa.table(
            {
                name: pa.array([row.get(name) for row in rows], type=(types or {}).get(name, pa.string()))
                for name in names
                if name != "size"
            }
        )
        self.columns = {column.name: column.type for column in self._table.schema if column.name not in ("id", "path")}
        sizes = [row.get("size") for row in rows]
        self._digest = hashlib.sha256(
            "\n".join(
                json.dumps([size, row], ensure_ascii=False, default=str)
                for size, row in zip(sizes, self._table.to_pylist(), strict=True)
            ).encode(errors="surrogateescape")
        ).hexdigest()

    def __len__(self) -> int:
        return self._table.num_rows

    def digest(self) -> str:
        """SHA-256 over the rows and sizes, not over the audio."""
        return self._digest

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The files from `start` up to `stop`."""
        for row in self._table.slice(start, stop - start).to_pylist():
            name, path = row.pop("id"), row.pop("path")
            yield Record(name, os.path.join(self.root, path), path, row)
