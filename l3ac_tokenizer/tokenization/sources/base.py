"""`Source`: the interface between tokenization and folders, manifests, archives and datasets.

A source is a list of records in a fixed order. Any process that holds a copy can read any range of it, so workers need
not talk to each other, and lost work can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...causes import failure
from ...storage import StorageError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

RESERVED = ("ids", "num_samples", "sampling_rate", "row", "row_segment", "error")
"""Columns that tokenization writes; columns of a source with these names are left out."""


@dataclass(frozen=True)
class Record:
    """One clip before it is encoded.

    Attributes:
        id: its name, unique in the source.
        audio: the clip in a form of `l3ac_tokenizer.audio.open_clip`.
        path: its origin, as the tokenized corpus states it.
        columns: further values, by the names of `Source.columns`.
        error: why the audio is missing, if the source itself is damaged here.
        name: of the clip in messages; "": its path.
    """

    id: str
    audio: Any
    path: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    name: str = ""


def safe_records(source: Source, start: int, stop: int) -> Iterator[Record]:
    """The records of a source from `start` up to, not including, `stop`; one that cannot be read has an `error`.

    Raises:
        StorageError: the object storage fails, and with it all records.
    """
    position = start
    while position < stop:
        try:
            for record in source.records(position, stop):
                yield record
                position += 1
            return
        except (GeneratorExit, StorageError):
            raise
        except Exception as error:  # of any library; the other records continue
            place = f"row {position}"
            yield Record(place, b"", place, error=f"{place} cannot be read: {failure(error)}")
            position += 1


class Source(Protocol):
    """Records in a fixed order."""

    @property
    def kind(self) -> str:
        """Kind of source, in words."""
        ...

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Types of the columns that are carried along beside id and path."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """Remarks, one sentence each, on what is left out or has another name here than in the corpus."""
        ...

    def __len__(self) -> int:
        """Number of records, readable or not."""
        ...

    def sizes(self) -> np.ndarray | None:
        """About how many bytes of audio each record has, (R,) int64, from the list alone; None: it does not say."""
        ...

    def digest(self) -> str:
        """Hexadecimal digest of the list of records; another list has another digest."""
        ...

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The records from `start` up to, not including, `stop`."""
        ...
