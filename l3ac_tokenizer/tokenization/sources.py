"""Where clips come from: one interface over folders, manifests, archives and hub datasets.

A source is a list of records in a fixed order. Any range of it can be read, by any process to which the source
was sent, so work can be cut, repeated and spread without a word between workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .errors import CorpusError

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


def open_source(corpus: str, hub_config: str | None = None, hub_split: str = "train") -> Source:
    """The source that a path or a name stands for.

    A folder of audio (LibriSpeech, LJSpeech, Common Voice and VCTK are recognised), of Parquet files or of tar
    shards; one such file; a manifest (`.jsonl`, `.csv`, `.tsv`); or else the name of a dataset on the hub, with the
    configuration and split to take of it.

    Raises:
        CorpusError: it is none of these, or holds nothing to read.
        OSError: it cannot be read.
    """
    if os.path.isdir(corpus):
        return _open_folder(corpus)
    suffix = os.path.splitext(corpus)[1].lower()
    if os.path.exists(corpus):
        if suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            from .manifests import open_manifest

            return open_manifest(corpus)
        if suffix == ".parquet":
            from .parquet import ParquetSource

            return ParquetSource([corpus])
        if suffix == ".tar":
            from .webdataset import open_tars

            return open_tars([corpus])
        raise CorpusError(
            f"{corpus} is no corpus that is known by its name: give a folder, a .jsonl, .csv or .tsv manifest, a "
            ".parquet file or a .tar shard."
        )
    if suffix or corpus.startswith(("/", ".", "~")) or corpus.endswith("/") or corpus.count("/") > 1:
        raise FileNotFoundError(f"there is no file or folder {corpus}: check the path.")
    from .hub_dataset import open_hub

    return open_hub(corpus, hub_config, hub_split)


def _open_folder(folder: str) -> Source:
    for suffix in (".parquet", ".tar"):
        files = sorted(
            os.path.join(where, name)
            for where, _, names in os.walk(folder)
            for name in names
            if name.endswith(suffix) and not name.startswith(".")
        )
        if files and suffix == ".parquet":
            from .parquet import ParquetSource

            return ParquetSource(files)
        if files:
            from .webdataset import open_tars

            return open_tars(files)
    from .layouts import open_layout

    return open_layout(folder)


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
