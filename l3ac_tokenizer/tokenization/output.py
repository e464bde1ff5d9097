"""Output of a job: locked by one run at a time, with complete shards only, and a record of the finished ones.

A shard is written whole, and only then entered in the record (see `record`), each step forced to disk. So whenever a
run is killed, every shard in the record exists, and every other one is made again. The output is a local folder, or a
place on object storage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import filelock
import pyarrow as pa

from ..files import make_folder
from ..storage import copy_object, discard_unfinished, objects_below, open_parts, write_whole, written_whole
from ..storage_lock import LockedError, StorageLock
from ..urls import is_url, joined, public_text
from .arrow import shard_schema, write_shard
from .errors import CorpusError
from .record import MANIFEST, ClipNotes, FileRecord, FinishedShards, ShardEntry, record_of
from .spec import Job, shard_name

SUMMARY, FAILURES, LOCK = "summary.json", "failures.jsonl", ".lock"


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock an output for this process: a folder, created if necessary, or a place on object storage.

    The system unlocks a folder however the process ends; for object storage see `StorageLock`.

    Raises:
        CorpusError: another run has locked it.
        OSError: it cannot be created.
    """
    if is_url(folder):
        if str(folder).startswith(("http://", "https://")):
            raise CorpusError(f"cannot write {public_text(str(folder))}: web servers take no files; give a bucket.")
        try:
            held = StorageLock(str(folder))
        except LockedError as error:
            raise CorpusError(str(error)) from error
        try:
            yield
        finally:
            held.release()
        return
    make_folder(folder)
    path = os.path.join(folder, LOCK)
    if os.path.islink(path):  # filelock would empty the file that it leads to
        raise CorpusError(f"{path} is a link: remove it, or choose another output.")
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise CorpusError(f"another run is writing {folder}: wait until it ends, or choose another output.") from error
    try:
        yield
    finally:
        lock.release()


def read_shard_manifest(folder: str | os.PathLike[str]) -> tuple[Job | None, FinishedShards]:
    """The job and the finished shards of an output; None where no run has started in it.

    An unfinished last line, which a killed run may leave, is ignored.

    Raises:
        CorpusError: the manifest is damaged, or the file is something else.
        OSError: it cannot be read.
    """
    return record_of(folder).read()


