"""Output folder of a job: locked by one run at a time, with complete shards only, and a manifest of the finished ones.

`manifest.jsonl` has the job in its first line and then a line for each finished shard. A shard is written under a
temporary name, renamed, and only then entered in the manifest, each step forced to disk. So whenever a run is killed,
every shard in the manifest exists, and every other one is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from ..files import atomic_write, explained, make_folder, open_own
from ..parsing import parse_json
from .arrow import shard_schema, write_shard
from .errors import CorpusError
from .spec import Job, shard_name

MANIFEST, SUMMARY, FAILURES, LOCK = "manifest.jsonl", "summary.json", "failures.jsonl", ".lock"


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard: one line of the manifest.

    Attributes:
        shard: its number.
        rows: number of its clips.
        num_samples: total number of their samples.
        num_ids: total number of their ids.
        bytes: size of its file.
        sha256: hexadecimal digest of its file.
        seconds: time since the previous shard.
        failures: id, path and reason of each clip that could not be encoded.
        truncated: id, path and note of each clip that was encoded as far as its truncated file goes.
    """

    shard: int
    rows: int
    num_samples: int
    num_ids: int
    bytes: int
    sha256: str
    seconds: float
    failures: list[dict[str, str]]
    truncated: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock a folder, created if necessary, for this process; the system unlocks it however the process ends.

    Raises:
        CorpusError: another run has locked it.
        OSError: it cannot be created.
    """
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


def read_shard_manifest(folder: str | os.PathLike[str]) -> tuple[Job | None, dict[int, ShardEntry]]:
    """The job and the finished shards of a folder; None where no run has started in it.

    An unfinished last line, which a killed run may leave, is ignored.

    Raises:
        CorpusError: the manifest is damaged, or the file is something else.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        return None, {}
    first, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
    if not first:
        return None, {}
    job = Job.from_json(first, str(path))
    entries: dict[int, ShardEntry] = {}
    for number, line in enumerate(lines, 2):
        try:
            entry = ShardEntry(**parse_json(line))
        except (ValueError, TypeError) as error:
            raise CorpusError(f"{path} is damaged in line {number} ({error}): remove that line.") from error
        entries[entry.shard] = entry
    return job, entries


