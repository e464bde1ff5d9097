"""Integrated loudness of mono clips (ITU-R BS.1770), and the scale that brings a clip to a given loudness.

A clip divided by its scale has the loudness; the decoded clip times the scale has the clip's level again.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

QUIET = 1e-6
"""Mean square below which a clip keeps its level."""
HIGHEST_PEAK = 0.95
"""Peak of a clip that would exceed full scale at the wanted loudness."""
LOWEST_LUFS, HIGHEST_LUFS = -70.0, 0.0

_STEP_SECONDS = 0.1
_STEPS = 4
"""Steps in a block, whose power is compared with the gates: 0.4 s, with 75 % overlap."""
_RESPONSE_SECONDS = 0.15
"""Length of the filter's impulse response, after which it is below 1e-15."""
_STEPS_AT_ONCE = 20


class LoudnessMeter:
    """Measures a clip that comes in chunks of any sizes, which do not change the result; memory does not grow with it.

    Unlike in the standard, the absolute gate of -70 LUFS is relative to the clip's peak, not to full scale: otherwise
    the pauses of a quiet clip would fall below it, and its loudness would change by more than its level.

    Args:
        sampling_rate: of the clip, in Hz.
    """

    def __init__(self, sampling_rate: int) -> None:
        self._step = max(1, round(_STEP_SECONDS * sampling_rate))
        response = _response(sampling_rate)
        self._before = np.zeros(len(response) - 1)
        self._fft = 1 << (self._step * _STEPS_AT_ONCE + len(self._before) - 1).bit_length()
        self._transfer = np.fft.rfft(response, self._fft)
        self._waiting: list[np.ndarray] = []
        self._powers: list[np.ndarray] = []
        self._squares = self._peak = 0.0
        self._count = 0

    def push(self, samples: np.ndarray) -> None:
        """Add the clip's next samples (t,)."""
        self._waiting.append(np.asarray(samples, dtype=np.float64))
        size = self._step * _STEPS_AT_ONCE
        if sum(map(len, self._waiting)) < size:
            return
        joined = np.concatenate(self._waiting)
        whole = len(joined) // size * size
        for part in joined[:whole].reshape(-1, size):
            self._measure(part)
        self._waiting = [joined[whole:]]

    def scale(self, lufs: float) -> float:
        """The scale of the clip, a float32: its samples divided by it have `lufs`, and a peak of at most 1.

        Where the peak would exceed 1, it becomes 0.95, and the loudness stays below `lufs`. The scale is 1, so that the
        clip keeps its level, for clips shorter than the standard's block of 0.4 s, practically silent ones (below
        -60 dB), and infrasound. No more samples may follow.
        """
        self._measure(np.concatenate([np.empty(0), *self._waiting]))
        self._waiting = []
        if self._count < _STEPS * self._step or self._squares / self._count < QUIET:
            return 1.0
        powers = np.concatenate(self._powers) / self._peak**2
        power = _gated(np.convolve(powers, np.full(_STEPS, 1 / _STEPS), "valid"))
        if power is None:
            return 1.0
        scale = self._peak * 10 ** ((_lufs(power) - lufs) / 20)
        return float(np.float32(scale if self._peak < scale else self._peak / HIGHEST_PEAK))

    def _measure(self, part: np.ndarray) -> None:
        """Add the power of each whole step of `part`, of at most `_STEPS_AT_ONCE` steps."""
        if not len(part):
            return
        with_past = np.concatenate([self._before, part])
        weighted = np.fft.irfft(np.fft.rfft(with_past, self._fft) * self._transfer, self._fft)
        weighted = weighted[len(self._before) : len(with_past)]
        steps = len(part) // self._step
        self._powers.append(np.square(weighted[: steps * self._step]).reshape(steps, self._step).mean(axis=1))
        self._before = with_past[len(part) :]
        self._squares += float(np.square(part).sum())
        self._peak = max(self._peak, float(np.abs(part).max()))
        self._count += len(part)


def loudness_scale(audio: np.ndarray, sampling_rate: int, lufs: float) -> float:
    """The scale of a clip (T,), see `LoudnessMeter.scale`."""
    meter = LoudnessMeter(sampling_rate)
    meter.push(audio)
    return meter.scale(lufs)


def leveled(audio: np.ndarray, sampling_rate: int, lufs: float | None) -> tuple[np.ndarray, float]:
    """A clip (T,) float32 at the loudness `lufs`, and its scale; None: the clip as it is, and 1."""
    if lufs is None:
        return audio, 1.0
    scale = loudness_scale(audio, sampling_rate, lufs)
    return audio / np.float32(scale), scale


def checked_lufs(lufs: Any, name: str = "level_lufs") -> float | None:
    """A loudness to which clips are leveled; None stays None.

    Raises:
        ValueError: it is not a number from -70 to 0; the message calls it `name`.
    """
    if lufs is None:
        return None
    if isinstance(lufs, bool) or not isinstance(lufs, (int, float)) or not LOWEST_LUFS <= lufs <= HIGHEST_LUFS:
        raise ValueError(
            f"`{name}` is {str(lufs)[:80]!r}; it must be a loudness from {LOWEST_LUFS:g} to {HIGHEST_LUFS:g} LUFS, "
            "or None."
        )
    return float(lufs)


def _gated(powers: np.ndarray) -> float | None:
    """Mean power of the blocks above both gates; None: there is none."""
    audible = powers[_lufs(powers) > LOWEST_LUFS]
    if not len(audible):
        return None
    return float(audible[audible > audible.mean() / 10].mean())


def _lufs(power: Any) -> Any:
    """Loudness of K-weighted power."""
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


@functools.lru_cache(maxsize=8)
def _response(sampling_rate: int) -> np.ndarray:
    """Impulse response of the K-weighting (BS.1770, Annex 1): a shelf of 4 dB and a high-pass.

    The standard lists coefficients at 48 kHz; these are the analog prototypes behind them, for any rate.
    """
    response = np.zeros(round(_RESPONSE_SECONDS * sampling_rate) + 2)
    response[0] = 1.0

    slope = math.tan(math.pi * 1681.974450955533 / sampling_rate)
    damping, high = slope / 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    shelf = (high + middle * damping + slope**2, 2 * (slope**2 - high), high - middle * damping + slope**2)
    response = _biquad(response, shelf, damping, slope)

    slope = math.tan(math.pi * 38.13547087602444 / sampling_rate)
    damping = slope / 0.5003270373238773
    # The standard's high-pass has the numerator 1, -2, 1 without normalization.
    gain = 1 + damping + slope**2
    return _biquad(response, (gain, -2 * gain, gain), damping, slope)


def _biquad(samples: np.ndarray, numerator: tuple[float, float, float], damping: float, slope: float) -> np.ndarray:
    """Filter (t,) by a biquad with the poles of a bilinear transform."""
    gain = 1 + damping + slope**2
    b0, b1, b2 = (each / gain for each in numerator)
    a1, a2 = 2 * (slope**2 - 1) / gain, (1 - damping + slope**2) / gain
    output = np.empty_like(samples)
    x1 = x2 = y1 = y2 = 0.0
    for position, x0 in enumerate(samples.tolist()):
        y0 = b0 * x0 + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
        output[position] = y0
        x1, x2, y1, y2 = x0, x1, y0, y1
    return output
