"""Audio of training clips: read from their files on demand, or decoded once into one array.

A small corpus is decoded into a memory-mapped file (`DecodedAudio`); a large one is read by the workers, crop by crop
(`AudioFiles`). Both give the same crops. Axes: T samples.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from ...audio import AudioReader, AudioSegment
from ...causes import failure
from ...files import atomic_write
from ...listing.errors import DataError
from ...logs import get_logger
from .augment import Samples, level, level_rule, random_crop

logger = get_logger(__name__)

LONGEST_ITEM = 30.0
"""Seconds of a longer file that are read and leveled as one item, from a random position."""


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """An audio file to train on, or a segment of one."""

    path: str
    domain: str
    start: float = 0.0
    """Seconds into the file."""
    seconds: float | None = None
    """None: up to the file's end."""


class Corpus(Protocol):
    """Audio of clips: mono float32 at one sampling rate."""

    def crop(self, clip: TrainingClip, length: int, rng: np.random.Generator, *, leveled: bool) -> Samples:
        """At most `length` samples from a random position, after the level rule on the whole clip.

        Raises:
            AudioError, OSError: the clip cannot be used.
        """

    def beginning(self, clip: TrainingClip, seconds: float) -> Samples:
        """The first `seconds`, at the clip's own level; raises the errors of `crop`."""

    def minutes(self, clip: TrainingClip) -> float | None:
        """The clip's length, or None where it is unknown without opening the file."""


def split(clips: Sequence[TrainingClip], patterns: Sequence[str]) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Divide clips into those whose absolute path matches none of the patterns (`fnmatch`) and those that match one.

    Patterns that match nothing are logged, as they may be mistyped.
    """
    parts: tuple[list[TrainingClip], list[TrainingClip]] = [], []
    unmatched = set(patterns)
    for clip in clips:
        path = os.path.abspath(clip.path)
        matching = {pattern for pattern in patterns if fnmatch.fnmatchcase(path, pattern)}
        unmatched -= matching
        parts[bool(matching)].append(clip)
    for pattern in sorted(unmatched):
        logger.warning("holdout: no file matches %s", pattern)
    return parts


def read_clip(
    clip: TrainingClip,
    sampling_rate: int,
    *,
    longest: float | None = None,
    rng: np.random.Generator | None = None,
    allow_truncated: bool = False,
) -> Samples:
    """The clip's samples (T,), downmixed to mono and resampled with soxr VHQ.

    Args:
        clip: Only this part of the file is decoded.
        sampling_rate: Wanted rate in Hz.
        longest: Largest number of seconds to read.
        rng: Draws where they begin; None: at the clip's beginning.
        allow_truncated: Use what is there of a truncated clip, with a warning.

    Raises:
        AudioError: the file is not audio, is truncated, damaged or holds NaN, or the clip lies after its end or is
            shorter than one sample at `sampling_rate`.
        OSError: the file does not exist.
    """
    segment = AudioSegment(clip.path, clip.start, clip.seconds)
    with AudioReader(segment, sampling_rate, allow_truncated=allow_truncated, exact=False) as reader:
        if longest is not None:
            most, first = round(longest * reader.source_rate), reader.frames.start
            latest = round((reader.duration or 0.0) * reader.source_rate) - most  # of unknown length: the beginning
            first += int(rng.integers(latest + 1)) if rng is not None and latest > 0 else 0
            reader.frames = range(first, min(first + most, reader.frames.stop))
        audio = reader.read()
        if reader.truncated is not None:
            logger.warning(reader.truncated)
        return audio


class AudioFiles:
    """Clips read from their files; of one longer than `LONGEST_ITEM` seconds, only a random part is read.

    The level rule then takes that part, where the published one takes the whole file.

    Args:
        sampling_rate: In Hz.
        lufs: Loudness to which clips are leveled; None: L3AC's level rule.
        allow_truncated: See `read_clip`.
    """

    def __init__(self, sampling_rate: int, lufs: float | None = None, allow_truncated: bool = False):
        self.sampling_rate = sampling_rate
        self.allow_truncated = allow_truncated
        self.divisor = level_rule(sampling_rate, lufs)

    def crop(self, clip: TrainingClip, length: int, rng: np.random.Generator, *, leveled: bool) -> Samples:
        """See `Corpus`."""
        longest = max(LONGEST_ITEM, length / self.sampling_rate)
        audio = read_clip(clip, self.sampling_rate, longest=longest, rng=rng, allow_truncated=self.allow_truncated)
        if leveled:
            audio = level(audio, self.divisor(audio))
        return random_crop(audio, length, rng)

    def beginning(self, clip: TrainingClip, seconds: float) -> Samples:
        """See `Corpus`."""
        return read_clip(clip, self.sampling_rate, longest=seconds, allow_truncated=self.allow_truncated)

    def minutes(self, clip: TrainingClip) -> float | None:
        """See `Corpus`; known for segments with a length."""
        return None if clip.seconds is None else clip.seconds / 60


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a clip in the decoded array."""

    start: int
    length: int
    divisor: float
    """Divisor of the level rule, taken over the whole clip."""


