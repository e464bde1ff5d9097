"""Decoders of audio files behind one interface: soundfile's, several in a row, and FFmpeg's where PyAV is installed.

Axes: t frames, C channels.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
import soxr

from ..limits import check_rate
from .layout import parts_of
from .parts import EMPTY_ID3, DecodingError, Excerpt, Part, Truncated

_INEXACT_SEEKS = ("MP3", "OGG")  # formats whose samples depend on where reading begins
_SLACK = {"MP3": 2 * 1152}  # frames that mpg123 may drop at the beginning, without those that they refer to


def has_ffmpeg() -> bool:
    """Whether the extra `formats` is installed."""
    return find_spec("av") is not None


class Decoder(Protocol):
    """An audio file, opened.

    Attributes:
        samplerate: in Hz.
        channels: number of channels C.
        frames: number of frames that can be read; None: unknown until all are read.
        stated: length in seconds according to the header; None: unknown.
        slack: frames that may be missing at the end of a whole file.
        cut: the end of the file is missing.
        gap: something within the file is missing.
    """

    samplerate: int
    channels: int
    frames: int | None
    stated: float | None
    slack: int
    cut: bool
    gap: bool

    def seek(self, frame: int, *, exact: bool) -> int:
        """Move to a frame or before it, and return where; from there `read` gives what it gives from the start.

        Args:
            frame: wanted position.
            exact: False: formats that depend on where reading begins may be read from anywhere, too.
        """

    def read(self, count: int) -> np.ndarray:
        """The next frames (t, C) float32, at most `count`; none at the end.

        Raises:
            DecodingError: the file is damaged here; `Truncated`: it ends within a piece of audio.
        """

    def close(self) -> None:
        """Release the decoder; the file stays open."""


def open_decoder(file: BinaryIO, path: str | None, *, thorough: bool) -> Decoder:
    """Open an audio file with the first decoder that reads it.

    Args:
        file: binary, seekable, at the start of the audio.
        path: of the file; None: it has none.
        thorough: see `parts_of`.

    Raises:
        DecodingError: none reads it; `Truncated`: as its end is missing.
    """
    start = file.tell()
    parts = parts_of(file, thorough=thorough)
    try:
        return SoundfileDecoder(file, path, parts[0]) if len(parts) == 1 else ChainedDecoder(file, parts)
    except DecodingError as error:
        cut = any(part.cut for part in parts)
        is_one_stream = len(parts) == 1 or parts[0].prefix == EMPTY_ID3  # FFmpeg reads on where MPEG audio is joined
        if has_ffmpeg() and is_one_stream:
            from .ffmpeg import FFmpegDecoder

            file.seek(start)
            with contextlib.suppress(DecodingError):
                return FFmpegDecoder(file, cut=cut)
        if cut:
            raise Truncated(str(error), 0) from error
        raise


class _Forward(soundfile.SoundFile):
    """A file that soundfile reads forward, wherever its header says that it ends; seeking is only on demand."""

    def seekable(self) -> bool:
        return False


class SoundfileDecoder:
    """One part of a file, read by soundfile."""

    def __init__(self, file: BinaryIO, path: str | None, part: Part) -> None:
        self._source = file
        self._path = path if part.is_sound and not part.start else None
        self._part = part
        self._file = self._open()
        if part.frames is not None and part.frames > self._file.frames:
            self._path, self._part = None, replace(part, prefix=part.counted_prefix, frames=None)
            self._file.close()
            self._file = self._open()
        self.samplerate: int = check_rate(self._file.samplerate, "its header")
        self.channels: int = self._file.channels
        self.cut, self.gap = part.cut, part.gap
        self.slack = _SLACK.get(self._file.format, 0)
        length = self._file.frames if self._part.frames is None else self._part.frames
        self.frames: int | None = length if length < 1 << 40 else None
        self.stated: float | None = None if self.frames is None else self.frames / self.samplerate
        if part.present is not None and self.frames is not None and self.stated is not None:
            if self._file.format == "MP3" or not part.present:  # libsndfile says what the header states
                self.frames = round(self.frames * part.present)
            else:  # and otherwise what is there
                self.stated /= part.present
        elif part.cut or part.gap:
            self.stated = None

    def _open(self) -> _Forward:
        opened: Any = Excerpt(self._source, self._part)
        if self._path is not None:
            opened = os.fsencode(self._path) if os.name == "posix" else self._path
        try:
            file = _Forward(opened)
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless, by the name `.raw`
            raise DecodingError(_reason(error)) from error
        if file.format == "RAW":  # libsndfile takes any bytes for mu-law, if the name ends in `.au` or `.snd`
            file.close()
            raise DecodingError("it has no header")
        return file

    def seek(self, frame: int, *, exact: bool) -> int:
        """See `Decoder`; where soundfile cannot seek, to the start."""
        if frame == 0 or (exact and self._file.format in _INEXACT_SEEKS):
            frame = 0
        try:
            return self._file.seek(frame)
        except soundfile.SoundFileError:
            self._file.close()
            self._file = self._open()
            return 0

    def read(self, count: int) -> np.ndarray:
        """See `Decoder`."""
        try:
            return self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            self._source.seek(self._part.start)
            part = parts_of(self._source, thorough=True)[0]
            if part.cut and part.present is not None and self.stated is not None:
                raise Truncated(_reason(error), round(part.present * self.stated * self.samplerate)) from error
            raise DecodingError(_reason(error)) from error

    def close(self) -> None:
        """See `Decoder`."""
        self._file.close()


class ChainedDecoder:
    """Parts of a file, one behind the other, at the rate of the first; mono where their channels differ."""

    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._source = file
        self._parts: list[Part] = []
        rates, channels, lengths, slack = [], set(), [], 0
        for part in parts:
            try:
                decoder = SoundfileDecoder(file, None, part)
            except DecodingError:
                if part.cut or part.gap:  # so little of it is there that nothing can be decoded
                    continue
                raise
            with contextlib.closing(decoder):
                rates.append(decoder.samplerate)
                channels.add(decoder.channels)
                lengths.append(decoder.frames)
                slack += decoder.slack
                self._parts.append(part)
        if not self._parts:
            raise DecodingError("nothing of it can be decoded")
        self.samplerate: int = rates[0]
        self.channels: int = max(channels)
        self._mono = len(channels) > 1
        known = [
            length if rate == self.samplerate else round(length * self.samplerate / rate)
            for length, rate in zip(lengths, rates, strict=True)
            if length is not None
        ]
        self.frames: int | None = sum(known) if len(known) == len(lengths) else None
        self.cut, self.gap = parts[-1].cut, any(part.gap or part.cut for part in parts[:-1]) or parts[-1].gap
        whole = self.frames is not None and not (self.cut or self.gap)
        self.stated: float | None = self.frames / self.samplerate if whole and self.frames is not None else None
        self.slack = slack
        self._blocks = self._decoded(1)
        self._rest = np.empty((0, self.channels), dtype=np.float32)

    def _decoded(self, count: int) -> Iterator[np.ndarray]:
        self._count = count
        before = 0  # frames of earlier parts
        for part in self._parts:
            with contextlib.closing(SoundfileDecoder(self._source, None, part)) as decoder:
                rates = decoder.samplerate, self.samplerate
                change = None if rates[0] == rates[1] else soxr.ResampleStream(*rates, decoder.channels, quality="VHQ")
                position, stop = 0, sys.maxsize if decoder.frames is None else decoder.frames
                try:
                    while len(block := decoder.read(min(self._count, stop - position))):
                        position += len(block)
                        yield self._same(block if change is None else change.resample_chunk(block))
                except Truncated as error:
                    there = None if error.frames is None else before + round(error.frames * rates[1] / rates[0])
                    raise Truncated(str(error), there) from error
                if change is not None:
                    yield self._same(change.resample_chunk(block, last=True))
                if decoder.frames is not None and not part.cut and position < decoder.frames - decoder.slack:
                    raise Truncated("a part of it ends early")
                before += round(position * rates[1] / rates[0])

    def _same(self, block: np.ndarray) -> np.ndarray:
        """(t, 1) where channels differ."""
        block = block.reshape(len(block), -1)
        return block.mean(axis=1, keepdims=True) if self._mono else block

    def seek(self, frame: int, *, exact: bool) -> int:
        """See `Decoder`; always to the start."""
        self._blocks.close()  # type: ignore[attr-defined]
        self._blocks = self._decoded(1 << 16)
        self._rest = self._rest[:0]
        return 0

    def read(self, count: int) -> np.ndarray:
        """See `Decoder`."""
        self._count = count
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                return np.empty((0, self.channels), dtype=np.float32)
            self._rest = block
        block, self._rest = self._rest[:count], self._rest[count:]
        return block

    def close(self) -> None:
        """See `Decoder`."""
        self._blocks.close()  # type: ignore[attr-defined]


def _reason(error: Exception) -> str:
    """The message of the library, without its own name for the file."""
    return str(getattr(error, "error_string", error)).rstrip(".")
