"""Where clips come from: one interface over folders, manifests, archives and hub datasets.

A source is a list of records in a fixed order. Any range of it can be read, by any process to which the source
was sent, so work can be cut, repeated and spread without a word between workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "ID", "utt_id", "utterance_id"),
    "path": ("path", "audio_path", "audio_filepath", "file", "file_name", "filename", "wav", "audio"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text", "wrd"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id", "speaker_name"),
    "language": ("language", "locale", "lang"),
}
"""What columns are called elsewhere, by what they are called here; the first that is there is taken."""

RESERVED = ("ids", "num_samples", "sampling_rate", "row", "error")
"""Columns that tokenization makes; those of a source that are called so are left out."""


@dataclass(frozen=True)
class Record:
    """One clip before it is encoded.

    Attributes:
        id: its name.
        audio: what `ClipEncoder` takes: a path that can be opened, the bytes of a file, …
        path: where it is from, as the tokenized corpus says it.
        columns: what else is known, by the names of `Source.columns`.
        error: why there is no audio, where the source itself is damaged there.
    """

    id: str
    audio: Any
    path: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


class Source(Protocol):
    """Records in a fixed order."""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        ...

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Types of what is carried along beside id and path."""
        ...

    def __len__(self) -> int:
        """Number of records, readable or not."""
        ...

    def digest(self) -> str:
        """A hexadecimal name of the list: another list has another one."""
        ...

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The records from `start` up to, not including, `stop`."""
        ...


def renamed(names: Iterable[str]) -> dict[str, str]:
    """Our name of each column of a source, by its own name; reserved and unnamed ones are left out.

    A column that is not known by `KNOWN_NAMES`, or not the first that is, keeps its name.
    """
    names = [name for name in names if name]
    ours: dict[str, str] = {}
    for known, others in KNOWN_NAMES.items():
        found = next((other for other in others if other in names and other not in ours), None)
        if found is not None:
            ours[found] = known
    for name in names:
        if name not in ours and name not in RESERVED and name not in ours.values():
            ours[name] = name
    return ours
