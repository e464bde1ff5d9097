"""Recording that is encoded while it runs.

Axes: T samples, N ids.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..limits import SERVED_SECONDS
from ..resampling import Resampler
from ..streaming import StreamingEncoder
from .clips import Result, decoded, header_of
from .models import ServedModel, served_model

_MISSING_SECONDS = 1.0
"""Time without audio beyond which a recording counts as incomplete; less is the unsteadiness of a network."""

_WORKERS = ThreadPoolExecutor(2, "microphone")


@dataclass(frozen=True)
class Progress:
    """State of a recording that runs.

    Attributes:
        seconds: audio that has arrived.
        ids: (N,) int64, those that are decided so far.
        encode_seconds: time that encoding them took.
        full: whether the longest recording is reached, and further audio left out.
    """

    seconds: float
    ids: np.ndarray
    encode_seconds: float
    full: bool


class Microphone:
    """Encodes one recording.

    `push` does not wait for the codec, since Gradio discards all chunks but the newest that arrive before it returns;
    a worker thread encodes what has been pushed.

    Args:
        model: one of `served_names`, which the worker loads.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._waiting: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        self._working = threading.Lock()
        self._work: Future[None] | None = None
        self._rate = 0
        self._count = 0  # samples that have arrived, at the rate of the microphone
        self._first = self._last = 0.0
        self._first_count = 0
        self._served: ServedModel | None = None
        self._encoder: StreamingEncoder | None = None
        self._samples: list[np.ndarray] = []
        self._ids: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
        self._encode_seconds = 0.0
        self.is_finished = False

    def push(self, sampling_rate: int, samples: np.ndarray) -> Progress:
        """Take the next samples (t,), or (t, channels), which are downmixed, of 16 bits.

        Raises:
            ValueError: The model cannot be loaded, see `served_model`, or the sampling rate has changed.
        """
        if self._work is not None and self._work.done():
            self._work.result()
        now = time.monotonic()
        if not self._count:
            self._rate, self._first, self._first_count = sampling_rate, now, len(samples)
        if sampling_rate != self._rate:
            raise ValueError(f"the microphone went from {self._rate} to {sampling_rate} Hz: start again.")
        full = self._count >= SERVED_SECONDS.value * self._rate
        if not full:
            self._last = now
            self._count += len(samples)
            mono = samples.astype(np.float32) / 2**15
            self._waiting.put(mono if mono.ndim == 1 else mono.mean(axis=1))
            self._work = _WORKERS.submit(self._encode)
        ids = np.concatenate(list(self._ids))
        return Progress(self._count / self._rate, ids, self._encode_seconds, full)

    def finish(self) -> Result:
        """End the recording, and decode all its ids.

        Raises:
            ValueError: Nothing was recorded, or see `push`.
        """
        self.is_finished = True
        self._encode(ended=True)
        if self._served is None or not self._samples:
            raise ValueError("the microphone gave no audio: record for longer.")
        original, ids = np.concatenate(self._samples), np.concatenate(self._ids)
        header = header_of(self._served, len(original))
        return decoded(self._served, header, ids, original, self._encode_seconds, self._remark())

    def _remark(self) -> str | None:
        limit = SERVED_SECONDS.value
        if self._count >= limit * self._rate:
            return f"Only the first {limit:g} s of a recording are encoded."
        missing = self._last - self._first - (self._count - self._first_count) / self._rate
        if missing > _MISSING_SECONDS:
            return f"About {missing:.1f} s of the recording did not arrive: the connection or the server was too slow."
        return None

    def _encode(self, ended: bool = False) -> None:
        """Encode all chunks that wait, in their order."""
        with self._working:
            chunks: list[np.ndarray] = []
            while not self._waiting.empty():
                chunks.append(self._waiting.get())
            if not chunks and not (ended and self._encoder):
                return  # another call took them
            if self._encoder is None:
                self._served = served_model(self._model)
                self._resampler = Resampler(self._rate, self._served.codec.config.sampling_rate)
                self._encoder = StreamingEncoder(self._served.codec)
            parts = [self._resampler.push(chunk) for chunk in chunks]
            samples = np.concatenate([*parts, self._resampler.flush()] if ended else parts)
            start = time.perf_counter()
            self._samples.append(samples)
            self._ids.append(self._encoder.push(samples)[0].cpu().numpy())
            if ended:
                self._ids.append(self._encoder.flush()[0].cpu().numpy())
            self._encode_seconds += time.perf_counter() - start