class OutputFolder:
    """Folder to which a job's shards are written; the caller holds its lock.

    Attributes:
        path: of the folder.
        job: being written.
        entries: finished shards by number.
    """

    def __init__(self, path: str | os.PathLike[str], job: Job, columns: Mapping[str, pa.DataType]) -> None:
        self.path = Path(path)
        self.job = job
        self.entries: dict[int, ShardEntry] = {}
        self._schema = shard_schema(columns, job.metadata)

    def prepare(self) -> None:
        """Find the finished shards, and remove the remains of a killed run.

        Raises:
            CorpusError: the folder holds another job, or shards without a manifest.
            OSError: it cannot be written.
        """
        for name in os.listdir(self.path):
            if re.fullmatch(r"\.[0-9a-f]{16}\.tmp", name):
                (self.path / name).unlink()
        previous, entries = read_shard_manifest(self.path)
        if previous is None:
            if any(self.path.glob("shard-*.parquet")):
                raise CorpusError(f"{self.path} holds shards and no {MANIFEST}: choose another output.")
            with atomic_write(self.path / MANIFEST) as file:
                file.write(self.job.to_json().encode() + b"\n")
                _to_disk(file)
            return
        differences = previous.differences(self.job)
        if differences:
            raise CorpusError(
                f"{self.path} was started with other values: {'; '.join(differences)}; use those it was started with, "
                "or choose another output."
            )
        self.job = replace(self.job, shard_starts=previous.shard_starts)  # another version may divide otherwise
        _cut_unfinished_line(self.path / MANIFEST)
        self.entries = {shard: entry for shard, entry in entries.items() if self._exists(entry)}

    def pending(self) -> list[int]:
        """Numbers of the shards that are not finished."""
        return [shard for shard in self.job.shards() if shard not in self.entries]

    def commit(self, shard: int, table: pa.Table, seconds: float) -> None:
        """Write a shard from its rows in order, failed ones included, and enter it in the manifest.

        Raises:
            OSError: the disk is full, or cannot be written for another reason; the manifest is unchanged.
        """
        failed = table.filter(table["error"].is_valid()).select(["id", "path", "error"]).to_pylist()
        truncated = table.filter(table["truncated"].is_valid()).select(["id", "path", "truncated"]).to_pylist()
        kept = table.filter(table["error"].is_null()).select(self._schema.names)
        kept = pa.Table.from_arrays(kept.columns, schema=self._schema)
        target = self.path / shard_name(shard)
        with self._resumable(), atomic_write(target) as file:
            write_shard(kept, file)
            _to_disk(file)
        self._enter(
            ShardEntry(
                shard=shard,
                rows=kept.num_rows,
                num_samples=int(kept["num_samples"].to_numpy().sum()),
                num_ids=len(kept["ids"].combine_chunks().flatten()),
                bytes=target.stat().st_size,
                sha256=file_sha256(target),
                seconds=round(seconds, 3),
                failures=failed,
                truncated=truncated,
            )
        )

    def adopt(self, shard: Path, entry: ShardEntry) -> None:
        """Link a finished shard of another folder, or copy it from another disk, and enter it in the manifest.

        Raises:
            OSError: the disk is full, or cannot be written for another reason; the manifest is unchanged.
        """
        target = self.path / shard_name(entry.shard)
        with self._resumable():
            target.unlink(missing_ok=True)
            try:
                os.link(shard, target)
            except OSError:
                with atomic_write(target) as file, open(shard, "rb") as source:
                    shutil.copyfileobj(source, file)
                    _to_disk(file)
        self._enter(entry)

    def _enter(self, entry: ShardEntry) -> None:
        with self._resumable():
            _append_line(self.path / MANIFEST, json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n")
        self.entries[entry.shard] = entry

    def failures(self) -> list[dict[str, str]]:
        """Clips of the finished shards that could not be encoded, in the order of the source."""
        return [failure for _, entry in sorted(self.entries.items()) for failure in entry.failures]

    def write_summary(self) -> dict[str, Any]:
        """Write `summary.json` and `failures.jsonl` of the finished shards, and return the summary.

        Raises:
            OSError: they cannot be written.
        """
        summary = summarize(self.job, self.entries)
        with self._resumable():
            for name, lines in (
                (SUMMARY, [json.dumps(summary, indent=2)]),
                (FAILURES, [json.dumps(failure, ensure_ascii=False) for failure in self.failures()]),
            ):
                with atomic_write(self.path / name) as file:
                    file.write("".join(f"{line}\n" for line in lines).encode())
        return summary

    def _exists(self, entry: ShardEntry) -> bool:
        path = self.path / shard_name(entry.shard)
        return path.exists() and path.stat().st_size == entry.bytes

    @contextlib.contextmanager
    def _resumable(self) -> Iterator[None]:
        """Add to the error of a failed write that no finished shard is lost."""
        try:
            yield
        except OSError as error:
            done = f"{len(self.entries)} of {len(self.job.shards())} shards are done"
            raise type(error)(f"{error} {done}; the same command resumes from there.") from error


def summarize(job: Job, entries: dict[int, ShardEntry]) -> dict[str, Any]:
    """Summary of a job's finished shards, as in `summary.json`."""
    num_samples = sum(entry.num_samples for entry in entries.values())
    num_ids = sum(entry.num_ids for entry in entries.values())
    seconds = sum(entry.seconds for entry in entries.values())
    audio = num_samples / job.metadata.sampling_rate
    truncated = [clip for _, entry in sorted(entries.items()) for clip in entry.truncated]
    return {
        "complete": len(entries) == len(job.shards()),
        "clips": sum(entry.rows for entry in entries.values()),
        "failures": sum(len(entry.failures) for entry in entries.values()),
        "truncated": len(truncated),
        "first_truncated": truncated[0]["path"] if truncated else None,
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
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _append_line(path: Path, line: bytes) -> None:
    """Append a line and force it to disk, or leave the file as it was."""
    with open_own(path, "ab") as file, explained(f"cannot write {path}", "free some space"):
        end = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
            _to_disk(file)
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _cut_unfinished_line(path: Path) -> None:
    """Remove an unfinished last line, which a run left that was killed while writing it."""
    with open_own(path, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
