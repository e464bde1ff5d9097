"""Level rules and augmentation of single clips: mono float32 arrays (T,) at one sampling rate."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import soxr

from ...loudness import loudness_scale
from ..config import Augment

Samples = np.ndarray


def level_divisor(audio: Samples) -> float:
    """L3AC's level rule: mean of the largest thousandth of |a|, divided by 0.75, plus 1e-6.

    Clips under 1000 samples take the mean of all samples, as published, and so are amplified far too much.
    """
    count = int(0.001 * len(audio)) or len(audio)
    loudest = np.partition(np.abs(audio), len(audio) - count)[len(audio) - count :]
    return float(loudest.mean(dtype=np.float64)) / 0.75 + 1e-6


def level_rule(sampling_rate: int, lufs: float | None) -> Callable[[Samples], float]:
    """The function that gives a clip's divisor: L3AC's rule, or TAAE's where a loudness is given."""
    if lufs is None:
        return level_divisor
    return functools.partial(loudness_scale, sampling_rate=sampling_rate, lufs=lufs)


def level(audio: Samples, divisor: float) -> Samples:
    """Divide by the clip's divisor, and clip to [-1, 1]."""
    return np.clip(audio / np.float32(divisor), -1.0, 1.0)


def random_crop(audio: Samples, length: int, rng: np.random.Generator) -> Samples:
    """`length` samples from a uniformly drawn start, or the whole of a shorter clip."""
    start = rng.integers(max(0, len(audio) - length) + 1)
    return audio[start : start + length]


def fit(audio: Samples, length: int) -> Samples:
    """Cut or zero-pad on the right to exactly `length` samples."""
    return np.pad(audio[:length], (0, max(0, length - len(audio))))


def change_speed(audio: Samples, speed: float) -> Samples:
    """Play `speed` times as fast by resampling: pitch and tempo change together."""
    return soxr.resample(audio, speed, 1.0, quality="HQ").astype(np.float32)


def equalize(audio: Samples, largest_db: float, rng: np.random.Generator, points: int = 6) -> Samples:
    """Filter with a random response of at most ±`largest_db`, linear between `points` on a log-frequency axis."""
    spectrum = np.fft.rfft(audio)
    gains_db = rng.uniform(-largest_db, largest_db, points)
    position = np.log1p(np.linspace(0, 50, len(spectrum))) / np.log1p(50) * (points - 1)
    response = 10 ** (np.interp(position, np.arange(points), gains_db) / 20)
    return np.fft.irfft(spectrum * response, n=len(audio)).astype(np.float32)


def mix(audio: Samples, other: Samples, ratio_db: float) -> Samples:
    """Add `other` (of equal length), scaled to an energy `ratio_db` below that of `audio`."""
    energy, other_energy = float(np.square(audio).sum()), float(np.square(other).sum())
    if energy == 0.0 or other_energy == 0.0:
        return audio
    return audio + other * np.float32((energy / other_energy) ** 0.5 * 10 ** (-ratio_db / 20))


def draw_speed(options: Augment, rng: np.random.Generator) -> float:
    """A random playback speed, log-uniform over `options.speed`."""
    slowest, fastest = options.speed
    return float(np.exp(rng.uniform(np.log(slowest), np.log(fastest))))


def draw_gain(options: Augment, rng: np.random.Generator) -> np.float32:
    """A random gain as a factor, negative half the time with `options.polarity`."""
    lowest, highest = options.gain_db
    gain = 10 ** (rng.uniform(lowest, highest) / 20)
    return np.float32(-gain if options.polarity and rng.random() < 0.5 else gain)
