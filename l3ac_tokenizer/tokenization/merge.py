"""`merge_corpora`: the folders of all jobs of a corpus to one, verified."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from ..urls import is_url, joined, public_text
from .errors import CorpusError
from .output import OutputFolder, file_sha256, locked
from .record import FinishedShards, Record, record_of
from .spec import Job, shard_name


def merge_corpora(parts: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> dict[str, Any]:
    """Join the outputs of all jobs of a corpus into the folder that a single job would have written.

    Shards on the same disk are linked, others copied, within one object storage by its server. The same call resumes
    after an interruption.

    Args:
        parts: the folder or URL of every job, in any order.
        output: folder, created if necessary, or URL.

    Returns:
        The summary of the whole corpus.

    Raises:
        CorpusError: the parts are not the jobs of one corpus; one is missing, given twice or not finished; or a shard
            differs from its entry in the manifest.
        OSError: a file cannot be read or written.
    """
    jobs: dict[int, tuple[str, Job, FinishedShards, Record]] = {}
    first: Job | None = None
    for part in parts:
        place = str(part) if is_url(part) else str(Path(part))
        record = record_of(place)
        job, entries = record.read()
        part = public_text(place)
        if job is None:
            raise CorpusError(f"{part} has no manifest: give the output folders of `l3ac tokenize`.")
        first = first or job
        differences = first.differences(dataclasses.replace(job, shard_index=first.shard_index))
        if differences:
            others = public_text(os.fspath(parts[0]))
            raise CorpusError(f"{part} is of another corpus or model than {others}: {'; '.join(differences)}.")
        if job.shard_index in jobs:
            raise CorpusError(
                f"{public_text(jobs[job.shard_index][0])} and {part} are both job {job.shard_index}: give one."
            )
        jobs[job.shard_index] = place, job, entries, record
    if first is None:
        raise CorpusError("there is nothing to merge: give the output folders of all jobs.")
    if missing := _missing(range(first.num_shards), jobs):
        raise CorpusError(f"of {first.num_shards} jobs, number {missing} is missing: give its folder too.")
    for place, job, entries, _ in jobs.values():
        _verify(place, job, entries)
    with locked(output):
        folder = OutputFolder(output, dataclasses.replace(first, num_shards=1, shard_index=0), {})
        folder.prepare()
        for shard in folder.pending():
            place, _, entries, record = jobs[shard % first.num_shards]
            folder.adopt(joined(place, shard_name(shard)), entries[shard], record.notes(entries[shard]))
        return folder.write_summary()


def _verify(place: str, job: Job, entries: FinishedShards) -> None:
    """Refuse a part that is not finished, or whose files have changed."""
    part = public_text(place)
    if missing := _missing(job.shards(), entries):
        raise CorpusError(f"{part} is not finished and lacks shard {missing}: run its command again.")
    for shard in job.shards():
        file, entry = joined(part, shard_name(shard)), entries[shard]
        try:
            digest = file_sha256(joined(place, shard_name(shard)))
        except FileNotFoundError as error:
            raise CorpusError(f"{file} is missing: run the command of {part} again.") from error
        if digest != entry.sha256:
            raise CorpusError(
                f"{file} has changed since it was written: delete it, and run the command of {part} again."
            )
        found, records = entry.rows + entry.failures, len(job.rows_of(shard))
        if found < records or (found > records and not job.metadata.in_segments):
            raise CorpusError(f"{file} has {entry.rows} rows where others are expected: tokenize {part} again.")


def _missing(numbers: Sequence[int], there: Container[int]) -> str:
    """Some of the numbers that are not there, as text; the numbers are stated by others, and may be very many."""
    some = list(itertools.islice((number for number in numbers if number not in there), 11))
    shown = ", ".join(map(str, some[:10]))
    return shown if len(some) <= 10 else f"{shown} and more"
