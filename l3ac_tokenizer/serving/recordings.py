"""Recordings that are encoded while they run.

Axes: T samples, N ids.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from ..limits import SERVED_SECONDS
from ..resampling import Resampler
from ..streaming import StreamingEncoder
from .clips import Result, decoded, header_of
from .models import served_model

MOST_RECORDINGS = 8
"""Recordings that run at once."""
IDLE_SECONDS = 60.0
"""Time without samples after which a recording is forgotten."""


@dataclass(frozen=True)
class Progress:
    """State of a recording that runs.

    Attributes:
        seconds: audio that has arrived.
        ids: (N,) int64, those that are decided so far.
        encode_seconds: time that encoding them took.
        full: whether the longest recording is reached; further samples are left out.
    """

    seconds: float
    ids: np.ndarray
    encode_seconds: float
    full: bool


class Recording:
    """One recording, encoded as it comes.

    Args:
        model: one of `served_names`.
        sampling_rate: of the microphone, in Hz.

    Raises:
        ValueError: See `served_model`.
    """

    def __init__(self, model: str, sampling_rate: int) -> None:
        self._served = served_model(model)
        self._encoder = StreamingEncoder(self._served.codec)
        self._resampler = Resampler(sampling_rate, self._served.codec.config.sampling_rate)
        self._rate = sampling_rate
        self._left = round(SERVED_SECONDS.value * sampling_rate)
        self._count = 0
        self._samples: list[np.ndarray] = []
        self._ids = np.empty(0, dtype=np.int64)
        self._encode_seconds = 0.0
        self._pushing = threading.Lock()
        self.last_used = time.monotonic()

    def push(self, samples: np.ndarray) -> Progress:
        """Encode the next samples (t,) int16."""
        with self._pushing:
            self.last_used = time.monotonic()
            samples = samples[: self._left]
            self._left -= len(samples)
            self._count += len(samples)
            self._encode(self._resampler.push(samples.astype(np.float32) / 2**15))
            return Progress(self._count / self._rate, self._ids, self._encode_seconds, self._left == 0)

    def finish(self) -> Result:
        """End the recording, and decode all its ids.

        Raises:
            ValueError: Nothing was recorded.
        """
        with self._pushing:
            self._encode(self._resampler.flush(), ended=True)
        original = np.concatenate(self._samples)
        if not len(original):
            raise ValueError("the recording holds no audio: record for longer.")
        remark = None if self._left else f"A recording ends after {SERVED_SECONDS.value:g} s."
        header = header_of(self._served, len(original))
        return decoded(self._served, header, self._ids, original, self._encode_seconds, remark)

    def _encode(self, samples: np.ndarray, ended: bool = False) -> None:
        start = time.perf_counter()
        ids = [self._encoder.push(samples)[0], *(self._encoder.flush() if ended else [])]
        self._encode_seconds += time.perf_counter() - start
        self._samples.append(samples)
        self._ids = np.concatenate([self._ids, *(new.cpu().numpy() for new in ids)])


class Recordings:
    """All recordings that run, by keys that their pages choose."""

    def __init__(self) -> None:
        self._running: dict[str, Recording] = {}
        self._changing = threading.Lock()

    def push(self, key: str, model: str, sampling_rate: int, samples: np.ndarray) -> Progress:
        """Give the next samples (t,) int16 to a recording, which begins with the first ones; see `Recording`.

        Raises:
            ValueError: Too many recordings run, or see `served_model`.
        """
        with self._changing:
            now = time.monotonic()
            self._running = {name: each for name, each in self._running.items() if now - each.last_used < IDLE_SECONDS}
            if key not in self._running:
                if len(self._running) >= MOST_RECORDINGS:
                    raise ValueError(f"{MOST_RECORDINGS} recordings run already: try again in a minute.")
                self._running[key] = Recording(model, sampling_rate)
            recording = self._running[key]
        return recording.push(samples)

    def finish(self, key: str) -> Result:
        """End a recording, see `Recording.finish`.

        Raises:
            ValueError: Nothing was recorded, or it was forgotten.
        """
        with self._changing:
            recording = self._running.pop(key, None)
        if recording is None:
            raise ValueError("the recording was not found or has been forgotten: record again.")
        return recording.finish()
