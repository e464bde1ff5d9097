"""What is tested, behind one interface: audio in at the codec's rate, a code, audio out at 16 kHz.

Axes: B batch, T samples, K streams of ids, N ids a stream.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch

SCORING_RATE = 16_000
"""Rate in Hz at which decoded clips are compared with their originals."""


@dataclass(frozen=True)
class Code:
    """A clip as a codec stores it.

    Attributes:
        payload: what `decode` takes.
        bits: its size; None where that follows from the number of ids and `Rates`.
        ids: (K, N) int64; None where a codec has no ids.
    """

    payload: Any
    bits: float | None = None
    ids: np.ndarray | None = None


@dataclass(frozen=True)
class Rates:
    """What ids cost, from the codec's configuration.

    Attributes:
        frames_per_second: Ids a second of one stream.
        codebooks: Sizes of the K codebooks.
        digits: Levels of the digits that an id of a single stream is made of; empty where it has none.
    """

    frames_per_second: float
    codebooks: tuple[int, ...]
    digits: tuple[int, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Ids a second of all streams."""
        return self.frames_per_second * len(self.codebooks)

    @property
    def bits_per_second(self) -> float:
        """Of ids that all are equally likely: Σ log2 of the codebooks a frame."""
        return self.frames_per_second * float(np.log2(self.codebooks).sum())

    @property
    def whole_bits_per_second(self) -> float:
        """The same with every id in a whole number of bits."""
        return self.frames_per_second * float(np.ceil(np.log2(self.codebooks)).sum())


class Codec(ABC):
    """What is tested.

    Attributes:
        name: As it was asked for, a directory by its last part.
        title: What tables call it: what it is, at which setting and rate.
        sampling_rate: Of the audio that it takes, in Hz.
        output_rate: Of the audio that it gives, in Hz.
        rates: What its ids cost; None without ids.
        parameters: Their number; None for what is no network.
        digest: Names the weights, where something does.
    """

    name: str
    title: str
    sampling_rate: int
    output_rate: int
    rates: Rates | None = None
    parameters: int | None = None
    digest: str | None = None

    @abstractmethod
    def encode(self, audio: np.ndarray) -> Code:
        """A clip (T,) at `sampling_rate` → its code."""

    @abstractmethod
    def decode(self, code: Code) -> np.ndarray:
        """Audio (T',) at `output_rate`; T' may differ a little from the clip's length."""

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """What is timed: a call that encodes a batch of noise, and one that decodes what that gave."""
        clips = list(self.noise(seconds, batch).numpy())
        return lambda: [self.encode(clip) for clip in clips], lambda codes: [self.decode(code) for code in codes]

    def noise(self, seconds: float, batch: int) -> torch.Tensor:
        """Clips (B, T) at `sampling_rate`, the same numbers every time."""
        generator = torch.Generator().manual_seed(0)
        return 0.1 * torch.randn(batch, round(seconds * self.sampling_rate), generator=generator)


class CodecUnavailable(Exception):
    """A codec that cannot be tested here; the message says why, and what to do."""


def reconstruct(codec: Codec, code: Code, num_samples: int) -> np.ndarray:
    """Decoded audio (T,) at `SCORING_RATE`, cut or filled with silence to the original's length there."""
    audio = codec.decode(code)
    if codec.output_rate != SCORING_RATE:
        audio = soxr.resample(audio, codec.output_rate, SCORING_RATE, "VHQ")
    audio = np.asarray(audio, dtype=np.float32)[:num_samples]
    return np.pad(audio, (0, num_samples - audio.size))


def codec_title(name: str) -> str:
    """What tables call a codec that could not be opened."""
    base, at, setting = (name, "", "") if os.path.isdir(name) else name.partition("@")
    return (os.path.basename(os.path.abspath(base)) if os.path.isdir(base) else base) + at + setting
