"""Record of a job's finished shards: a file that grows, or objects of some hundred lines each.

A local folder has `manifest.jsonl`: the job in its first line, then a line for each finished shard, appended and forced
to disk. Objects cannot grow: there `manifest.jsonl` has the job alone, and `manifest/00000.jsonl`, … have the lines, up
to `SEGMENT_LINES` each. The last one is replaced with every shard, if nobody else has. What is said of single clips
stands in the lines of the file, and in objects of its own, `failures/` and `truncated/`, one for each shard with any.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..files import explained, open_own
from ..parsing import parse_json
from ..storage import read_object, replace_object, write_whole
from ..urls import is_url, joined, public_text
from .errors import CorpusError
from .spec import Job

MANIFEST = "manifest.jsonl"
SEGMENT_LINES = 1000
"""Shards in one object of the record."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A finished shard.

    Attributes:
        shard: its number.
        rows: number of its clips.
        num_samples: total number of their samples.
        num_ids: total number of their ids.
        bytes: size of its file.
        sha256: hexadecimal digest of its file.
        seconds: time since the previous shard.
        failures: number of clips that could not be encoded.
        truncated: number of clips that were encoded as far as their truncated files go.
    """

    shard: int
    rows: int
    num_samples: int
    num_ids: int
    bytes: int
    sha256: str
    seconds: float
    failures: int = 0
    truncated: int = 0


class ClipNotes(NamedTuple):
    """Remarks on single clips of a shard.

    Attributes:
        failures: id, path and reason of each clip that could not be encoded.
        truncated: id, path and note of each clip that was encoded as far as its truncated file goes.
    """

    failures: list[dict[str, str]]
    truncated: list[dict[str, str]]


class FinishedShards(Mapping[int, ShardEntry]):
    """Entries by the numbers of their shards, packed: a million take about 200 MB."""

    _FORM = struct.Struct("<4q32sd2q")

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}

    def add(self, entry: ShardEntry) -> None:
        """Add an entry, or replace that of its shard.

        Raises:
            ValueError: a number is not one, or the digest is not hexadecimal.
        """
        try:
            self._packed[entry.shard] = self._FORM.pack(
                entry.rows,
                entry.num_samples,
                entry.num_ids,
                entry.bytes,
                bytes.fromhex(entry.sha256),
                entry.seconds,
                entry.failures,
                entry.truncated,
            )
        except (struct.error, TypeError) as error:
            raise ValueError(f"{error} in the entry of shard {entry.shard}") from error

    def __getitem__(self, shard: int) -> ShardEntry:
        rows, samples, ids, size, digest, seconds, failures, truncated = self._FORM.unpack(self._packed[shard])
        return ShardEntry(shard, rows, samples, ids, size, digest.hex(), seconds, failures, truncated)

    def __contains__(self, shard: object) -> bool:
        return shard in self._packed

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Record(Protocol):
    """The record of one output."""

    def read(self) -> tuple[Job | None, FinishedShards]:
        """The job and its finished shards; None where no run has begun.

        Raises:
            CorpusError: the record is damaged, or something else.
            OSError: it cannot be read.
        """
        ...

    def begin(self, job: Job) -> None:
        """Write the job.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def enter(self, entry: ShardEntry, notes: ClipNotes) -> None:
        """Add a finished shard, which is then on the disk or storage.

        Raises:
            OSError: it cannot be written; the record is as before.
        """
        ...

    def notes(self, entry: ShardEntry) -> ClipNotes:
        """The notes on the clips of a finished shard; called after `read`.

        Raises:
            OSError: it cannot be read.
        """
        ...


def record_of(output: str | os.PathLike[str]) -> Record:
    """The record of a folder, or of a place on object storage."""
    return ObjectRecord(str(output)) if is_url(output) else FileRecord(output)


