"""Training audio: a corpus decoded once into one memory-mapped array, and a stream of batches from it.

The stream is a function of (seed, item number) alone, so that a resumed run sees what an uninterrupted one
would.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from ..audio import AUDIO_SUFFIXES
from . import augment
from .config import Augment

logger = logging.getLogger(__name__)


class DataError(ValueError):
    """Training audio that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Clip:
    """One file's place in the corpus array."""

    path: str
    domain: str
    start: int
    length: int
    """Samples."""
    divisor: float
    """Of the published level rule, taken over the whole clip."""


class Corpus:
    """Mono audio at one sampling rate as one int16 array, with the clips that lie in it."""

    def __init__(self, samples: np.ndarray, clips: Sequence[Clip]):
        self.samples = samples
        self.clips = list(clips)

    def audio(self, clip: Clip) -> np.ndarray:
        """The clip's samples (T,), float32 in [-1, 1)."""
        return self.samples[clip.start : clip.start + clip.length].astype(np.float32) / 32768

    def seconds(self, sampling_rate: int) -> dict[str, float]:
        """Seconds of audio in each domain."""
        totals: dict[str, float] = {}
        for clip in self.clips:
            totals[clip.domain] = totals.get(clip.domain, 0.0) + clip.length / sampling_rate
        return totals

    def split(self, patterns: Sequence[str]) -> tuple[Corpus, Corpus]:
        """Clips whose path matches none of the patterns, and those that match one (`fnmatch`, whole path)."""
        held = [any(fnmatch.fnmatchcase(clip.path, pattern) for pattern in patterns) for clip in self.clips]
        keep = [clip for clip, out in zip(self.clips, held, strict=True) if not out]
        return Corpus(self.samples, keep), Corpus(
            self.samples, [clip for clip, out in zip(self.clips, held, strict=True) if out]
        )


