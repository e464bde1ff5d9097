"""Ids of clips that are unique in a corpus of several files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...files import escaped
from ...urls import without_query


def file_names(files: Sequence[str]) -> list[str]:
    """Names of files in ids: their paths below the folder that all have in common, without suffixes."""
    paths = [os.path.abspath(without_query(file)) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [escaped(Path(os.path.splitext(os.path.relpath(path, common))[0]).as_posix()) for path in paths]


def unique_ids(names: Sequence[str], files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Unique ids for clips whose names may repeat, and remarks on how they were made.

    Names that are unique stay. Otherwise all get the name of their file before them, `FILE/NAME`, and those that repeat
    within a file their place in it behind them, `FILE/NAME:PLACE`, counted from 1.

    Args:
        names: of the clips.
        files: the file of each clip, in order.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not repeated:
        return list(names), []
    long = [f"{file}/{name}" for name, file in zip(names, files, strict=True)]
    counts = Counter(long)
    seen: Counter[str] = Counter()
    ids = []
    for name in long:
        seen[name] += 1
        ids.append(name if counts[name] == 1 else f"{name}:{seen[name]}")
    example = ids[names.index(repeated[0])]
    return ids, [
        f"{len(repeated)} ids name several clips: all ids begin with the name of their file, such as {example}."
    ]
