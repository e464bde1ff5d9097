"""`Part`, a stretch of an audio file, `Excerpt`, which reads it, and helpers to look at the bytes of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

_BLOCK = 1 << 17  # bytes searched at a time


class DecodingError(Exception):
    """A decoder's reason why it cannot open a file or go on reading it; a phrase."""


class Mismatch(DecodingError):
    """Files of one format stand behind one another that differ in what they must have in common."""


class Truncated(DecodingError):
    """A file ended within its last piece of audio.

    Attributes:
        frames: number of frames that can be read; None: as many as were.
    """

    def __init__(self, reason: str, frames: int | None = None) -> None:
        super().__init__(reason)
        self.frames = frames


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file that a decoder reads as a file of its own.

    Attributes:
        start, stop: where it lies.
        cut: its end is missing.
        gap: something within is missing, so that what follows is not where it was.
        present: what is there of the length that the header states, 0 to 1; None: it states none.
        prefix: bytes that a decoder of excerpts gets before those of the file.
        frames: number of frames (samples of each channel) counted in the file; None: the decoder knows it.
        counted_prefix: `prefix` for a decoder that expects fewer than `frames`.
        corrections: (offset from `start`, bytes) that the decoder gets instead of those of the file.
    """

    start: int
    stop: int
    cut: bool = False
    present: float | None = None
    gap: bool = False
    prefix: bytes = b""
    frames: int | None = None
    counted_prefix: bytes = b""
    corrections: tuple[tuple[int, bytes], ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether a decoder can read the part from the file as it is, where it is the only one."""
        return not self.corrections and self.prefix in (b"", EMPTY_ID3)


EMPTY_ID3 = b"ID3\x04" + bytes(5) + b"\x0a" + bytes(10)
"""An empty tag. Through a file object, libsndfile misses the first frame of MP3 that begins with none."""


class Excerpt:
    """File object for decoders: one part of a file, corrected."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file = file
        self._part = part
        self._size = len(part.prefix) + part.stop - part.start
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position

    def read(self, count: int = -1) -> bytes:
        """As of any file."""
        left = max(0, self._size - self._position)
        count = left if count < 0 else min(count, left)
        prefix = self._part.prefix[self._position :][:count]
        begin = max(0, self._position - len(self._part.prefix))  # in the part
        self._file.seek(self._part.start + begin)
        data = bytearray(self._file.read(count - len(prefix)))
        for place, correct in self._part.corrections:
            first, last = max(place, begin), min(place + len(correct), begin + len(data))
            if first < last:
                data[first - begin : last - begin] = correct[first - place : last - place]
        self._position += len(prefix) + len(data)
        return prefix + bytes(data)


Finder = Callable[[BinaryIO, int, int], "Part | list[Part]"]
"""Finds the part that begins at an offset (the second argument), or all parts up to the file's end (the third)."""


def bytes_at(file: BinaryIO, position: int, count: int) -> bytes:
    """Up to `count` bytes from a position on."""
    file.seek(position)
    return file.read(count)


def find(file: BinaryIO, mark: bytes, position: int, end: int) -> int:
    """Next position of `mark` that ends by `end`, or -1."""
    size = 1 << 12  # grows, so that many marks close together are found in little time
    while position + len(mark) <= end:
        block = bytes_at(file, position, min(size, end - position))
        size = min(2 * size, _BLOCK)
        values = np.frombuffer(block, np.uint8)
        for place in np.flatnonzero(
            (values[:-1] == mark[0]) & (values[1:] == mark[1])
        ):  # 3 times as fast as bytes.find
            if block.startswith(mark, place):
                return position + int(place)
        position += max(1, len(block) - len(mark) + 1)
    return -1


def after_id3(file: BinaryIO, position: int, end: int) -> int:
    """Position behind any ID3v2 tags."""
    while len(head := bytes_at(file, position, 10)) == 10 and head[:3] == b"ID3":
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        position = min(end, position + 10 + length + (10 if head[5] & 0x10 else 0))
    return position


def before_id3v1(file: BinaryIO, start: int, end: int) -> int:
    """Position before an ID3v1 tag that ends at `end`; `end` if none does."""
    return end - 128 if end - 128 > start and bytes_at(file, end - 128, 3) == b"TAG" else end
