"""Audio files: reading at the model's rate in one channel, in blocks where they are long, and writing.

Reads what soundfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more) and resamples with soxr at its
best quality. Blocks are what whole reading gives, cut: the resampler carries its state over them.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
import soxr

from .feature_extraction import MAX_ABS_SAMPLE
from .files import atomic_write

AUDIO_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav"}
)
"""What is taken for audio in a folder; a file that is named itself may be called anything."""

WRITABLE = {".wav": "WAV", ".flac": "FLAC"}
"""Extensions that `write_audio` knows, with soundfile's names of the formats."""

_FRAMES = 1 << 18  # read at a time: 16 s at 16 kHz
_SPOOL_BYTES = 1 << 26  # a stream longer than this goes to a temporary file


class AudioError(ValueError):
    """A file that is not audio, or audio that cannot be encoded."""


class AudioReader:
    """One file opened for reading as float32 mono at `sampling_rate`; a context manager.

    Attributes:
        name: what messages call the source.
        source_rate: sampling rate of the file in Hz.
        channels: number of channels in the file.
        duration: length in seconds, as far as the file's header knows.
        note: what was done to the channels, in words; None for mono.

    Args:
        source: a path, `"-"` for standard input, or a binary file object. What cannot seek is copied first.
        sampling_rate: wanted rate in Hz.

    Raises:
        OSError: the source is missing, a directory, or not readable.
        AudioError: it is not audio that soundfile reads, or it is empty.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO, sampling_rate: int) -> None:
        self.sampling_rate = sampling_rate
        self._closing = contextlib.ExitStack()
        try:
            self._file = self._open(source)
        except BaseException:
            self.close()
            raise
        self.source_rate = self._file.samplerate
        self.channels = self._file.channels
        self.duration = self._file.frames / self.source_rate
        self.note = f"the mean of its {self.channels} channels is taken" if self.channels > 1 else None

    def _open(self, source: str | os.PathLike[str] | BinaryIO) -> soundfile.SoundFile:
        if source == "-":
            source = sys.stdin.buffer
        opened: Any
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            _check_readable(self.name)
            opened = self.name
        else:
            is_stdin = source is sys.stdin.buffer
            self.name = "standard input" if is_stdin else getattr(source, "name", "the stream")
            opened = source
            if not source.seekable():
                opened = self._closing.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
                shutil.copyfileobj(source, opened)
                opened.seek(0)
        try:
            file = self._closing.enter_context(soundfile.SoundFile(opened))
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless, by the name `.raw`
            raise AudioError(
                f"{self.name} is not audio that can be read ({_reason(error)}): give WAV, FLAC, Ogg, Opus or MP3."
            ) from error
        if file.frames == 0:
            raise AudioError(f"{self.name} holds no audio: there is nothing to encode.")
        return file

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """The clip from its start in blocks (size,) float32, the last one shorter; memory depends on `size`.

        Raises:
            AudioError: NaN, infinite or far too large samples, a file damaged on the way, or one that is
                shorter than a sample at `sampling_rate`.
        """
        waiting: list[np.ndarray] = []
        for samples in self._resampled():
            waiting.append(samples)
            if sum(map(len, waiting)) >= size:
                joined = np.concatenate(waiting)
                whole = len(joined) // size * size
                yield from joined[:whole].reshape(-1, size)
                waiting = [joined[whole:]]
        rest = np.concatenate([np.empty(0, dtype=np.float32), *waiting])
        if len(rest):
            yield rest

    def read(self) -> np.ndarray:
        """The whole clip (T,) float32.

        Raises:
            AudioError: as `blocks`.
        """
        return np.concatenate(list(self._resampled()))

    def _resampled(self) -> Iterator[np.ndarray]:
        """Mono at the wanted rate, in pieces of any size."""
        rates = (self.source_rate, self.sampling_rate)
        resampler = None if rates[0] == rates[1] else soxr.ResampleStream(*rates, 1, "float32", "VHQ")
        count = 0
        for samples in self._mono():
            if resampler is not None:
                samples = resampler.resample_chunk(samples)
            count += len(samples)
            yield samples
        if resampler is not None:
            last = resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
            count += len(last)
            yield last
        if count == 0:
            raise AudioError(f"{self.name} has not one sample at {self.sampling_rate} Hz: give more audio.")

    def _mono(self) -> Iterator[np.ndarray]:
        """Checked samples at the file's rate."""
        start = 0
        self._rewind()
        while len(frames := self._read(start)):
            self._check(frames, start)
            start += len(frames)
            yield frames[:, 0] if self.channels == 1 else frames.mean(axis=1)

    def _rewind(self) -> None:
        try:
            self._file.seek(0)
        except soundfile.SoundFileError as error:  # FLAC that ends before its second frame
            raise self._damaged(0, error) from error

    def _read(self, start: int) -> np.ndarray:
        try:
            return self._file.read(_FRAMES, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise self._damaged(start, error) from error

    def _damaged(self, start: int, error: Exception) -> AudioError:
        return AudioError(
            f"{self.name} is damaged after {start / self.source_rate:.2f} s ({_reason(error)}): "
            "repair it or make it again."
        )

    def _check(self, frames: np.ndarray, start: int) -> None:
        """Refuse samples (t, channels) that no audio has."""
        wrong = ~(np.abs(frames) <= MAX_ABS_SAMPLE)  # NaN compares as wrong
        if wrong.any():
            index, channel = np.argwhere(wrong)[0]
            value = frames[index, channel]
            seconds = (start + index) / self.source_rate
            if np.isfinite(value):
                raise AudioError(
                    f"{self.name} has the sample {value:g} at {seconds:.3f} s, "
                    f"beyond ±{MAX_ABS_SAMPLE:g} where full scale is 1: scale it down."
                )
            raise AudioError(f"{self.name} has the sample {value} at {seconds:.3f} s: repair the file.")

    def close(self) -> None:
        """Close the file; a file object that was given stays open."""
        self._closing.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_audio(source: str | os.PathLike[str] | BinaryIO, sampling_rate: int) -> tuple[np.ndarray, str | None]:
    """A whole clip as (T,) float32 at `sampling_rate`, and the note on its channels (see `AudioReader`)."""
    with AudioReader(source, sampling_rate) as reader:
        return reader.read(), reader.note


def write_audio(
    target: str | os.PathLike[str] | BinaryIO,
    samples: np.ndarray | Iterable[np.ndarray],
    sampling_rate: int,
) -> None:
    """Write a clip as 16-bit PCM, clipped to [-1, 1]; a path appears under its name only when complete.

    Args:
        target: a path ending in `.wav` or `.flac`, `"-"` for WAV on standard output, or a binary file object,
            which gets WAV.
        samples: (T,) float, or consecutive pieces of it.
        sampling_rate: in Hz.

    Raises:
        AudioError: another extension, or samples that are not one finite channel.
        OSError: the file cannot be written.
    """
    blocks = [samples] if isinstance(samples, np.ndarray) else samples
    if isinstance(target, (str, os.PathLike)) and target != "-":
        format_name = writable_format(target)
        with atomic_write(target) as file:
            _encode(file, blocks, sampling_rate, format_name)
        return
    memory = io.BytesIO()  # a WAV header is completed at the end, and pipes do not go back
    _encode(memory, blocks, sampling_rate, "WAV")
    stream: Any = sys.stdout.buffer if target == "-" else target
    stream.write(memory.getbuffer())


def writable_format(path: str | os.PathLike[str]) -> str:
    """soundfile's name of the format that the extension of `path` asks for.

    Raises:
        AudioError: the extension is not one of `WRITABLE`.
    """
    extension = Path(path).suffix.lower()
    if extension not in WRITABLE:
        raise AudioError(f"cannot write {path}: its name must end in {' or '.join(WRITABLE)}.")
    return WRITABLE[extension]


class _Sink:
    """A file for soundfile that keeps the system's error, which libsndfile would swallow."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.read = file.seek, file.tell, file.read
        self._write = file.write
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._write(data)
        except OSError as error:
            self.error = error
            return 0


def _encode(file: BinaryIO, blocks: Iterable[np.ndarray], sampling_rate: int, format_name: str) -> None:
    sink = _Sink(file)
    try:
        with soundfile.SoundFile(
            cast(BinaryIO, sink), "w", sampling_rate, channels=1, subtype="PCM_16", format=format_name
        ) as output:
            for samples in blocks:
                if samples.ndim != 1 or not np.isfinite(samples).all():
                    raise AudioError(f"cannot write samples of shape {samples.shape}: give one channel, finite.")
                # libsndfile rounds to nearest for FLAC and down for WAV
                output.write(np.clip(np.rint(samples * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16))
    except (soundfile.SoundFileError, AssertionError):  # what soundfile makes of a write that failed
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error


def _check_readable(path: str) -> None:
    """Raise the system's reason for a path that cannot be opened; libsndfile would not tell it."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot read {path}: it is a directory; name an audio file.")
    try:
        open(path, "rb").close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"cannot read {path}: {reason}; check the path.") from error


def _reason(error: Exception) -> str:
    """libsndfile's own words, without its prefix and full stop."""
    text = getattr(error, "error_string", str(error))
    return text.removeprefix("Error : ").rstrip(".")
