"""Which clips go through the network together."""

from __future__ import annotations

from collections.abc import Sequence


def by_length(seconds: Sequence[float], budget: float) -> list[list[int]]:
    """Positions of clips in groups of similar length, the shortest clips first.

    A group's padded length, clips times longest clip, is at most `budget` seconds; a clip longer than that is
    a group of its own.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(seconds)), key=seconds.__getitem__):
        if groups and (len(groups[-1]) + 1) * seconds[position] <= budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
