"""Pairs of input and output files: single files, mirrored folders, standard input and output."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import make_folder
from .options import UsageError
from .report import say

PLAIN_SUFFIXES = (".npy", ".json", ".txt")
"""Suffixes of files of plain ids, see `id_files`."""


@dataclass(frozen=True)
class FileJob:
    """A file to read and a file to write; `"-"` is standard input or output."""

    source: str
    target: str


def plan_jobs(
    inputs: Sequence[str],
    output: str,
    source_suffixes: Collection[str] | None,
    target_suffixes: Sequence[str],
    *,
    allow_outside: bool = False,
) -> list[FileJob]:
    """The jobs of all inputs, in their order; what is left out is said.

    A single input file may have an output file. Otherwise the output is a folder, in which each file keeps its name,
    with the first of `target_suffixes` in place of its own, or behind it where two names differ in that alone. A folder
    among the inputs stands for all its files with one of `source_suffixes` (None: of audio), and is mirrored below the
    output folder; links that lead out of it are followed with `allow_outside` only.

    Raises:
        UsageError: the inputs and the output do not fit together.
        ValueError: a folder has no files to read, or two inputs would be written to the same file.
    """
    from ..audio import readable_suffixes
    from ..listing.folder import audio_below

    if len(inputs) == 1 and not os.path.isdir(inputs[0]) and _names_file(output, target_suffixes):
        return [FileJob(inputs[0], output)]
    if "-" in inputs:
        raise UsageError(f"standard input has one output file: give -o NAME{target_suffixes[0]} or -o -.")
    if output == "-":
        raise UsageError("standard output takes a single file: give -o FOLDER for several.")
    pairs: list[tuple[str, str]] = []
    for source in inputs:
        if os.path.isdir(source):
            names, remarks = audio_below(source, source_suffixes, allow_outside=allow_outside)
            if not names:
                kinds = ", ".join(sorted(source_suffixes or readable_suffixes()))
                reasons = " ".join(remarks) or f"give a folder with files ending in {kinds}."
                raise ValueError(f"{source} holds no files to read: {reasons}")
            for remark in remarks:
                say(remark)
            pairs += [(os.path.join(source, name), name) for name in names]
        else:
            pairs.append((source, os.path.basename(source)))
    return _named_jobs(pairs, output, target_suffixes[0])


def _named_jobs(pairs: Sequence[tuple[str, str]], output: str, suffix: str) -> list[FileJob]:
    """Jobs from the path and name of each input."""
    stems = Counter(os.path.splitext(name)[0] for _, name in pairs)
    jobs: list[FileJob] = []
    sources: dict[str, str] = {}
    shared = [name for _, name in pairs if stems[os.path.splitext(name)[0]] > 1]
    keeping = set(shared)
    for path, name in pairs:
        kept = name if name in keeping else os.path.splitext(name)[0]
        target = os.path.join(output, *kept.split("/")) + suffix
        if target in sources:
            raise ValueError(f"{sources[target]} and {path} would both be written to {target}: rename one.")
        sources[target] = path
        jobs.append(FileJob(path, target))
    if shared:
        say(f"{len(shared)} names differ in their suffix alone, such as {shared[0]}: their outputs keep it.")
    return jobs


def is_plain(path: str) -> bool:
    """Whether a path names a file of plain ids."""
    return Path(path).suffix.lower() in PLAIN_SUFFIXES


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
