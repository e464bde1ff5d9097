"""Audio files: reading whole or in blocks as mono at a given rate, and writing.

Reads every format of soundfile (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more) and, with PyAV, of FFmpeg, and
resamples with soxr at its best quality. Blocks are consecutive parts of what reading the whole gives: the resampler
keeps its state between them.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile

from .audio_formats.decoders import Decoder, has_ffmpeg, open_decoder
from .audio_formats.parts import DecodingError, Mismatch, Truncated
from .causes import InputError
from .feature_extraction import MAX_ABS_SAMPLE
from .files import atomic_write, open_regular
from .limits import CLIP_BYTES, CLIP_EXPANSION, CLIP_SAMPLES, CLIP_SECONDS, STREAM_BYTES, LimitError, check_rate
from .resampling import Resampler

AUDIO_SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph"}
    | {".w64", ".wav"}
)
"""Suffixes of files in a folder that soundfile reads; a file given by its own name may have any."""

OTHER_AUDIO_SUFFIXES = frozenset(
    {".3gp", ".aac", ".ac3", ".amr", ".ape", ".m4a", ".m4b", ".mka", ".mp4", ".tta", ".webm", ".wma", ".wv"}
)
"""Suffixes of audio that needs the extra `formats` (PyAV)."""


def readable_suffixes() -> frozenset[str]:
    """Suffixes of files in a folder that count as audio with the packages that are installed."""
    return AUDIO_SUFFIXES | (OTHER_AUDIO_SUFFIXES if has_ffmpeg() else frozenset())


WRITABLE = {".wav": "WAV", ".flac": "FLAC"}
"""soundfile's name of the format for each suffix that `write_audio` accepts."""

_FRAMES = 1 << 18  # read at a time: 16 s at 16 kHz
_VALUES = 8 * _FRAMES  # of all channels together
_FREE_SECONDS = 600
"""Length of audio that a file may have however small it is, see `limits.CLIP_EXPANSION`."""
_SPOOL_BYTES = 1 << 26  # longer input that cannot seek goes to a temporary file
_LEAD = 0.5
"""Seconds decoded before a position and discarded, as MP3 is silent for a while after a jump (0.16 s were measured)."""


_NOTHING_LEFT = "{} is truncated (nothing of it can be read): get the whole file."


class AudioError(InputError):
    """A file that is not audio, or audio that cannot be encoded."""


@dataclass(frozen=True, slots=True)
class AudioSegment:
    """A part of an audio file.

    Attributes:
        path: of the file, or its bytes.
        start: where the part begins, in seconds.
        seconds: its length; None: up to the file's end.
    """

    path: str | bytes
    start: float = 0.0
    seconds: float | None = None


def segment_frames(start: float, seconds: float | None, rate: int, total: int) -> range:
    """Frames of a segment in a file of `total` frames at `rate` Hz, its own rate.

    They are round(start · rate) up to, not including, round((start + seconds) · rate), as far as the file goes.

    Raises:
        AudioError: a number is not finite or is negative.
    """
    if not (0 <= start < math.inf and (seconds is None or 0 <= seconds < math.inf)):
        raise AudioError(f"a segment begins at {start} s and is {seconds} s long: give numbers of at least 0.")
    stop = total if seconds is None else round(min(total, (start + seconds) * rate))
    return range(round(min(sys.maxsize, start * rate)), stop)