class FileRecord:
    """The record in a local folder: one file."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._path = Path(folder) / MANIFEST
        self._noted: dict[int, int] = {}  # where the lines of shards begin of whose clips something is said

    def read(self) -> tuple[Job | None, FinishedShards]:
        """See `Record`; an unfinished last line, which a killed run may leave, is ignored."""
        entries = FinishedShards()
        if not self._path.exists():
            return None, entries
        with open(self._path, "rb") as file:
            first = file.readline()
            if not first.endswith(b"\n") or first == b"\n":
                return None, entries
            job = Job.from_json(first, str(self._path))
            place = file.tell()
            for number, line in enumerate(file, 2):
                if line.endswith(b"\n"):
                    entry, notes = _parsed(line, f"{self._path} is damaged in line {number}")
                    entries.add(entry)
                    if any(notes):
                        self._noted[entry.shard] = place
                place += len(line)
        return job, entries

    def begin(self, job: Job) -> None:
        """See `Record`."""
        write_whole(self._path, job.to_json().encode() + b"\n")

    def cut_unfinished_line(self) -> None:
        """Remove an unfinished last line, which a run left that was killed while writing it."""
        with open_own(self._path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            while size > 0:
                start = max(0, size - (1 << 16))
                file.seek(start)
                if (end := file.read(size - start).rfind(b"\n")) >= 0:
                    file.truncate(start + end + 1)
                    return
                size = start

    def enter(self, entry: ShardEntry, notes: ClipNotes) -> None:
        """See `Record`."""
        place = _append_line(self._path, _line({**asdict(entry), **notes._asdict()}))
        if any(notes):
            self._noted[entry.shard] = place

    def notes(self, entry: ShardEntry) -> ClipNotes:
        """See `Record`."""
        if entry.shard not in self._noted:
            return ClipNotes([], [])
        with open(self._path, "rb") as file:
            file.seek(self._noted[entry.shard])
            return _parsed(file.readline(), f"{self._path} is damaged")[1]


class ObjectRecord:
    """The record on object storage: an object for the job, and objects of up to `SEGMENT_LINES` shards."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._number = 0
        self._lines: list[bytes] = []
        self._version: str | None = None

    def read(self) -> tuple[Job | None, FinishedShards]:
        """See `Record`; one request for each object of the record, and none for what it lists."""
        entries = FinishedShards()
        where = joined(self._url, MANIFEST)
        first = read_object(where)
        if first is None:
            return None, entries
        job = Job.from_json(first.data, public_text(where))
        for number in itertools.count():
            segment = read_object(self._segment(number))
            if segment is None:
                break
            self._number, self._version = number, segment.version
            self._lines = segment.data.splitlines(keepends=True)
            for place, line in enumerate(self._lines, 1):
                what = f"{public_text(self._segment(number))} is damaged in line {place}"
                entries.add(_parsed(line, what)[0])
        return job, entries

    def begin(self, job: Job) -> None:
        """See `Record`."""
        replace_object(joined(self._url, MANIFEST), job.to_json().encode() + b"\n", None)

    def enter(self, entry: ShardEntry, notes: ClipNotes) -> None:
        """See `Record`.

        Raises:
            OSError: also if another run has written the record meanwhile.
        """
        for kind, clips in notes._asdict().items():
            if clips:
                write_whole(self._notes(kind, entry.shard), b"".join(map(_line, clips)))
        if len(self._lines) >= SEGMENT_LINES:
            self._number, self._lines, self._version = self._number + 1, [], None
        lines = [*self._lines, _line(asdict(entry))]
        self._version = replace_object(self._segment(self._number), b"".join(lines), self._version)
        self._lines = lines

    def notes(self, entry: ShardEntry) -> ClipNotes:
        """See `Record`."""
        return ClipNotes(*(self._clips(kind, entry) for kind in ClipNotes._fields))

    def _clips(self, kind: str, entry: ShardEntry) -> list[dict[str, str]]:
        found = read_object(self._notes(kind, entry.shard)) if getattr(entry, kind) else None
        return [] if found is None else [json.loads(line) for line in found.data.splitlines()]

    def _segment(self, number: int) -> str:
        return joined(self._url, f"manifest/{number:05d}.jsonl")

    def _notes(self, kind: str, shard: int) -> str:
        return joined(self._url, f"{kind}/{shard:05d}.jsonl")


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def _parsed(line: bytes, where: str) -> tuple[ShardEntry, ClipNotes]:
    """Entry and notes of a line; in the objects of a storage, the notes are only counted.

    Raises:
        CorpusError: it is something else; the message begins with `where`.
    """
    try:
        values = parse_json(line)
        notes = {name: values.get(name, []) for name in ClipNotes._fields}
        counts = {name: len(note) if isinstance(note, list) else note for name, note in notes.items()}
        entry = ShardEntry(**{**values, **counts})
        FinishedShards().add(entry)
        return entry, ClipNotes(*(note if isinstance(note, list) else [] for note in notes.values()))
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{where} ({error}): remove that line.") from error


def _append_line(path: Path, line: bytes) -> int:
    """Append a line, force it to disk, and return where it begins; or leave the file as it was."""
    with open_own(path, "ab") as file, explained(f"cannot write {path}", "free some space"):
        end = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise
    return end
