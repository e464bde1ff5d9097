"""Layout of audio files: `parts_of` compares what their headers state with what is there, without decoding.

Decoders take headers as truth: a length that is too small or unknown hides the rest of a file, and one that is too
large is passed over in silence. `parts_of` compares both with the bytes that are there. A file is one part, or several
where files stand behind one another (chained Ogg, joined MP3, FLAC, WAV or AIFF); a part whose header is wrong is read
through an `Excerpt`, which corrects it on the way to the decoder. Offsets and sizes are in bytes.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import BinaryIO

from . import chunks
from .flac import flac_part
from .mpeg import mpeg_frame, mpeg_parts
from .ogg import ogg_parts
from .parts import Finder, Mismatch, Part, after_id3, bytes_at


def parts_of(file: BinaryIO, *, thorough: bool = False) -> list[Part]:
    """The parts of an audio file, in order; one that is the whole file where the format is unknown.

    Args:
        file: seekable; its position is the start of the audio, and stays.
        thorough: also find out whether the last frame of FLAC is complete, which decoding shows as well.

    Raises:
        Mismatch: joined FLAC files differ in rate or channels.
    """
    origin = file.tell()
    size = file.seek(0, 2)
    parts: list[Part] = []
    position = after_id3(file, origin, size)
    try:
        while (find := _finder(bytes_at(file, position, 12), thorough)) is not None:
            part = find(file, position, size)
            if isinstance(part, list):
                parts += part
                break
            parts.append(part)
            position = _after_tags(file, part.stop, size)
    except Mismatch:
        raise
    except (struct.error, LookupError, ArithmeticError, AssertionError, ValueError):  # the decoder will say so
        parts = [*parts, Part(position, size, cut=True)] if parts else []
    finally:
        file.seek(origin)
    return parts or [Part(origin, size)]


def _after_tags(file: BinaryIO, position: int, end: int) -> int:
    """Position behind an ID3v1 tag and any ID3v2 tags."""
    return after_id3(file, position + 128 if bytes_at(file, position, 3) == b"TAG" else position, end)


_SIMPLE: dict[bytes, Finder] = {
    b".snd": chunks.au,
    b"dns.": chunks.au,
    b"caff": chunks.caf,
    b"OggS": ogg_parts,
    b"NIST": chunks.nist,
    b"\x1a\x45\xdf\xa3": chunks.matroska,
}
"""Formats by the first 4 bytes."""


def _finder(magic: bytes, thorough: bool) -> Finder | None:
    """The format of a file that begins with these 12 bytes; None: none of those below."""
    if chunks.is_wav(magic):
        return chunks.wav
    if chunks.is_aiff(magic):
        return chunks.aiff
    if chunks.is_w64(magic):
        return chunks.w64
    if magic[:4] == b"fLaC":
        return partial(flac_part, thorough=thorough)
    if magic[:4] in _SIMPLE:
        return _SIMPLE[magic[:4]]
    if magic[4:8] == b"ftyp":
        return chunks.mp4
    return mpeg_parts if mpeg_frame(magic) else None
