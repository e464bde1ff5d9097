"""Which file is made from which: single files, folders mirrored, standard input and output."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import files_below
from .options import UsageError


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `"-"` is standard input or output."""

    source: str
    target: str


def plan_jobs(
    inputs: Sequence[str], output: str, source_suffixes: Collection[str], target_suffixes: Sequence[str]
) -> list[Job]:
    """Jobs for all inputs, in their order.

    One input file may go to an output file. Else the output is a folder, which gets the name of each file
    with the first of `target_suffixes`; folders among the inputs give their files that end in one of
    `source_suffixes`, at the same places below the output folder.

    Raises:
        UsageError: the inputs and the output do not fit together.
        ValueError: a folder without files to read, or two inputs that would be written to one name.
    """
    if len(inputs) == 1 and not os.path.isdir(inputs[0]) and _names_file(output, target_suffixes):
        return [Job(inputs[0], output)]
    if "-" in inputs:
        raise UsageError(f"standard input goes to one file: give -o NAME{target_suffixes[0]} or -o -.")
    if output == "-":
        raise UsageError("standard output takes one file: give -o FOLDER for several.")
    jobs: list[Job] = []
    for source in inputs:
        if os.path.isdir(source):
            names = sorted(os.path.relpath(path, source) for path in files_below(source, source_suffixes))
            if not names:
                kinds = ", ".join(sorted(source_suffixes))
                raise ValueError(f"{source} holds no files to read: it needs files in {kinds}.")
            pairs = [(os.path.join(source, name), name) for name in names]
        else:
            pairs = [(source, os.path.basename(source))]
        for path, name in pairs:
            jobs.append(Job(path, os.path.join(output, Path(name).with_suffix(target_suffixes[0]))))
    _refuse_equal_targets(jobs)
    return jobs


def make_folder_of(target: str) -> None:
    """Make the folder that `target` will lie in.

    Raises:
        OSError: it cannot be made.
    """
    folder = os.path.dirname(target)
    if target == "-" or not folder:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"cannot make the folder {folder}: {reason}; choose another output.") from error


def _names_file(output: str, suffixes: Sequence[str]) -> bool:
    """Whether `output` is meant as a file (or a device) rather than a folder."""
    if output == "-" or (os.path.exists(output) and not os.path.isdir(output) and not os.path.isfile(output)):
        return True
    if os.path.isdir(output) or output.endswith(("/", os.sep)):
        return False
    suffix = Path(output).suffix.lower()
    if suffix and suffix not in suffixes:
        raise UsageError(f"{output} must end in {' or '.join(suffixes)}, or in / where a folder is meant.")
    return bool(suffix)


def _refuse_equal_targets(jobs: Sequence[Job]) -> None:
    made_from: dict[str, str] = {}
    for job in jobs:
        if job.target in made_from:
            raise ValueError(
                f"{made_from[job.target]} and {job.source} would both be written to {job.target}: rename one."
            )
        made_from[job.target] = job.source
