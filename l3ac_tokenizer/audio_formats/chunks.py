"""Containers of chunks (WAV, AIFF, W64, CAF, MP4, Matroska), and other headers that state a size (AU, NIST SPHERE)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .parts import Part, bytes_at, find

_UNKNOWN_32 = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 1 << 32))
"""Sizes that programs write where they cannot go back to the header: the largest ones, less a header's length."""

_W64_TAIL = bytes.fromhex("2e91cf11a5d628db04c10000")


def is_wav(head: bytes) -> bool:
    """Whether WAV, or RF64, begins with these 12 bytes."""
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"


def is_aiff(head: bytes) -> bool:
    """Whether AIFF begins with these 12 bytes."""
    return head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")


def is_w64(head: bytes) -> bool:
    """Whether Sony's Wave64 begins with these 12 bytes."""
    return head[:4] == b"riff" and head[4:8] == _W64_TAIL[:4]


def _is_unknown(size: int) -> bool:
    return any(size in sizes for sizes in _UNKNOWN_32)


def _is_chunk(head: bytes, left: int, order: str, width: int) -> bool:
    """Whether what follows the audio, `left` bytes, is a chunk and not more audio that the header does not know of."""
    name, rest = head[:4], head[4 : 4 + width]
    if not re.fullmatch(_NAME, name) or len(rest) < width:
        return False
    return int.from_bytes(rest, "little" if order == "<" else "big") <= left - 4 - width or name in _COMMON_CHUNKS


_NAME = rb"[A-Za-z0-9 _\-()]{4}"
_COMMON_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"PEAK", b"JUNK", b"FLLR", b"COMT", b"free")


class _Data(NamedTuple):
    """The chunk of samples: where its size stands and in how many bytes, the size, and where the samples begin."""

    place: int
    width: int
    size: int
    begin: int


def _chunked(
    file: BinaryIO, start: int, end: int, data: _Data, order: str, align: int, *, known: bool, pad: int = 2
) -> Part:
    """The part of one chunk of samples, its size corrected where it is unknown or too small."""
    stop = data.begin + data.size
    if known and data.size and stop <= end:
        for after in dict.fromkeys((stop + -data.size % pad, stop)):
            left = end - after
            head = bytes_at(file, after, 12)
            if left <= 0 or (left < 8 and not any(head)) or left < align:
                return Part(start, end)
            if is_wav(head) or is_aiff(head):  # another file behind this one
                return Part(start, after)
            if _is_chunk(head, left, order, data.width):
                return Part(start, end)
    elif known and not data.size and _is_chunk(bytes_at(file, stop, 12), end - stop, order, data.width):
        return Part(start, end)  # really empty
    end = _next_file(file, start, data.begin, end)  # in samples only where the size is wrong
    there = end - data.begin
    correct = _number(min(there, (1 << 8 * data.width) - 1), data.width, order)
    correction = ((data.place - start, correct),)
    if known and data.size > there:
        return Part(start, end, True, there / data.size, corrections=correction if data.width == 8 else ())
    return Part(start, end, corrections=correction)


def _next_file(file: BinaryIO, start: int, position: int, end: int) -> int:
    """Start of another WAV or AIFF file, from `position` on; `end` if there is none."""
    mark = bytes_at(file, start, 4)
    while (position := find(file, mark, position, end)) >= 0:
        head = bytes_at(file, position, 16)
        if (is_wav(head) or is_aiff(head)) and re.fullmatch(_NAME, head[12:]):
            return position
        position += 4
    return end


def _number(value: int, width: int, order: str) -> bytes:
    return value.to_bytes(width, "little" if order == "<" else "big")


