"""MPEG audio (MP3 and its older layers): frames, their counts, and joined files."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from .parts import EMPTY_ID3, Part, after_id3, before_id3v1, bytes_at


class MpegFrame(NamedTuple):
    """Header of a frame: its length in bytes, samples, sampling rate, channels, and bytes before a Xing header."""

    length: int
    samples: int
    rate: int
    channels: int
    lead: int


_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mpeg_frame(head: bytes) -> MpegFrame | None:
    """The frame whose header begins with these bytes; None for others, and for bit rates that it does not state."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    one = version == 3
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = _BITRATES[1 if one else 2, layer][bitrate - 1] * 1000
    padding = head[2] >> 1 & 1
    channels = 1 if head[3] >> 6 == 3 else 2
    samples = 384 if layer == 1 else 576 if layer == 3 and not one else 1152
    length = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    side = {(True, 1): 17, (True, 2): 32, (False, 1): 9, (False, 2): 17}[one, channels]
    return MpegFrame(length, samples, hertz, channels, 4 + side)


class _Xing(NamedTuple):
    """Header in the first frame: number of the other frames and size of all; None where it does not say."""

    frames: int | None
    size: int | None


def _xing(data: bytes, frame: MpegFrame) -> _Xing | None:
    tag = data[frame.lead :]
    if tag[:4] in (b"Xing", b"Info") and len(tag) >= 16:
        flags, *values = struct.unpack(">III", tag[4:16])
        frames = values.pop(0) if flags & 1 else None
        return _Xing(frames, values.pop(0) if flags & 2 else None)
    if data[36:40] == b"VBRI" and len(data) >= 54:
        size, frames = struct.unpack(">II", data[46:54])
        return _Xing(frames, size)
    return None


def mpeg_parts(file: BinaryIO, start: int, end: int) -> Part | list[Part]:
    """The whole file if its first frame counts the others rightly; otherwise the parts that a walk over all finds."""
    stop = _before_tags(file, start, end)
    first = mpeg_frame(head := bytes_at(file, start, 512))
    assert first is not None
    if (tag := _xing(head, first)) is not None and tag.frames and tag.size == stop - start:
        return Part(start, end, prefix=EMPTY_ID3)  # as it should be; no frame needs to be looked at
    return list(_walked(file, start, stop))


def _before_tags(file: BinaryIO, start: int, end: int) -> int:
    """End of the frames: before ID3v1, Lyrics3 and APE tags, and before a padding of zeros."""
    while True:
        if (before := before_id3v1(file, start, end)) < end:
            end = before
        elif end - 32 > start and (foot := bytes_at(file, end - 32, 32))[:8] == b"APETAGEX":
            size = int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 0x80 else 0)
            end = max(start, end - max(size, 32))  # its own 32 bytes count, whatever it states
        elif end - 15 > start and (foot := bytes_at(file, end - 15, 15))[6:] == b"LYRICS200" and foot[:6].isdigit():
            end = max(start, end - 15 - int(foot[:6]))
        else:
            return end


def _walked(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Walk over all frames; a new part begins at tags, at another Xing header and where the kind of audio changes."""
    window, origin = b"", start

    def at(position: int, count: int) -> bytes:
        nonlocal window, origin
        if not origin <= position <= position + count <= origin + len(window):
            window, origin = bytes_at(file, position, 1 << 20), position
        return window[position - origin : position - origin + count]

    begin = position = start
    kind: MpegFrame | None = None
    tag: _Xing | None = None
    header, count = b"", 0

    def part(stop: int, cut: bool = False) -> Part:
        assert kind is not None
        if tag is not None and tag.frames:
            missing = count < tag.frames
            present = min(1.0, count / tag.frames) if cut or missing else None
            return Part(begin, stop, cut or missing, present, prefix=EMPTY_ID3)
        counted = EMPTY_ID3 + info_frame(header, count)
        samples = count * kind.samples
        return Part(begin, stop, cut, prefix=EMPTY_ID3, frames=samples, counted_prefix=counted)

    while position < end:
        head = at(position, 4)
        frame = mpeg_frame(head)
        if frame is None:
            if head[:3] == b"ID3":
                after = after_id3(file, position, end)
            else:
                after = _next_frame(at, position + 1, end)
                if after < 0:  # nothing but padding or a tag; or the beginning of a header
                    if count:
                        yield part(end, cut=end - position < 4 and head[:1] == b"\xff")
                    return
            position = after
            if head[:3] == b"ID3" and count:
                yield part(position)
                begin, kind = position, None
            continue
        if position + frame.length > end:
            if kind is not None:
                yield part(end, cut=True)
            return
        new = _xing(at(position, min(frame.length, 512)), frame)
        ended = tag is not None and tag.frames is not None and count == tag.frames and tag.size == position - begin
        other = kind is not None and (frame.rate, frame.channels) != (kind.rate, kind.channels)
        if kind is not None and (new is not None or ended or other):
            yield part(position)
            begin, kind = position, None
        if kind is None:
            kind, tag, header, count = frame, new, head, 0 if new is not None else 1
        else:
            count += 1
        position += frame.length
    if kind is not None:
        yield part(end)


_HEADER = re.compile(rb"\xff[\xe0-\xff][\x10-\xef]", re.DOTALL)
"""First bytes of a frame's header, of those that `mpeg_frame` accepts."""


def _next_frame(at: Callable[[int, int], bytes], position: int, end: int) -> int:
    """First position at which two frames follow one another, from `position` on; -1 if nowhere."""
    while position < end:
        block = at(position, min(1 << 12, end - position))
        header = _HEADER.search(block)
        if header is None:
            position += max(1, len(block) - 2)
            continue
        position += header.start()
        frame = mpeg_frame(at(position, 4))
        if frame is not None and (position + frame.length == end or mpeg_frame(at(position + frame.length, 4))):
            return position
        position += 1
    return -1


def info_frame(header: bytes, frames: int) -> bytes:
    """A frame that states how many follow. Without it mpg123 guesses their number from the first one's bit rate."""
    head = bytes([0xFF, header[1] | 1, 0x90 | header[2] & 0x0C, header[3]])  # no checksum; a bit rate that fits
    frame = mpeg_frame(head)
    assert frame is not None
    content = head + bytes(frame.lead - 4) + b"Info" + struct.pack(">II", 1, frames)
    return content.ljust(frame.length, b"\0")