class DecodedAudio:
    """Clips decoded into one int16 array."""

    def __init__(self, samples: np.ndarray, places: Mapping[TrainingClip, Place], sampling_rate: int):
        self.samples = samples
        self.places = places
        self.sampling_rate = sampling_rate

    def crop(self, clip: TrainingClip, length: int, rng: np.random.Generator, *, leveled: bool) -> Samples:
        """See `Corpus`."""
        place = self.places[clip]
        audio = _to_float(random_crop(self.samples[place.start : place.start + place.length], length, rng))
        return level(audio, place.divisor) if leveled else audio

    def beginning(self, clip: TrainingClip, seconds: float) -> Samples:
        """See `Corpus`."""
        place = self.places[clip]
        return _to_float(self.samples[place.start : place.start + min(place.length, int(seconds * self.sampling_rate))])

    def minutes(self, clip: TrainingClip) -> float | None:
        """See `Corpus`."""
        return self.places[clip].length / self.sampling_rate / 60


def decode(
    clips: Sequence[TrainingClip],
    cache: Path,
    sampling_rate: int,
    max_unusable: float,
    lufs: float | None = None,
    allow_truncated: bool = False,
) -> DecodedAudio:
    """Decode all clips into the folder `cache`, or open an earlier result if files and settings are the same.

    Clips that cannot be used are logged, counted and left out of `places`. For `lufs` and `allow_truncated` see
    `AudioFiles`.

    Raises:
        DataError: more than the fraction `max_unusable` of the clips cannot be used.
    """
    index_path, samples_path = cache / "index.json", cache / "samples.int16"
    fingerprint = _fingerprint(clips, sampling_rate, lufs, allow_truncated)
    index = json.loads(index_path.read_text(encoding="utf-8")) if index_path.is_file() else {}
    if index.get("fingerprint") != fingerprint:
        cache.mkdir(parents=True, exist_ok=True)
        index = {"fingerprint": fingerprint} | _decode_into(
            samples_path, clips, sampling_rate, max_unusable, level_rule(sampling_rate, lufs), allow_truncated
        )
        with atomic_write(index_path) as file:
            file.write(json.dumps(index).encode())
    places = {clips[number]: Place(*values) for number, *values in index["places"]}
    return DecodedAudio(np.memmap(samples_path, dtype=np.int16, mode="r"), places, sampling_rate)


def _decode_into(
    path: Path,
    clips: Sequence[TrainingClip],
    sampling_rate: int,
    max_unusable: float,
    divisor: Callable[[Samples], float],
    allow_truncated: bool,
) -> dict[str, list]:
    """Write the samples, and return the index: `places` (clip number, start, length, divisor) and `unusable`."""
    places, unusable, position = [], [], 0
    with ThreadPoolExecutor() as pool, atomic_write(path) as file:
        pending = pool.map(lambda clip: _decoded(clip, sampling_rate, divisor, allow_truncated), clips)
        for number, result in enumerate(tqdm(pending, total=len(clips), desc="decoding", unit="clip")):
            if isinstance(result, str):
                logger.warning("skipped: %s", result)
                unusable.append(result)
                continue
            samples, divided_by = result
            file.write(samples.tobytes())
            places.append((number, position, len(samples), divided_by))
            position += len(samples)
        if len(unusable) > max_unusable * len(clips):
            raise DataError(
                f"{len(unusable)} of {len(clips)} audio files are unusable, the first: {unusable[0]}; repair or remove "
                "them, or raise --max-unusable."
            )
    return {"places": places, "unusable": unusable}


def _decoded(
    clip: TrainingClip, sampling_rate: int, divisor: Callable[[Samples], float], allow_truncated: bool
) -> tuple[np.ndarray, float] | str:
    """Samples (T,) int16 with their level divisor, or the reason why the clip cannot be used."""
    try:
        audio = read_clip(clip, sampling_rate, allow_truncated=allow_truncated)
        audio = audio * np.float32(32768)
        samples = np.clip(np.rint(audio, out=audio), -32768, 32767, out=audio).astype(np.int16)
        del audio
        return samples, divisor(_to_float(samples))
    except Exception as error:  # one file, whatever is wrong with it, does not end the run
        return failure(error).rstrip(". ")


def _to_float(samples: np.ndarray) -> Samples:
    return samples.astype(np.float32) / 32768


def _fingerprint(clips: Sequence[TrainingClip], sampling_rate: int, lufs: float | None, allow_truncated: bool) -> str:
    """Digest over the clips, sizes and times of their files, the rate, the level rule, and truncated files' use."""
    settings = [str(sampling_rate), *([] if lufs is None else [str(lufs)]), *(["truncated"] if allow_truncated else [])]
    digest = hashlib.sha256(" ".join(settings).encode())
    for clip in clips:
        path = Path(clip.path)
        # `Path.is_file` raises for names that are too long
        version = (path.stat().st_size, path.stat().st_mtime_ns) if os.path.isfile(path) else None
        digest.update(f"{astuple(clip)} {version}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
