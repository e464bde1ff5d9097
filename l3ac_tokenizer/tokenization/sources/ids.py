"""Ids of clips that are unique in a corpus of several files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


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