def open_corpus(
    folders: Sequence[str | Path],
    cache: str | Path,
    *,
    sampling_rate: int,
    domains: Sequence[str],
    default_domain: str,
    max_failures: float = 0.05,
) -> Corpus:
    """Decode every audio file under `folders` into `cache`, or open the cache if the files are the same.

    Stereo is averaged, other rates are resampled (soxr VHQ). A file that cannot be read, is empty or holds
    NaN is logged, counted and skipped.

    Raises:
        DataError: when a folder is missing, nothing is found, or more than the share `max_failures` is
        unreadable.
    """
    files = _list_files(folders)
    facts = [(path.as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    settings = [facts, sampling_rate, sorted(domains), default_domain]
    fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    cache = Path(cache)
    index_path, samples_path = cache / "index.json", cache / "samples.npy"
    if index_path.is_file():
        index = json.loads(index_path.read_text())
        if index["fingerprint"] == fingerprint:
            return Corpus(np.load(samples_path, mmap_mode="r"), [Clip(**clip) for clip in index["clips"]])

    clips, blocks, failures, position = [], [], [], 0
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(functools.partial(_decode, sampling_rate=sampling_rate), files)
        for path, result in zip(files, tqdm(decoded, total=len(files), desc="decoding", unit="file"), strict=True):
            if isinstance(result, str):
                logger.warning("%s skipped: %s", path, result)
                failures.append((path.as_posix(), result))
                continue
            domain = _domain(path, domains, default_domain)
            divisor = augment.level_divisor(result.astype(np.float32) / 32768)
            clips.append(Clip(path.as_posix(), domain, position, len(result), divisor))
            blocks.append(result)
            position += len(result)
    if len(failures) > max_failures * len(files):
        raise DataError(
            f"{len(failures)} of {len(files)} audio files are unusable, the first is {failures[0][0]} "
            f"({failures[0][1]}): repair or remove them."
        )
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / "samples.partial.npy"
    np.save(temporary, np.concatenate(blocks))
    os.replace(temporary, samples_path)
    index = {
        "fingerprint": fingerprint,
        "failures": failures,
        "clips": [dataclasses.asdict(clip) for clip in clips],
    }
    temporary = cache / "index.partial.json"
    temporary.write_text(json.dumps(index))
    os.replace(temporary, index_path)
    return Corpus(np.load(samples_path, mmap_mode="r"), clips)


class BatchStream:
    """Random crops whose domains take turns in fixed shares; item i is a function of (seed, i) alone.

    Within a domain every clip comes once before any comes again.
    """

    def __init__(self, corpus: Corpus, shares: dict[str, float], options: Augment, seed: int):
        self.corpus = corpus
        self.options = options
        self.seed = seed
        self.domains = [name for name, share in shares.items() if share > 0]
        self.clips = [[clip for clip in corpus.clips if clip.domain == name] for name in self.domains]
        for name, clips in zip(self.domains, self.clips, strict=True):
            if not clips:
                raise DataError(f"No training audio in domain {name!r}: add a folder of it or set its share to 0.")
        self._turns = _turns(np.array([shares[name] for name in self.domains], dtype=np.float64))
        self._rank = np.array([(self._turns[:i] == d).sum() for i, d in enumerate(self._turns)])
        self._per_cycle = np.bincount(self._turns, minlength=len(self.domains))
        self._order = functools.lru_cache(maxsize=2 * len(self.domains))(self._permutation)

    def batch(self, first: int, size: int, length: int) -> np.ndarray:
        """Items first ... first + size - 1 as (size, 1, length) float32."""
        return np.stack([self.item(index, length) for index in range(first, first + size)])[:, None]

    def item(self, index: int, length: int) -> np.ndarray:
        """Item `index` of the stream, (length,) float32 in [-1, 1]."""
        rng = np.random.default_rng((self.seed, index))
        audio = self._crop(self._clip(index), length, rng)
        options = self.options
        if options.equalise_db:
            audio = augment.equalise(audio, options.equalise_db, rng)
        if options.mix_probability and rng.random() < options.mix_probability:
            others = self.clips[rng.integers(len(self.clips))]
            other = self._crop(others[rng.integers(len(others))], length, rng)
            audio = augment.mix(audio, other, rng.uniform(0, 20))
        return np.clip(audio * augment.draw_gain(options, rng), -1.0, 1.0)

    def domain(self, index: int) -> str:
        """The domain of item `index`."""
        return self.domains[self._turns[index % len(self._turns)]]

    def _clip(self, index: int) -> Clip:
        cycle, turn = divmod(index, len(self._turns))
        domain = int(self._turns[turn])
        clips = self.clips[domain]
        epoch, place = divmod(int(cycle * self._per_cycle[domain] + self._rank[turn]), len(clips))
        return clips[self._order(domain, epoch)[place]]

    def _permutation(self, domain: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, domain, epoch)).permutation(len(self.clips[domain]))

    def _crop(self, clip: Clip, length: int, rng: np.random.Generator) -> np.ndarray:
        """A levelled random crop of exactly `length` samples, its speed changed."""
        audio = self.corpus.audio(clip)
        if self.options.level:
            audio = augment.level(audio, clip.divisor)
        speed = augment.draw_speed(self.options, rng)
        audio = augment.random_crop(audio, int(np.ceil(length * speed)), rng)
        if speed != 1.0:
            audio = augment.change_speed(audio, speed)
        return augment.fit(audio, length)


def _list_files(folders: Sequence[str | Path]) -> list[Path]:
    files: set[Path] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: give folders of audio to --data.")
        files.update(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise DataError(f"No audio under {', '.join(map(str, folders))}.")
    return sorted(files)


def _domain(path: Path, domains: Sequence[str], default: str) -> str:
    return next((part for part in reversed(path.parts[:-1]) if part in domains), default)


def _decode(path: Path, sampling_rate: int) -> np.ndarray | str:
    """Samples (T,) int16, or the reason why the file is not usable."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        return str(error)
    mono = audio.mean(axis=1)
    if len(mono) == 0:
        return "it holds no audio"
    if not np.isfinite(mono).all():
        return "it holds NaN or infinite samples"
    if rate != sampling_rate:
        mono = soxr.resample(mono, rate, sampling_rate, quality="VHQ")
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)


def _turns(shares: np.ndarray, cycle: int = 60) -> np.ndarray:
    """Domain of each place in a cycle, as evenly spread as the shares allow (smooth weighted round-robin)."""
    shares = shares / shares.sum()
    credit, turns = np.zeros_like(shares), np.empty(cycle, dtype=np.int64)
    for place in range(cycle):
        credit += shares
        turns[place] = credit.argmax()
        credit[turns[place]] -= 1
    return turns


def prefetched(stream: BatchStream, requests: Iterator[tuple[int, int, int]]) -> Iterator[np.ndarray]:
    """Batches for (first, size, length) requests, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for request in requests:
            following = pool.submit(stream.batch, *request)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
