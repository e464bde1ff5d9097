"""Interface of the codecs under test: audio in, encoded clip, audio out, compared at 16 kHz.

Axes: B batch, T samples, K codebooks, N ids of a codebook.
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
"""Sampling rate in Hz at which decoded clips are compared with their originals."""


@dataclass(frozen=True)
class CompressedClip:
    """A clip as a codec stores it.

    Attributes:
        payload: Input of the codec's `decode`.
        bits: Size in bits; None if it follows from the number of ids and `CodecRates`.
        ids: (K, N) int64; None for codecs without ids.
    """

    payload: Any
    bits: float | None = None
    ids: np.ndarray | None = None


@dataclass(frozen=True)
class CodecRates:
    """Token rate and bit rate, as the codec's configuration implies them.

    Attributes:
        frames_per_second: Frames per second, each with one id per codebook.
        codebooks: Sizes of the K codebooks.
        levels: Levels of the digits that an id of a single codebook is made of (FSQ); empty for other quantizers.
    """

    frames_per_second: float
    codebooks: tuple[int, ...]
    levels: tuple[int, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Ids per second over all codebooks."""
        return self.frames_per_second * len(self.codebooks)

    @property
    def bits_per_second(self) -> float:
        """Bit rate if all ids are equally likely: frame rate times Σ log2 of the codebook sizes."""
        return self.frames_per_second * float(np.log2(self.codebooks).sum())

    @property
    def whole_bits_per_second(self) -> float:
        """Bit rate if each id takes a whole number of bits."""
        return self.frames_per_second * float(np.ceil(np.log2(self.codebooks)).sum())


class Codec(ABC):
    """A codec under test.

    Attributes:
        name: The name it was requested by; for a directory, the last part of the path.
        title: Its name in tables, with setting and rate.
        sampling_rate: Sampling rate of its input in Hz.
        output_rate: Sampling rate of its output in Hz.
        rates: Token rate and bit rate; None for codecs without ids.
        parameters: Number of parameters; None if it is not a torch model.
        digest: Identifies the weights; None if nothing does.
    """

    name: str
    title: str
    sampling_rate: int
    output_rate: int
    rates: CodecRates | None = None
    parameters: int | None = None
    digest: str | None = None

    @abstractmethod
    def encode(self, audio: np.ndarray) -> CompressedClip:
        """Encode a clip (T,) at `sampling_rate`."""

    @abstractmethod
    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """Audio (T',) at `output_rate`; T' may differ slightly from the clip's length."""

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Two calls to time: one encodes a batch of noise, the other decodes the result of the first."""
        clips = list(self.noise(seconds, batch).numpy())
        return lambda: [self.encode(clip) for clip in clips], lambda encoded: [self.decode(one) for one in encoded]

    def noise(self, seconds: float, batch: int) -> torch.Tensor:
        """White noise (B, T) at `sampling_rate`, from a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        return 0.1 * torch.randn(batch, round(seconds * self.sampling_rate), generator=generator)


class CodecUnavailable(Exception):
    """The codec cannot be tested on this machine; the message gives the reason and a remedy."""


def reconstruct(codec: Codec, encoded: CompressedClip, num_samples: int) -> np.ndarray:
    """Decoded audio (num_samples,) at `SCORING_RATE`, cut or padded with silence to this length."""
    audio = codec.decode(encoded)
    if codec.output_rate != SCORING_RATE:
        audio = soxr.resample(audio, codec.output_rate, SCORING_RATE, "VHQ")
    audio = np.asarray(audio, dtype=np.float32)[:num_samples]
    return np.pad(audio, (0, num_samples - audio.size))


def split_setting(name: str) -> tuple[str, str]:
    """A codec's name without its setting, and the setting after `@` ("" without one); directories have none."""
    base, _, setting = (name, "", "") if os.path.isdir(name) else name.partition("@")
    return base, setting


def codec_title(name: str) -> str:
    """Title in tables of a codec that has not been opened: its name, for a directory the last part of the path."""
    base, setting = split_setting(name)
    title = os.path.basename(os.path.abspath(base)) if os.path.isdir(base) else base
    return f"{title}@{setting}" if setting else title
