"""Ogg: pages, their numbers and marks, and the links of chained files."""

from __future__ import annotations

import struct
from typing import BinaryIO

from .parts import Part, bytes_at, find


def ogg_parts(file: BinaryIO, start: int, end: int) -> list[Part]:
    """A part for each link of a chain; it is cut if its last page is incomplete or not marked as the last."""
    parts: list[Part] = []
    begin = position = start
    beginning = True  # still in the first pages of streams, which all come first
    numbers: dict[int, int] = {}  # of the last page of each stream
    unfinished: set[int] = set()  # streams
    cut = gap = False
    page = start  # the last page
    while position < end and not cut:
        head = bytes_at(file, position, 27)
        if head[:4] != b"OggS"[: len(head)]:
            found = find(file, b"OggS", page + 4, end)  # in the last page too: it may be cut, and another follow
            if found < 0:  # something else follows the last page
                break
            gap, position, page = True, found, found
            continue
        lengths = bytes_at(file, position + 27, head[26]) if len(head) == 27 else b""
        after = position + 27 + len(lengths) + sum(lengths)
        if len(head) < 27 or len(lengths) < head[26] or after > end:
            cut = True
            continue
        flags, serial, number = head[5], *struct.unpack("<II", head[14:22])
        if flags & 2:
            if not beginning:
                parts.append(Part(begin, position, bool(unfinished), gap=gap))
                begin, numbers, unfinished, gap = position, {}, set(), False
            unfinished.add(serial)
        elif number != numbers.get(serial, number - 1) + 1:
            gap = True
        beginning = bool(flags & 2)
        numbers[serial] = number
        if flags & 4:
            unfinished.discard(serial)
        page, position = position, after
    return [*parts, Part(begin, end, cut or bool(unfinished), gap=gap)]