class AudioReader:
    """An audio file, or a segment of one, opened for reading as float32 mono at `sampling_rate`; a context manager.

    Attributes:
        name: name of the source in messages.
        source_rate: sampling rate of the file in Hz.
        channels: number of channels in the file.
        frames: frames of the file that are read, at its own rate, up to `sys.maxsize` where its length is unknown; may
            be set to read less.
        duration: length of the file or segment in seconds, as far as it is known before reading; None: unknown.
        note: says that channels are downmixed; None for mono.
        truncated: says that the clip's end, or a part of it, is missing in the file, as soon as that is known; None if
            it is complete.

    Args:
        source: a path, `"-"` for standard input, a binary file object, or an `AudioSegment`. Input that cannot seek is
            copied first.
        sampling_rate: wanted rate in Hz.
        allow_truncated: use what is there of a truncated clip; False: it is an error. A segment is truncated only
            where it reaches beyond what is there.
        max_seconds: a longer clip is an error; None: one beyond `limits.CLIP_SECONDS`, or beyond
            `limits.CLIP_EXPANSION` for the size of its file.
        exact: segments of formats whose samples depend on where reading begins are decoded from the file's start;
            False: from shortly before them.
        name: of the clip in messages; None: its path.

    Raises:
        OSError: the source is missing, a directory, or not readable.
        AudioError: it is not audio that can be read, it is empty, truncated or too long, its sampling rate is not
            plausible, or the segment begins after its end.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO | AudioSegment,
        sampling_rate: int,
        *,
        allow_truncated: bool = False,
        max_seconds: float | None = None,
        exact: bool = True,
        name: str | None = None,
    ) -> None:
        self._given_name = name
        self.sampling_rate = sampling_rate
        self.truncated: str | None = None
        self._allow_truncated = allow_truncated
        self._max_seconds = max_seconds
        self._bytes: int | None = None
        self._exact = exact
        segment = source if isinstance(source, AudioSegment) else None
        self._closing = contextlib.ExitStack()
        try:
            self._decoder = self._open(source.path if isinstance(source, AudioSegment) else source)
            self.source_rate = self._decoder.samplerate
            self.channels = self._decoder.channels
            self.frames = self._frames_of(segment)
            if self.duration is not None:
                self._check_length(self.duration)
        except BaseException:
            self.close()
            raise
        self.note = f"downmixed from {self.channels} channels to mono" if self.channels > 1 else None

    @property
    def duration(self) -> float | None:
        """Length of `frames` in seconds, as far as it is known before reading; None: unknown."""
        if self.frames.stop < sys.maxsize:
            return len(self.frames) / self.source_rate
        stated = self._decoder.stated
        return None if stated is None else max(0.0, stated - self.frames.start / self.source_rate)

    def _frames_of(self, segment: AudioSegment | None) -> range:
        """Frames of the clip, as far as the file has them; up to `sys.maxsize` where its length is unknown."""
        decoder = self._decoder
        total = sys.maxsize if decoder.frames is None else decoder.frames
        if segment is None:
            frames, beyond = range(total), True
        else:
            frames = segment_frames(segment.start, segment.seconds, decoder.samplerate, total)
            beyond = segment.seconds is None or (segment.start + segment.seconds) * decoder.samplerate > total
        if decoder.gap or (decoder.cut and beyond):
            self._is_truncated(decoder.frames)
        if not frames:
            if segment is None:
                if decoder.cut:
                    raise AudioError(_NOTHING_LEFT.format(self.name))
                raise AudioError(f"{self.name} holds no audio: there is nothing to encode.")
            raise self._nothing_at(segment.start, total)
        return frames

    def _nothing_at(self, start: float, total: int) -> AudioError:
        return AudioError(
            f"{self.name} holds no audio at {start:g} s (it is {total / self.source_rate:g} s long): "
            "correct the segment's start or length."
        )

    def _is_truncated(self, frames: int | None) -> None:
        """Note that only `frames` are there of the file, or refuse it."""
        stated = self._decoder.stated
        if frames is None:
            missing = "its end is missing"
        elif stated is not None and stated * self.source_rate > frames:
            missing = f"{frames / self.source_rate:.2f} of {stated:.2f} s are there"
        else:
            missing = f"{frames / self.source_rate:.2f} s are there, the rest is missing"
        if not self._allow_truncated:
            raise AudioError(
                f"{self.name} is truncated ({missing}): get the whole file, or allow truncated ones "
                "(--allow-truncated)."
            )
        self.truncated = f"{self.name} is truncated ({missing}): only what is there is used."

    def _check_length(self, seconds: float) -> None:
        if self._max_seconds is None:
            what = f"{self.name} is {seconds:,.0f} s long"
            CLIP_SECONDS.check(seconds, what, AudioError)
            if seconds > _FREE_SECONDS and self._bytes:
                each = (seconds - _FREE_SECONDS) / self._bytes
                CLIP_EXPANSION.check(each, f"{what}, {each:.2g} s for each of its {self._bytes} bytes", AudioError)
        elif seconds > self._max_seconds:
            raise AudioError(
                f"{self.name} is {seconds:.1f} s long, more than the {self._max_seconds:g} s allowed: cut it."
            )

    def _open(self, source: str | os.PathLike[str] | bytes | BinaryIO) -> Decoder:
        if source == "-":
            source = sys.stdin.buffer
        elif isinstance(source, bytes):
            source = _NamedBytes(source, self._given_name or "the audio")
        path = None
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            shown = self._given_name or path
            self.name = shown.encode("utf-8", "backslashreplace").decode()  # a name need not be UTF-8, a message must
            if os.path.isdir(path):
                raise IsADirectoryError(f"cannot read {self.name}: it is a directory; name an audio file.")
            opened: Any = self._closing.enter_context(open_regular(path))
        else:
            is_stdin = source is sys.stdin.buffer
            self.name = "standard input" if is_stdin else getattr(source, "name", "the audio")
            opened = source
        if not opened.seekable():
            stream, path = opened, None
            opened = self._closing.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
            while data := stream.read(1 << 20):
                opened.write(data)
                STREAM_BYTES.check(opened.tell(), f"{self.name} goes on after {opened.tell():,} bytes", AudioError)
            opened.seek(0)
        begin = opened.tell()
        self._bytes = opened.seek(0, 2) - begin
        opened.seek(begin)
        try:
            decoder = open_decoder(opened, path, thorough=self._allow_truncated)
        except Truncated as error:
            raise AudioError(_NOTHING_LEFT.format(self.name)) from error
        except Mismatch as error:
            raise AudioError(f"{self.name} is joined from files that differ ({error}): split it.") from error
        except DecodingError as error:
            raise AudioError(f"{self.name} is not audio that can be read ({error}): {_what_to_give()}.") from error
        except LimitError as error:
            raise AudioError(f"{self.name}: {error}") from error
        self._closing.callback(decoder.close)
        return decoder

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """The clip from its start in blocks (size,) float32, the last one shorter; memory depends on `size`.

        Raises:
            AudioError: NaN, infinite or far too large samples, damage to the file, or a clip shorter than one sample
                at `sampling_rate`.
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
            AudioError: see `blocks`, or it has more samples than `limits.CLIP_SAMPLES`.
        """
        if self.duration is not None:
            self._check_samples(self.duration * self.sampling_rate)
        clip = array("f")  # one block that grows: parts and their sum would take twice the memory
        for samples in self._resampled():
            clip.frombytes(samples.astype(np.float32, copy=False).tobytes())
            self._check_samples(len(clip))
        return np.frombuffer(clip, np.float32)

    def _check_samples(self, count: float) -> None:
        what = f"{self.name} has {count:,.0f} samples at {self.sampling_rate} Hz, too many to hold as a whole"
        CLIP_SAMPLES.check(count, what, AudioError)

    def _resampled(self) -> Iterator[np.ndarray]:
        """Mono at the wanted rate, in chunks of any size."""
        resampler = Resampler(self.source_rate, self.sampling_rate)
        count = 0
        for samples in self._mono():
            samples = resampler.push(samples)
            count += len(samples)
            yield samples
        last = resampler.flush()
        count += len(last)
        yield last
        if count == 0:
            raise AudioError(f"{self.name} is shorter than one sample at {self.sampling_rate} Hz: give more audio.")

    def _mono(self) -> Iterator[np.ndarray]:
        """Checked samples at the file's rate."""
        start, stop = self.frames.start, self.frames.stop
        lead = 0 if self._exact else round(_LEAD * self.source_rate)
        first = position = self._decoder.seek(max(0, start - lead), exact=self._exact)
        while position < stop:
            try:
                frames = self._decoder.read(min(_FRAMES, max(1, _VALUES // self.channels), stop - position))
            except Truncated as error:
                self._is_truncated(position if error.frames is None else error.frames)
                break
            except DecodingError as error:
                raise AudioError(
                    f"{self.name} is damaged after {position / self.source_rate:.2f} s ({error}): "
                    "repair it or make it again."
                ) from error
            if not len(frames):
                break
            wanted = frames[max(start - position, 0) :]
            self._check(wanted, position + len(frames) - len(wanted))
            position += len(frames)
            if len(wanted):
                self._check_length((position - start) / self.source_rate)
                yield wanted[:, 0] if wanted.shape[1] == 1 else wanted.mean(axis=1)
        if position <= start and first <= start:
            raise self._nothing_at(start / self.source_rate, position)
        if position < min(stop, self._expected()) and self.truncated is None:
            self._is_truncated(position)

    def _expected(self) -> int:
        """Frames that a whole file has at least."""
        decoder = self._decoder
        stated = round(decoder.stated * self.source_rate) if decoder.stated is not None else 0
        return (stated if decoder.frames is None else decoder.frames) - decoder.slack

    def _check(self, frames: np.ndarray, start: int) -> None:
        """Refuse samples (t, channels) that are not finite or far beyond full scale."""
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
        """Close the file; a file object passed as the source stays open."""
        self._closing.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_audio(
    source: str | os.PathLike[str] | BinaryIO | AudioSegment, sampling_rate: int
) -> tuple[np.ndarray, str | None]:
    """A whole clip as (T,) float32 at `sampling_rate`, and the note on its channels (see `AudioReader`)."""
    with AudioReader(source, sampling_rate) as reader:
        return reader.read(), reader.note


def open_clip(
    clip: Any, name: str, sampling_rate: int, *, allow_truncated: bool = False, max_seconds: float | None = None
) -> AudioReader:
    """Open a clip in any of the forms in which datasets hold them.

    Args:
        clip: a path, an `AudioSegment`, the bytes of an audio file, or a dictionary of `array` (T,) and
            `sampling_rate`, or of `bytes` and `path`, as `datasets.Audio(decode=False)` has them.
        name: of the clip in messages.
        sampling_rate: wanted rate in Hz.
        allow_truncated, max_seconds: see `AudioReader`.

    Raises:
        AudioError: an array of more than one axis or without a plausible rate, or see `AudioReader`.
        OSError: see `AudioReader`.
        TypeError: the clip has none of these forms.
    """
    file = _as_file(clip, name)
    return AudioReader(file, sampling_rate, allow_truncated=allow_truncated, max_seconds=max_seconds, name=name)


class _NamedBytes(io.BytesIO):
    """A file in memory with a name for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name
        CLIP_BYTES.check(len(data), f"{name} has {len(data):,} bytes", AudioError)


def _as_file(clip: Any, name: str) -> str | AudioSegment | _NamedBytes:
    if isinstance(clip, AudioSegment):
        return clip
    if isinstance(clip, (str, os.PathLike)):
        return os.fspath(clip)
    if isinstance(clip, (bytes, bytearray, memoryview)):
        return _NamedBytes(bytes(clip), name)
    if isinstance(clip, dict):
        if clip.get("array") is not None and clip.get("sampling_rate") is not None:
            rate = check_rate(clip["sampling_rate"], name, AudioError)
            wave = np.asarray(clip["array"], dtype=np.float32)
            if wave.ndim != 1:
                raise AudioError(f"{name} has the shape {wave.shape}: give one channel, (num_samples,).")
            file = io.BytesIO()  # unchanged samples, in a file like the others
            soundfile.write(file, wave, rate, "FLOAT", format="WAV")
            return _NamedBytes(file.getvalue(), name)
        if clip.get("bytes") is not None:
            return _NamedBytes(clip["bytes"], name)
        if clip.get("path"):
            return os.fspath(clip["path"])
        raise AudioError(f"{name} has no audio: give `array` and `sampling_rate`, `bytes`, or `path`.")
    check_form(clip, name)
    raise AssertionError("every form is handled")


def check_form(clip: Any, name: str) -> None:
    """Check that a clip is of a class that `open_clip` takes, whatever it holds.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(clip, (AudioSegment, str, os.PathLike, bytes, bytearray, memoryview, dict)):
        raise TypeError(
            f"{name} is {type(clip).__name__}; audio is a path, the bytes of a file, or a dictionary of `array` and "
            "`sampling_rate` or of `bytes` and `path`."
        )


def write_audio(
    target: str | os.PathLike[str] | BinaryIO,
    samples: np.ndarray | Iterable[np.ndarray],
    sampling_rate: int,
    num_samples: int | None = None,
) -> None:
    """Write a clip as 16-bit PCM, clipped to [-1, 1]; a path appears under its name only when complete.

    A WAV of more than 4 GiB, whose sizes WAV cannot state, is written as RF64 (EBU Tech 3306), which most readers of
    WAV read, too.

    Args:
        target: a path ending in `.wav` or `.flac`, `"-"` for WAV on standard output, or a binary file object,
            which gets WAV.
        samples: (T,) float, or consecutive chunks of it.
        sampling_rate: in Hz.
        num_samples: number of samples in all chunks, which more than 4 GiB of WAV need.

    Raises:
        AudioError: the suffix is another one, the samples are not one finite channel, or more than 4 GiB of WAV were
            not announced by `num_samples`.
        OSError: the file cannot be written.
    """
    blocks = samples
    if isinstance(samples, np.ndarray):
        blocks, num_samples = [samples], samples.size
    if isinstance(target, (str, os.PathLike)) and target != "-":
        format_name = writable_format(target)
        with atomic_write(target) as file:
            _encode(file, blocks, sampling_rate, format_name, num_samples)
        return
    memory = io.BytesIO()  # a WAV header is completed at the end, and pipes cannot seek
    _encode(memory, blocks, sampling_rate, "WAV", num_samples)
    file_object: Any = sys.stdout.buffer if target == "-" else target
    file_object.write(memory.getbuffer())


def writable_format(path: str | os.PathLike[str]) -> str:
    """soundfile's name of the format for the suffix of `path`.

    Raises:
        AudioError: the suffix is not one of `WRITABLE`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE:
        raise AudioError(f"cannot write {path}: its name must end in {' or '.join(WRITABLE)}.")
    return WRITABLE[suffix]


MAX_WAV_SAMPLES = (2**32 - 1024) // 2
"""Samples of 16 bits whose bytes a WAV's header can state, with room for the header."""


class _Sink:
    """File object for soundfile that keeps the system's error, which libsndfile would discard."""

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


def _encode(
    file: BinaryIO, blocks: Iterable[np.ndarray], sampling_rate: int, format_name: str, num_samples: int | None
) -> None:
    sink = _Sink(file)
    if format_name == "WAV" and num_samples is not None and num_samples > MAX_WAV_SAMPLES:
        format_name = "RF64"
    written = 0
    try:
        with soundfile.SoundFile(
            cast(BinaryIO, sink), "w", sampling_rate, channels=1, subtype="PCM_16", format=format_name
        ) as output:
            for samples in blocks:
                if samples.ndim != 1 or not np.isfinite(samples).all():
                    raise AudioError(f"cannot write samples of shape {samples.shape}: give one channel, finite.")
                written += samples.size
                if format_name == "WAV" and written > MAX_WAV_SAMPLES:
                    raise AudioError(
                        "the clip is too long for WAV (4 GiB): write FLAC, or state its length (num_samples)."
                    )
                # libsndfile rounds to nearest for FLAC and down for WAV
                output.write(np.clip(np.rint(samples * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16))
    except (soundfile.SoundFileError, AssertionError):  # raised by soundfile for a failed write
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error


def _what_to_give() -> str:
    given = "give WAV, FLAC, Ogg, Opus or MP3"
    if has_ffmpeg():
        return given
    return f'{given}, or pip install "l3ac-tokenizer[formats]" for m4a, mp4, webm, aac, wma and other formats of FFmpeg'
