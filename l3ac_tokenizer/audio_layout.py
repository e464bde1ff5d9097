"""Layout of audio files: what their headers state against what is there, without decoding.

Decoders take headers as truth: a length that is too small or unknown hides the rest of a file, and one that is too
large is passed over in silence. `parts_of` compares both with the bytes that are there. A file is one part, or several
where files stand behind one another (chained Ogg, joined MP3 or WAV); a part whose header is wrong is read through an
`Excerpt`, which corrects it on the way to the decoder. Offsets and sizes are in bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_TAIL = 1 << 16
_UNKNOWN_32 = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 1 << 32))
"""Sizes that programs write where they cannot go back to the header: the largest ones, less a header's length."""


class DecodingError(Exception):
    """A decoder's reason why it cannot open a file or go on reading it; a phrase."""


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


def parts_of(file: BinaryIO, *, thorough: bool = False) -> list[Part]:
    """The parts of an audio file, in order; one that is the whole file where the format is unknown.

    Args:
        file: seekable; its position is the start of the audio, and stays.
        thorough: also find out whether the last frame of FLAC is complete, which decoding shows as well.
    """
    origin = file.tell()
    size = file.seek(0, 2)
    try:
        start = _after_id3(file, origin, size)
        magic = _at(file, start, 12)
        parts: list[Part] = []
        find = _finder(magic)
        position = start
        while find is not None:
            part = find(file, position, size, thorough)
            if isinstance(part, list):
                parts += part
                break
            parts.append(part)
            position = part.stop
            find = _finder(_at(file, position, 12)) if position < size else None
        return parts or [Part(origin, size)]
    except (struct.error, LookupError, ArithmeticError, AssertionError, ValueError):  # the decoder will say so
        return [Part(origin, size)]
    finally:
        file.seek(origin)


_Finder = Callable[[BinaryIO, int, int, bool], "Part | list[Part]"]


