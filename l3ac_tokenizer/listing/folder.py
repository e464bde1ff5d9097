"""Audio files below a folder, and what is left out there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from ..audio import OTHER_AUDIO_SUFFIXES, readable_suffixes
from ..files import files_below


class AudioBelow(NamedTuple):
    """The result of `audio_below`.

    Attributes:
        paths: sorted, relative to the folder, with `/`.
        left_out: what else there is and is not read, and why: one sentence each.
    """

    paths: list[str]
    left_out: list[str]


def audio_below(
    root: str | os.PathLike[str], suffixes: Collection[str] | None = None, *, allow_outside: bool = False
) -> AudioBelow:
    """The audio files at any depth of a folder, hidden ones excepted.

    Args:
        root: the folder.
        suffixes: of the wanted files, in lower case; None: of all formats that can be read.
        allow_outside: also read what links to places outside the folder lead to.
    """
    wanted = readable_suffixes() if suffixes is None else suffixes
    unreadable: list[OSError] = []
    paths: list[str] = []
    others: dict[str, list[str]] = defaultdict(list)
    outside: list[str] = []
    left_outside = None if allow_outside else outside.append
    for path in files_below(root, {*wanted, *OTHER_AUDIO_SUFFIXES}, unreadable.append, left_outside):
        relative, suffix = Path(path).relative_to(root).as_posix(), Path(path).suffix.lower()
        if suffix in wanted:
            paths.append(relative)
        elif suffixes is None:
            others[suffix].append(relative)
    left_out = [*map(not_listed, unreadable), *links_outside(os.fspath(root), outside)]
    if others:
        left_out.append(_formats(os.fspath(root), others))
    return AudioBelow(sorted(paths), left_out)


def _formats(root: str, others: dict[str, list[str]]) -> str:
    counts = ", ".join(f"{len(paths)} {suffix} ({min(paths)})" for suffix, paths in sorted(others.items()))
    return f'{root} has audio in formats that need pip install "l3ac-tokenizer[formats]" to be read: {counts}.'


def links_outside(root: str, links: Sequence[str]) -> list[str]:
    """Remark on links that lead out of a folder; empty if there are none."""
    if not links:
        return []
    return [
        f"{len(links)} links in {root} are left out, such as {min(links)}: they lead out of it; allow such links "
        "(--allow-outside, in Python allow_outside=True) if you know where they come from."
    ]


def not_listed(error: OSError) -> str:
    """Remark on a folder that cannot be listed, from the system's error."""
    reason = error.strerror or type(error).__name__
    return f"{error.filename} is left out, since it cannot be listed ({reason[0].lower() + reason[1:]})."
