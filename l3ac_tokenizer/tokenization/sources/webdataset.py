"""WebDataset shards: tar files in which members with the same name form one sample.

Nothing is extracted: one pass over the headers notes the position of each member's bytes, which are later read from
there. Names of members are labels only, never paths on this machine; links and devices are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from ...audio import AUDIO_SUFFIXES
from ...listing.columns import renamed
from ...listing.errors import DataError
from .base import Record

_TEXT_SUFFIXES = ("txt", "text", "transcript")
_KNOWN = ("text", "speaker", "language")


class TarSource:
    """Samples of tar files, from an index made by `open_tars`.

    Its columns are `text`, `speaker` and `language`, taken from `.txt` and `.json` members.
    """

    kind = "WebDataset"
    columns = {name: pa.string() for name in _KNOWN}  # noqa: RUF012 - constant

    def __init__(self, files: Sequence[str], index: pa.Table) -> None:
        self.files = [os.path.abspath(file) for file in files]
        self._index = index

    def __len__(self) -> int:
        return self._index.num_rows

    def digest(self) -> str:
        """SHA-256 over the names and sizes of the files and the positions of their members."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(json.dumps([os.path.basename(file), os.path.getsize(file)]).encode())
        for batch in self._index.to_batches(max_chunksize=1 << 16):
            digest.update(json.dumps(batch.to_pylist()).encode())
        return digest.hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The samples from `start` up to, not including, `stop`, counted over all files."""
        opened: tuple[int, BinaryIO] | None = None
        try:
            for row in self._index.slice(start, stop - start).to_pylist():
                if opened is None or opened[0] != row["file"]:
                    if opened is not None:
                        opened[1].close()
                    opened = row["file"], open(self.files[row["file"]], "rb")  # noqa: SIM115
                yield self._record(opened[1], row)
        finally:
            if opened is not None:
                opened[1].close()

    def _record(self, file: BinaryIO, row: dict[str, Any]) -> Record:
        path = f"{os.path.basename(self.files[row['file']])}/{row['audio']['name'] if row['audio'] else row['key']}"
        if row["error"] is not None:
            return Record(row["key"], b"", path, error=row["error"])
        columns: dict[str, Any] = {}
        try:
            if row["json"] is not None:
                columns = _known_of_json(_bytes(file, row["json"]))
            if row["text"] is not None:
                columns["text"] = _bytes(file, row["text"]).decode("utf-8").strip()
        except ValueError as error:
            return Record(
                row["key"],
                b"",
                path,
                error=f"{path} has a text or JSON member that cannot be read ({error}): repair it.",
            )
        return Record(row["key"], _bytes(file, row["audio"]), path, columns)


def open_tars(files: Sequence[str]) -> TarSource:
    """The samples of tar files, in order; a damaged file gives the samples before the damage and one failure.

    Raises:
        DataError: there are no samples with audio.
        OSError: a file cannot be read.
    """
    member = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
    schema = pa.schema(
        [
            ("file", pa.int32()),
            ("key", pa.string()),
            ("audio", member),
            ("text", member),
            ("json", member),
            ("error", pa.string()),
        ]
    )
    rows = [row for number, file in enumerate(files) for row in _samples(number, file)]
    if not any(row.get("audio") for row in rows):
        reason = next((f" ({row['error']})" for row in rows if row.get("error")), "")
        raise DataError(f"{files[0]} and the tar files after it hold no audio{reason}: check their contents.")
    return TarSource(files, pa.Table.from_pylist(rows, schema=schema))


def _samples(number: int, path: str) -> Iterator[dict[str, Any]]:
    """One row of the index for each sample of a file, that is, for consecutive members with the same name."""
    sample: dict[str, Any] = {}
    damage = None
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isreg() or info.issparse() or os.path.basename(info.name).startswith("."):
                    continue
                folder, name = os.path.split(info.name)
                stem, _, kind = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if key != sample.get("key"):
                    if sample.get("audio"):
                        yield sample
                    sample = {"file": number, "key": key}
                slot = _slot(kind.lower())
                if slot is not None and slot not in sample:
                    sample[slot] = {"name": info.name, "offset": info.offset_data, "size": info.size}
            if sample.get("audio"):
                yield sample
            if not _ends_well(path, tar.offset):
                damage = "it ends there without an end mark, or is overwritten"
    except tarfile.TarError as error:
        if sample.get("audio"):
            yield sample  # its bytes may be cut off, which reading the audio will show
        damage = str(error)
    if damage is not None:
        after = f"after {sample['key']}" if "key" in sample else "at its beginning"
        reason = f"{path} is damaged {after} ({damage}): copy or make it again; compressed archives are not read."
        yield {"file": number, "key": f"{os.path.basename(path)}:damage", "error": reason}


def _slot(kind: str) -> str | None:
    """Column of the index for a member with this suffix; None: unused."""
    if f".{kind.rpartition('.')[2]}" in AUDIO_SUFFIXES:
        return "audio"
    return "text" if kind in _TEXT_SUFFIXES else "json" if kind == "json" else None


def _ends_well(path: str, offset: int) -> bool:
    """Whether reading ended at the block of zeros that ends an archive, which tarfile does not check."""
    with open(path, "rb") as file:
        file.seek(offset - tarfile.BLOCKSIZE if offset >= os.path.getsize(path) else offset)
        block = file.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not any(block)


def _bytes(file: BinaryIO, member: dict[str, Any]) -> bytes:
    file.seek(member["offset"])
    return file.read(member["size"])


def _known_of_json(data: bytes) -> dict[str, Any]:
    fields = json.loads(data)
    if not isinstance(fields, dict):
        return {}
    return {
        ours: str(fields[name]) for name, ours in renamed(fields).items() if ours in _KNOWN and fields[name] is not None
    }