def _finder(magic: bytes) -> _Finder | None:
    kind, form = magic[:4], magic[8:12]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        return _wav
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _aiff
    if kind == b"riff" and magic[4:8] == _W64_TAIL[:4]:
        return _w64
    simple: dict[bytes, _Finder] = {
        b".snd": _au, b"dns.": _au, b"caff": _caf, b"fLaC": _flac, b"OggS": _ogg, b"NIST": _nist,
        b"\x1a\x45\xdf\xa3": _matroska,
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if magic[4:8] == b"ftyp":
        return _mp4
    return _mpeg if mpeg_frame(magic) else None


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _after_id3(file: BinaryIO, position: int, size: int) -> int:
    """Position of the audio after any ID3v2 tags."""
    while len(head := _at(file, position, 10)) == 10 and head[:3] == b"ID3":
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        position = min(size, position + 10 + length + (10 if head[5] & 0x10 else 0))
    return position


# --- containers of chunks -------------------------------------------------------------------------------------


def _is_unknown(size: int) -> bool:
    return any(size in sizes for sizes in _UNKNOWN_32)


def _is_chunk(head: bytes, left: int, order: str, width: int) -> bool:
    """Whether what follows the audio, `left` bytes, is a chunk and not more audio that the header does not know of."""
    name, rest = head[:4], head[4 : 4 + width]
    if not re.fullmatch(rb"[A-Za-z0-9 _\-()]{4}", name) or len(rest) < width:
        return False
    return int.from_bytes(rest, "little" if order == "<" else "big") <= left - 4 - width or name in _COMMON_CHUNKS


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
    there = end - data.begin
    correct = _number(min(there, (1 << 8 * data.width) - 1), data.width, order)
    correction = ((data.place - start, correct),)
    if known and data.size > there:
        return Part(start, end, True, there / data.size, corrections=correction if data.width == 8 else ())
    stop = data.begin + data.size
    if known and data.size:
        for after in dict.fromkeys((stop + -data.size % pad, stop)):
            left = end - after
            head = _at(file, after, 12)
            if left <= 0 or (left < 8 and not any(head)) or left < align:
                return Part(start, end)
            if _finder(head) in (_wav, _aiff):  # another file behind this one
                return Part(start, after)
            if _is_chunk(head, left, order, data.width):
                return Part(start, end)
    elif known and _is_chunk(_at(file, stop, 12), there, order, data.width):
        return Part(start, end)  # really empty
    return Part(start, end, corrections=correction)


def _number(value: int, width: int, order: str) -> bytes:
    return value.to_bytes(width, "little" if order == "<" else "big")


def _chunks(file: BinaryIO, position: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, size and content's position of each chunk with a size of 4 bytes."""
    while len(head := _at(file, position, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        yield name, size, position + 8
        position += 8 + size + size % 2
        if position > end:
            return


def _wav(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    magic = _at(file, start, 4)
    order = ">" if magic == b"RIFX" else "<"
    align, long = 1, None
    for name, size, begin in _chunks(file, start + 12, end, order):
        if name == b"fmt ":
            (align,) = struct.unpack(f"{order}H", _at(file, begin + 12, 2))
        elif name == b"ds64" and magic == b"RF64":
            (long,) = struct.unpack("<Q", _at(file, begin + 8, 8))
            place = begin + 8
        elif name == b"data":
            if long is not None and size == 0xFFFFFFFF:
                known = long < 1 << 62
                data = _Data(place, 8, long, begin)
            else:
                known = not (_is_unknown(size) and size > end - begin)
                data = _Data(begin - 4, 4, size, begin)
            return _chunked(file, start, end, data, order, align, known=known)
    return Part(start, end)


def _aiff(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    samples = None
    for name, size, begin in _chunks(file, start + 12, end, ">"):
        if name == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", _at(file, begin, 8))
            kind = _at(file, begin + 18, 4) if size > 18 else b"NONE"
            if kind in (b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"):
                samples = frames * channels * -(-bits // 8)
        elif name == b"SSND":
            skipped = 8
            known = not (_is_unknown(size) and size > end - begin)
            if known and size <= skipped:
                known = _is_chunk(_at(file, begin + skipped, 8), end - begin - skipped, ">", 4)
            if not known and samples and not _is_unknown(samples) and samples > (there := end - begin - skipped):
                return Part(start, end, True, there / samples)
            return _chunked(file, start, end, _Data(begin - 4, 4, size, begin), ">", 1, known=known)
    return Part(start, end)


_W64_TAIL = bytes.fromhex("2e91cf11a5d628db04c10000")


def _w64(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    position = start + 40
    while len(head := _at(file, position, 24)) == 24:
        (size,) = struct.unpack("<Q", head[16:])
        if head[:4] == b"data":
            there = end - position - 24
            known = 24 < size < 1 << 62  # libsndfile reads an unknown or too small one to the file's end
            return Part(start, end, True, there / (size - 24)) if known and size - 24 > there else Part(start, end)
        if size < 24:
            break
        position += size + -size % 8
    return Part(start, end)


def _au(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    order = ">" if _at(file, start, 4) == b".snd" else "<"
    offset, size = struct.unpack(f"{order}II", _at(file, start + 4, 8))
    there = end - start - offset
    if size > there and not _is_unknown(size):
        return Part(start, end, True, there / size)
    return Part(start, end, corrections=() if size == there else ((8, b"\xff" * 4),))


def _caf(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    position = start + 8
    while len(head := _at(file, position, 12)) == 12:
        name, size = struct.unpack(">4sq", head)
        if name == b"data":
            known = size > 0
            return _chunked(file, start, end, _Data(position + 4, 8, size, position + 12), ">", 1, known=known, pad=1)
        if size < 0:
            break
        position += 12 + size
    return Part(start, end)


def _nist(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", _at(file, start, 1024), re.MULTILINE))
    try:
        size = (
            int(_at(file, start + 8, 8)),
            *(int(fields[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")),
        )
    except (KeyError, ValueError):
        return Part(start, end)
    stated, there = size[1] * size[2] * size[3], end - start - size[0]
    compressed = b"shorten" in fields.get(b"sample_coding", b"")
    return Part(start, end, True, there / stated) if stated > there and not compressed else Part(start, end)


def _mp4(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    position = start
    while position < end and len(head := _at(file, position, 16)) >= 8:
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size == 0:  # up to the file's end
            break
        if size < 8:
            return Part(start, end)
        position += size
    return Part(start, end, cut=position > end)


def _matroska(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    position = start
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        head = _at(file, position, 12)
        if head[:4] != name:
            return Part(start, end)
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        position += 4 + width + size
    unknown = size == (1 << 7 * width) - 1
    return Part(start, end, cut=position > end and not unknown)


# --- FLAC -----------------------------------------------------------------------------------------------------


def _flac(file: BinaryIO, start: int, end: int, thorough: bool) -> Part:
    """Compares STREAMINFO's number of samples with the last frame, which has its own number."""
    info = _at(file, start + 8, 34)
    if len(info) < 34:
        return Part(start, end)
    block, _, _, most = struct.unpack(">HH", info[:4])[1], *(int.from_bytes(info[i : i + 3], "big") for i in (4, 4, 7))
    packed = int.from_bytes(info[10:18], "big")
    stated = packed & (1 << 36) - 1
    channels, bits = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    stop = end - 128 if end - start > 128 and _at(file, end - 128, 3) == b"TAG" else end
    reach = (most or block * channels * (bits + 1) // 8 + 64) + 16
    tail = _at(file, max(start + 42, stop - reach), max(0, min(reach, stop - start - 42)))
    frames = [(place, *numbers) for place in _syncs(tail) if (numbers := _flac_frame(tail[place:], block)) is not None]
    at_end = [frame for frame in frames if stated and frame[1] + frame[2] == stated]

    def corrected(samples: int, cut: bool) -> Part:
        number = (packed & ~((1 << 36) - 1) | samples).to_bytes(8, "big")
        present = samples / stated if cut and stated else None
        return Part(start, end, cut, present, corrections=((18, number),))

    if at_end and not thorough:
        return Part(start, end)
    complete = [frame for frame in frames if _flac_crc(tail[frame[0] :]) == 0]
    if complete:
        samples = complete[-1][1] + complete[-1][2]
        return Part(start, end) if samples == stated else corrected(samples, samples < stated)
    within = at_end or [frame for frame in frames if not stated or frame[1] + frame[2] <= stated]
    if not within:
        only = stop - start < reach  # the only frame is cut; otherwise something long follows the last
        return Part(start, end, only, 0.0 if only and stated else None)
    return corrected(within[-1][1], True) if within[-1][1] else Part(start, end, True, 0.0 if stated else None)


def _syncs(data: bytes) -> Iterator[int]:
    place = data.find(b"\xff")
    while place >= 0:
        if data[place + 1 : place + 2] in (b"\xf8", b"\xf9"):
            yield place
        place = data.find(b"\xff", place + 1)


_BLOCKS = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}


def _flac_frame(data: bytes, block: int) -> tuple[int, int] | None:
    """First sample and number of samples of the frame whose header begins here; None if none does."""
    if len(data) < 6 or data[2] >> 4 == 0 or data[2] & 15 == 15 or data[3] >> 4 > 10 or data[3] & 1:
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
    return (number if data[1] & 1 else number * block), count


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


def _flac_crc(frame: bytes) -> int:
    return _crc(frame, _CRC16, 16)


# --- Ogg ------------------------------------------------------------------------------------------------------


def _ogg(file: BinaryIO, start: int, end: int, thorough: bool) -> list[Part]:
    """A part for each link of a chain; it is cut if its last page is incomplete or not marked as the last."""
    parts: list[Part] = []
    begin = position = start
    beginning = True  # still in the first pages of streams, which all come first
    numbers: dict[int, int] = {}  # of the last page of each stream
    unfinished: set[int] = set()  # streams
    cut = gap = False
    page = start  # the last page
    while position < end and not cut:
        head = _at(file, position, 27)
        if head[:4] != b"OggS"[: len(head)]:
            found = _find(file, b"OggS", page + 4, end)  # in the last page too: it may be cut, and another follow
            if found < 0:  # something else follows the last page
                break
            gap, position, page = True, found, found
            continue
        lengths = _at(file, position + 27, head[26]) if len(head) == 27 else b""
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


def _find(file: BinaryIO, mark: bytes, position: int, end: int) -> int:
    """Next position of `mark`, or -1."""
    size = 1 << 12  # grows, so that many marks close together are found in little time
    while position < end:
        block = _at(file, position, size)
        size = min(2 * size, 1 << 20)
        if (place := block.find(mark)) >= 0:
            return position + place
        position += max(1, len(block) - len(mark) + 1)
    return -1


# --- MPEG audio -----------------------------------------------------------------------------------------------


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


def _mpeg(file: BinaryIO, start: int, end: int, thorough: bool) -> Part | list[Part]:
    stop = _before_tags(file, start, end)
    first = mpeg_frame(head := _at(file, start, 512))
    assert first is not None
    if (tag := _xing(head, first)) is not None and tag.frames and tag.size == stop - start:
        return Part(start, end, prefix=EMPTY_ID3)  # as it should be; no frame needs to be looked at
    return list(_mpeg_parts(file, start, stop))


def _before_tags(file: BinaryIO, start: int, end: int) -> int:
    """End of the frames: before ID3v1, Lyrics3 and APE tags, and before a padding of zeros."""
    while True:
        if end - 128 > start and _at(file, end - 128, 3) == b"TAG":
            end -= 128
        elif end - 32 > start and (foot := _at(file, end - 32, 32))[:8] == b"APETAGEX":
            size = int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 0x80 else 0)
            end = max(start, end - max(size, 32))  # its own 32 bytes count, whatever it states
        elif end - 15 > start and (foot := _at(file, end - 15, 15))[6:] == b"LYRICS200" and foot[:6].isdigit():
            end = max(start, end - 15 - int(foot[:6]))
        else:
            return end


def _mpeg_parts(file: BinaryIO, start: int, end: int) -> Iterator[Part]:
    """Walk over all frames; a new part begins at tags, at another Xing header and where the kind of audio changes."""
    window, origin = b"", start

    def at(position: int, count: int) -> bytes:
        nonlocal window, origin
        if not origin <= position <= position + count <= origin + len(window):
            window, origin = _at(file, position, 1 << 20), position
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
                after = _after_id3(file, position, end)
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
