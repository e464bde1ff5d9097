"""Pairs of input and output files: single files, mirrored folders, standard input and output."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import files_below, make_folder
from .options import UsageError


@dataclass(frozen=True)
class FileJob:
    """A file to read and a file to write; `"-"` is standard input or output."""

    source: str
    target: str


def plan_jobs(
    inputs: Sequence[str], output: str, source_suffixes: Collection[str], target_suffixes: Sequence[str]
) -> list[FileJob]:
    """The jobs of all inputs, in their order.

    A single input file may have an output file. Otherwise the output is a folder, in which each file keeps its name,
    with the first of `target_suffixes`. A folder among the inputs stands for all its files with one of
    `source_suffixes`, and is mirrored below the output folder.

    Raises:
        UsageError: the inputs and the output do not fit together.
        ValueError: a folder has no files to read, or two inputs would be written to the same file.
    """
    if len(inputs) == 1 and not os.path.isdir(inputs[0]) and _names_file(output, target_suffixes):
        return [FileJob(inputs[0], output)]
    if "-" in inputs:
        raise UsageError(f"standard input has one output file: give -o NAME{target_suffixes[0]} or -o -.")
    if output == "-":
        raise UsageError("standard output takes a single file: give -o FOLDER for several.")
    jobs: list[FileJob] = []
    for source in inputs:
        if os.path.isdir(source):
            names = sorted(os.path.relpath(path, source) for path in files_below(source, source_suffixes))
            if not names:
                kinds = ", ".join(sorted(source_suffixes))
                raise ValueError(f"{source} holds no files to read: give a folder with files ending in {kinds}.")
            pairs = [(os.path.join(source, name), name) for name in names]
        else:
            pairs = [(source, os.path.basename(source))]
        for path, name in pairs:
            jobs.append(FileJob(path, os.path.join(output, Path(name).with_suffix(target_suffixes[0]))))
    _refuse_equal_targets(jobs)
    return jobs


def make_folder_of(target: str) -> None:
    """Create the folder of a file, unless it exists.

    Raises:
        OSError: it cannot be created.
    """
    folder = os.path.dirname(target)
    if target != "-" and folder:
        make_folder(folder)


def _names_file(output: str, suffixes: Sequence[str]) -> bool:
    """Whether `output` is meant as a file (or a device) rather than a folder."""
    if output == "-" or (os.path.exists(output) and not os.path.isdir(output) and not os.path.isfile(output)):
        return True
    if os.path.isdir(output) or output.endswith(("/", os.sep)):
        return False
    suffix = Path(output).suffix.lower()
    if suffix and suffix not in suffixes:
        raise UsageError(f"{output} must end in {' or '.join(suffixes)}, or in / for a folder.")
    return bool(suffix)


def _refuse_equal_targets(jobs: Sequence[FileJob]) -> None:
    sources: dict[str, str] = {}
    for job in jobs:
        if job.target in sources:
            raise ValueError(
                f"{sources[job.target]} and {job.source} would both be written to {job.target}: rename one."
            )
        sources[job.target] = job.source