class OutputFolder:
    """Folder, or place on object storage, to which a job's shards are written; the caller holds its lock.

    Attributes:
        path: of the folder, or a URL.
        job: being written.
        entries: finished shards by number.
    """

    def __init__(self, path: str | os.PathLike[str], job: Job, columns: Mapping[str, pa.DataType]) -> None:
        self.path = os.fspath(path)
        self.job = job
        self.entries = FinishedShards()
        self._record = record_of(path)
        self._schema = shard_schema(columns, job.metadata)

    def prepare(self) -> None:
        """Find the finished shards, and remove the remains of a killed run.

        Shards of a folder that are gone, or have another size, are made again. On object storage the record is
        believed, and nothing that it lists is looked for.

        Raises:
            CorpusError: the output holds another job, or shards without a manifest.
            OSError: it cannot be read or written.
        """
        self._remove_remains()
        shown = public_text(self.path)
        previous, entries = self._record.read()
        if previous is None:
            if any(re.fullmatch(r"shard-.*\.parquet", name) for name in self._names()):
                raise CorpusError(f"{shown} holds shards and no {MANIFEST}: choose another output.")
            self._record.begin(self.job)
            return
        differences = previous.differences(self.job)
        if differences:
            raise CorpusError(
                f"{shown} was started with other values: {'; '.join(differences)}; use those it was started with, "
                "or choose another output."
            )
        self.job = replace(self.job, shard_starts=previous.shard_starts)  # another version may divide otherwise
        if isinstance(self._record, FileRecord):
            self._record.cut_unfinished_line()
            for entry in entries.values():
                if self._exists(entry):
                    self.entries.add(entry)
        else:
            self.entries = entries

    def pending(self) -> list[int]:
        """Numbers of the shards that are not finished."""
        return [shard for shard in self.job.shards() if shard not in self.entries]

    def commit(self, shard: int, table: pa.Table, seconds: float) -> None:
        """Write a shard from its rows in order, failed ones included, and enter it in the record.

        Raises:
            OSError: the disk is full, or cannot be written for another reason; the record is unchanged.
        """
        failed = table.filter(table["error"].is_valid()).select(["id", "path", "error"]).to_pylist()
        truncated = table.filter(table["truncated"].is_valid()).select(["id", "path", "truncated"]).to_pylist()
        kept = table.filter(table["error"].is_null()).select(self._schema.names)
        kept = pa.Table.from_arrays(kept.columns, schema=self._schema)
        written = pa.BufferOutputStream()
        write_shard(kept, written)
        data = memoryview(written.getvalue())
        entry = ShardEntry(
            shard=shard,
            rows=kept.num_rows,
            num_samples=int(kept["num_samples"].to_numpy().sum()),
            num_ids=len(kept["ids"].combine_chunks().flatten()),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            seconds=round(seconds, 3),
            failures=len(failed),
            truncated=len(truncated),
        )
        with self._resumable():
            write_whole(joined(self.path, shard_name(shard)), data)
        self._enter(entry, ClipNotes(failed, truncated))

    def adopt(self, shard: str, entry: ShardEntry, notes: ClipNotes) -> None:
        """Take over a finished shard of another output, linked on the same disk and otherwise copied.

        Raises:
            OSError: the disk is full, or cannot be written for another reason; the record is unchanged.
        """
        target = joined(self.path, shard_name(entry.shard))
        with self._resumable():
            if is_url(shard) or is_url(target):
                copy_object(shard, target)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(target)
                try:
                    os.link(shard, target)
                except OSError:
                    copy_object(shard, target)
        self._enter(entry, notes)

    def _enter(self, entry: ShardEntry, notes: ClipNotes) -> None:
        with self._resumable():
            self._record.enter(entry, notes)
        self.entries.add(entry)

    def failures(self) -> Iterator[dict[str, str]]:
        """Clips of the finished shards that could not be encoded, in the order of the source."""
        for shard in sorted(self.entries):
            if self.entries[shard].failures:
                yield from self._record.notes(self.entries[shard]).failures

    def write_summary(self) -> dict[str, Any]:
        """Write `summary.json` of the finished shards, in a folder also `failures.jsonl`, and return the summary.

        Raises:
            OSError: they cannot be written.
        """
        noted = min((entry.shard for entry in self.entries.values() if entry.truncated), default=None)
        first_truncated = None if noted is None else self._record.notes(self.entries[noted]).truncated[0]["path"]
        summary = summarize(self.job, self.entries, first_truncated)
        with self._resumable():
            write_whole(joined(self.path, SUMMARY), f"{json.dumps(summary, indent=2)}\n".encode())
            if not is_url(self.path):
                with written_whole(joined(self.path, FAILURES)) as file:
                    for failure in self.failures():
                        file.write(f"{json.dumps(failure, ensure_ascii=False)}\n".encode())
        return summary

    def _exists(self, entry: ShardEntry) -> bool:
        path = os.path.join(self.path, shard_name(entry.shard))
        return os.path.exists(path) and os.path.getsize(path) == entry.bytes

    def _names(self) -> list[str]:
        return list(objects_below(self.path)) if is_url(self.path) else os.listdir(self.path)

    def _remove_remains(self) -> None:
        if is_url(self.path):
            discard_unfinished(self.path)
            return
        for name in self._names():
            if re.fullmatch(r"\.[0-9a-f]{16}\.tmp", name):
                os.unlink(os.path.join(self.path, name))

    @contextlib.contextmanager
    def _resumable(self) -> Iterator[None]:
        """Add to the error of a failed write that no finished shard is lost."""
        try:
            yield
        except OSError as error:
            done = f"{len(self.entries)} of {len(self.job.shards())} shards are done"
            raise type(error)(f"{error} {done}; the same command resumes from there.") from error


def failures_place(output: str | os.PathLike[str]) -> str:
    """The place where an output lists the clips that could not be encoded, in words."""
    return f"failures/ in {public_text(str(output))}" if is_url(output) else f"{FAILURES} in {output}"


def summarize(job: Job, entries: Mapping[int, ShardEntry], first_truncated: str | None) -> dict[str, Any]:
    """Summary of a job's finished shards, as in `summary.json`."""
    num_samples = sum(entry.num_samples for entry in entries.values())
    num_ids = sum(entry.num_ids for entry in entries.values())
    seconds = sum(entry.seconds for entry in entries.values())
    audio = num_samples / job.metadata.sampling_rate
    return {
        "complete": len(entries) == len(job.shards()),
        "clips": sum(entry.rows for entry in entries.values()),
        "failures": sum(entry.failures for entry in entries.values()),
        "truncated": sum(entry.truncated for entry in entries.values()),
        "first_truncated": first_truncated,
        "hours": audio / 3600,
        "ids": num_ids,
        "ids_per_second": num_ids / audio if audio else None,
        "audio_hours_per_hour": audio / seconds if seconds else None,
        "seconds": seconds,
        "shards": len(entries),
        "corpus": {"kind": job.kind, "clips": job.source_rows, "digest": job.source_digest},
        "remarks": list(job.remarks),
        **asdict(job.metadata),
        "levels": list(job.metadata.levels),
    }


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the bytes of a file or object, in hexadecimal digits."""
    with open_parts(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
