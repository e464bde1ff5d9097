"""FLAC: the number of samples that STREAMINFO states against the last frame, and files joined from several.

Layout of metadata and frames, and both checksums: RFC 9639.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .parts import Mismatch, Part, after_id3, before_id3v1, bytes_at, find

_INFO = 42  # bytes of the mark and of STREAMINFO, which comes first
_HEADER = 16  # bytes that a frame's header has at most


class _Stream(NamedTuple):
    """STREAMINFO: rate in Hz, channels, samples of a block, stated samples (0: unknown) and the number that holds them.

    Then the bytes that a frame may have, where the frames begin, and a later position, if known, still among them.
    """

    rate: int
    channels: int
    block: int
    stated: int
    packed: int
    reach: int
    begin: int
    later: int


def flac_part(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    """The file that begins at `start`, up to another one behind it; see `parts_of`.

    Raises:
        Mismatch: the other one has another rate or number of channels.
    """
    stream = _stream(file, start, end)
    if stream is None:
        return Part(start, end, cut=end - start < _INFO and _may_be_info(bytes_at(file, start + 4, 4)))
    stop, end = _borders(file, stream, end)
    begin = max(stream.begin, stop - stream.reach)
    tail = bytes_at(file, begin, max(0, stop - begin))
    frames = list(_frames(tail, stream.block))
    stated = stream.stated
    at_end = [frame for frame in frames if stated and frame.after == stated]

    def corrected(samples: int, cut: bool) -> Part:
        number = (stream.packed & ~((1 << 36) - 1) | samples).to_bytes(8, "big")
        present = samples / stated if cut and stated else None
        return Part(start, end, cut, present, corrections=((18, number),))

    if at_end and not thorough:
        return Part(start, end)
    complete = next((frame for frame in reversed(frames) if _crc16(tail[frame.place :]) == 0), None)
    if complete is not None:
        samples = complete.after
        return Part(start, end) if samples == stated else corrected(samples, samples < stated)
    within = at_end or [frame for frame in frames if not stated or frame.after <= stated]
    if not within:
        only = stop - stream.begin < stream.reach  # the only frame is cut; otherwise something long follows the last
        return Part(start, end, only, 0.0 if only and stated else None)
    first = within[-1].first
    return corrected(first, True) if first else Part(start, end, True, 0.0 if stated else None)


def _stream(file: BinaryIO, start: int, end: int) -> _Stream | None:
    """The stream whose file begins at `start`; None if that is not there in full."""
    info = bytes_at(file, start + 8, max(0, min(34, end - start - 8)))
    if len(info) < 34:
        return None
    (block,) = struct.unpack(">H", info[2:4])
    most = int.from_bytes(info[7:10], "big")
    packed = int.from_bytes(info[10:18], "big")
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    reach = (most or block * channels * (bits + 1) // 8 + 64) + _HEADER
    begin, table, last = start + 4, b"", False
    while not last and begin < end:
        head = bytes_at(file, begin, 4)
        last, size = head[0] & 0x80 > 0, int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 3:
            table = bytes_at(file, begin + 4, size)
        begin += 4 + size
    begin = min(begin, end)
    points = struct.iter_unpack(">QQ2x", table[: len(table) // 18 * 18])
    places = (
        begin + offset
        for sample, offset in reversed(list(points))
        if begin + offset + _HEADER <= end
        and (frame := _frame(bytes_at(file, begin + offset, _HEADER), block))
        and frame.first == sample
    )
    later = next(places, begin)
    return _Stream(packed >> 44, channels, block, packed & (1 << 36) - 1, packed, reach, begin, later)


# --- joined files ---------------------------------------------------------------------------------------------


def _borders(file: BinaryIO, stream: _Stream, end: int) -> tuple[int, int]:
    """Ends of a stream's frames and of its part: the first before tags; both before the tags in front of another file.

    Raises:
        Mismatch: see `flac_part`.
    """
    place = stream.later
    while (place := find(file, b"fLaC", place, end)) >= 0:
        if _begins_file(file, place, end):
            stop = before_id3v1(file, stream.begin, _before_id3(file, stream.later, place))
            if not _is_in_frame(file, stream, stop, end):
                _check_same(stream, _stream(file, place, end))
                return stop, stop
        place += 4
    return before_id3v1(file, stream.begin, end), end


def _begins_file(file: BinaryIO, place: int, end: int) -> bool:
    """Whether STREAMINFO and, behind all metadata, the first frame follow the mark, as far as they are there."""
    if not _may_be_info(bytes_at(file, place + 4, min(4, end - place - 4))):
        return False
    stream = _stream(file, place, end)
    if stream is None or stream.begin + _HEADER > end:
        return True
    frame = _frame(bytes_at(file, stream.begin, _HEADER), stream.block)
    return frame is not None and frame.first == 0


def _may_be_info(head: bytes) -> bool:
    """Whether the bytes behind the mark, 4 of them or as many as are there, are those in front of STREAMINFO."""
    return head[:1] in (b"", b"\0", b"\x80") and b"\0\0\x22".startswith(head[1:])


def _before_id3(file: BinaryIO, begin: int, end: int) -> int:
    """Start of the ID3v2 tags that end at `end`; `end` if none do."""
    place = begin
    while (place := find(file, b"ID3", place, end)) >= 0:
        if after_id3(file, place, end + 1) == end:
            return place
        place += 3
    return end


def _is_in_frame(file: BinaryIO, stream: _Stream, stop: int, end: int) -> bool:
    """Whether a whole frame spans `stop`, which is then in the midst of audio, whatever the bytes there look like."""
    end = before_id3v1(file, stream.begin, end)
    begin = max(stream.begin, stop - stream.reach)
    data = bytes_at(file, begin, min(end, stop + stream.reach) - begin)
    stop, end = stop - begin, end - begin
    frames = list(_frames(data, stream.block))
    places = {frame.first: [frame.place] for frame in frames if frame.place > stop}
    behind = [end, *(match.start() for match in re.finditer(rb"fLaC|ID3|TAG", data))]  # the last frame
    behind = [place for place in behind if stop < place <= len(data)]
    for frame in frames:
        ends = places.get(frame.after, []) + (behind if stream.stated in (0, frame.after) else [])
        is_whole = frame.place < stop and any(_crc16(data[frame.place : place]) == 0 for place in ends)
        if is_whole and _crc16(data[frame.place : stop]) != 0:  # where it is 0, the frame ends at `stop`
            return True
    return False


def _check_same(one: _Stream, other: _Stream | None) -> None:
    if other is not None and (one.rate, one.channels) != (other.rate, other.channels):
        raise Mismatch(
            f"rate {one.rate} Hz, channels {one.channels}; then rate {other.rate} Hz, channels {other.channels}"
        )


# --- frames ---------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    """Header of a frame: where it begins, its first sample, and the first sample behind it."""

    place: int
    first: int
    after: int


def _frames(data: bytes, block: int) -> Iterator[_Frame]:
    """All frames whose headers are in the data."""
    place = data.find(b"\xff")
    while place >= 0:
        if data[place + 1 : place + 2] in (b"\xf8", b"\xf9"):
            frame = _frame(data[place : place + _HEADER], block)
            if frame is not None:
                yield frame._replace(place=place)
        place = data.find(b"\xff", place + 1)


_BLOCKS = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}


def _frame(data: bytes, block: int) -> _Frame | None:
    """The frame whose header begins here, in a stream of `block` samples a frame; None if none does."""
    if len(data) < 6 or data[0] != 0xFF or data[1] & 0xFE != 0xF8:
        return None
    if data[2] >> 4 == 0 or data[2] & 15 == 15 or data[3] >> 4 > 10 or data[3] & 1:
        return None
    extra = max(0, 7 - (data[4] ^ 0xFF).bit_length())  # UTF-8's scheme, up to 36 bits
    number = data[4] & (0x7F >> extra + 1 if extra else 0x7F)
    position = 5
    for byte in data[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
        position += 1
    sizes, rates = data[2] >> 4, data[2] & 15
    width = {6: 1, 7: 2}.get(sizes, 0)
    count = int.from_bytes(data[position : position + width], "big") + 1 if width else _BLOCKS[sizes]
    position += width + {12: 1, 13: 2, 14: 2}.get(rates, 0)
    if len(data) <= position or _crc(data[: position + 1], _CRC8, 8):
        return None
    first = number if data[1] & 1 else number * block
    return _Frame(0, first, first + count)


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


def _crc(data: bytes, table: list[int], bits: int) -> int:
    """Checksum of data with its checksum: 0 where they agree."""
    value = 0
    for byte in data:
        value = (value << 8 & (1 << bits) - 1) ^ table[value >> bits - 8 ^ byte]
    return value


def _crc16(frame: bytes) -> int:
    return _crc(frame, _CRC16, 16)