def _chunks(file: BinaryIO, position: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, size and content's position of each chunk with a size of 4 bytes."""
    while len(head := bytes_at(file, position, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        yield name, size, position + 8
        position += 8 + size + size % 2
        if position > end:
            return


def wav(file: BinaryIO, start: int, end: int) -> Part:
    """WAV, and RF64 with its 64-bit size."""
    magic = bytes_at(file, start, 4)
    order = ">" if magic == b"RIFX" else "<"
    align, long = 1, None
    for name, size, begin in _chunks(file, start + 12, end, order):
        if name == b"fmt ":
            (align,) = struct.unpack(f"{order}H", bytes_at(file, begin + 12, 2))
        elif name == b"ds64" and magic == b"RF64":
            (long,) = struct.unpack("<Q", bytes_at(file, begin + 8, 8))
            place = begin + 8
        elif name == b"data":
            if long is not None and size == 0xFFFFFFFF:
                known = long < 1 << 62
                data = _Data(place, 8, long, begin)
            else:
                known = not (_is_unknown(size) and size > end - begin)
                data = _Data(begin - 4, 4, size, begin)
            return _chunked(file, start, end, data, order, align, known=known)
    return _without_samples(file, start, end, order)


def aiff(file: BinaryIO, start: int, end: int) -> Part:
    """AIFF and AIFF-C; COMM states the number of samples, too."""
    samples = None
    for name, size, begin in _chunks(file, start + 12, end, ">"):
        if name == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", bytes_at(file, begin, 8))
            kind = bytes_at(file, begin + 18, 4) if size > 18 else b"NONE"
            if kind in (b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"):
                samples = frames * channels * -(-bits // 8)
        elif name == b"SSND":
            skipped = 8
            known = not (_is_unknown(size) and size > end - begin)
            if known and size <= skipped:
                known = _is_chunk(bytes_at(file, begin + skipped, 8), end - begin - skipped, ">", 4)
            if not known and samples and not _is_unknown(samples) and samples > (there := end - begin - skipped):
                return Part(start, end, True, there / samples)
            return _chunked(file, start, end, _Data(begin - 4, 4, size, begin), ">", 1, known=known)
    return _without_samples(file, start, end, ">")


def _without_samples(file: BinaryIO, start: int, end: int, order: str) -> Part:
    """A file that has no chunk of samples; it is cut if more should follow."""
    (size,) = struct.unpack(f"{order}I", bytes_at(file, start + 4, 4))
    return Part(start, end, cut=start + 8 + size > end and not _is_unknown(size))


def w64(file: BinaryIO, start: int, end: int) -> Part:
    """Sony's Wave64."""
    position = start + 40
    while len(head := bytes_at(file, position, 24)) == 24:
        (size,) = struct.unpack("<Q", head[16:])
        if head[:4] == b"data":
            there = end - position - 24
            known = 24 < size < 1 << 62  # libsndfile reads an unknown or too small one to the file's end
            return Part(start, end, True, there / (size - 24)) if known and size - 24 > there else Part(start, end)
        if size < 24:
            break
        position += size + -size % 8
    return Part(start, end)


def au(file: BinaryIO, start: int, end: int) -> Part:
    """AU of either byte order."""
    order = ">" if bytes_at(file, start, 4) == b".snd" else "<"
    offset, size = struct.unpack(f"{order}II", bytes_at(file, start + 4, 8))
    there = end - start - offset
    if size > there and not _is_unknown(size):
        return Part(start, end, True, there / size)
    return Part(start, end, corrections=() if size == there else ((8, b"\xff" * 4),))


def caf(file: BinaryIO, start: int, end: int) -> Part:
    """Apple's CAF."""
    position = start + 8
    while len(head := bytes_at(file, position, 12)) == 12:
        name, size = struct.unpack(">4sq", head)
        if name == b"data":
            known = size > 0
            return _chunked(file, start, end, _Data(position + 4, 8, size, position + 12), ">", 1, known=known, pad=1)
        if size < 0:
            break
        position += 12 + size
    return Part(start, end)


def nist(file: BinaryIO, start: int, end: int) -> Part:
    """NIST SPHERE; a size is stated only for samples that are not compressed."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", bytes_at(file, start, 1024), re.MULTILINE))
    try:
        size = (
            int(bytes_at(file, start + 8, 8)),
            *(int(fields[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")),
        )
    except (KeyError, ValueError):
        return Part(start, end)
    stated, there = size[1] * size[2] * size[3], end - start - size[0]
    compressed = b"shorten" in fields.get(b"sample_coding", b"")
    return Part(start, end, True, there / stated) if stated > there and not compressed else Part(start, end)


def mp4(file: BinaryIO, start: int, end: int) -> Part:
    """MP4 and its relatives: the last box is whole or not."""
    position = start
    while position < end and len(head := bytes_at(file, position, 16)) >= 8:
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size == 0:  # up to the file's end
            break
        if size < 8:
            return Part(start, end)
        position += size
    return Part(start, end, cut=position > end)


def matroska(file: BinaryIO, start: int, end: int) -> Part:
    """Matroska and WebM: the segment is whole or not."""
    position = start
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        head = bytes_at(file, position, 12)
        if head[:4] != name:
            return Part(start, end)
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        position += 4 + width + size
    unknown = size == (1 << 7 * width) - 1
    return Part(start, end, cut=position > end and not unknown)
