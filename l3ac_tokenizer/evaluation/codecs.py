"""The codecs under test behind one interface: audio in at the codec's rate, a code, audio out at 16 kHz.

A codec is named in one word, with a setting after `@` where it has one:

| name | codec | setting |
|---|---|---|
| `original` | no codec: the ceiling | |
| `l3ac-1k`, a directory | this package's presets and checkpoints | `frozen`: statistics of the decoder as in streams |
| hub name, a directory | models of transformers (`evaluation/peers.py`) | codebooks, or kb/s for EnCodec and X-Codec |
| `opus` | Opus through libsndfile (`evaluation/anchors.py`) | kb/s, from 6 |
| `codec2` | Codec 2 through `c2enc`, `c2dec` | mode: 3200 … 450 |

Axes: B batch, T samples, K streams of ids, N ids a stream.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch

if TYPE_CHECKING:
    from ..modeling.span import TimeNormMode

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


def open_codec(name: str, device: str = "cpu") -> Codec:
    """The codec of this name.

    Raises:
        CodecUnavailable: it cannot be had here: no network, a missing tool or file, an unknown setting.
    """
    from . import anchors

    base, _, setting = (name, "", "") if os.path.isdir(name) else name.partition("@")
    if base == "original":
        return Original()
    if base == "opus":
        return anchors.Opus(setting)
    if base == "codec2":
        return anchors.Codec2(setting)
    return _open_network(base, setting, device)


def codec_title(name: str) -> str:
    """What tables call a codec that could not be opened."""
    base, at, setting = (name, "", "") if os.path.isdir(name) else name.partition("@")
    return (os.path.basename(os.path.abspath(base)) if os.path.isdir(base) else base) + at + setting


def refuse_twins(names: Sequence[str]) -> None:
    """Codecs that tables could not tell apart.

    Raises:
        ValueError: two have one title.
    """
    titles: dict[str, str] = {}
    for name in names:
        title = codec_title(name)
        if title in titles:
            raise ValueError(f"{titles[title]} and {name} would both be called {title}: rename a directory.")
        titles[title] = name


class Original(Codec):
    """No codec: 16-bit samples, and what metrics say of them."""

    name = title = "original"
    sampling_rate = output_rate = SCORING_RATE

    def encode(self, audio: np.ndarray) -> Code:
        """The clip itself, 16 bits a sample."""
        return Code(audio, bits=16.0 * audio.size)

    def decode(self, code: Code) -> np.ndarray:
        """The clip."""
        return code.payload


class OurCodec(Codec):
    """A checkpoint of this package, of any family; decoding is cut to the clip's length."""

    def __init__(self, directory: str, setting: str, device: str) -> None:
        from ..modeling import CodecModel

        if setting not in ("", "frozen"):
            raise CodecUnavailable(f"the setting {setting!r} is not known: write @frozen, or nothing.")
        self.name = codec_title(directory) + (f"@{setting}" if setting else "")
        self.title = self.name
        self.time_norm: TimeNormMode = "frozen" if setting else "clip"
        self.model: Any = CodecModel.from_pretrained(directory).eval()
        self.model.to(device)
        config = self.model.config
        self.sampling_rate = self.output_rate = config.sampling_rate
        streams = config.num_quantizers
        self.rates = Rates(
            config.frame_rate, (config.codebook_size,) * streams, tuple(config.levels) if streams == 1 else ()
        )
        self.parameters = self.model.num_parameters()
        self.digest = self.model.weights_digest()
        one_frame = torch.zeros(1, streams, 1, dtype=torch.int64, device=self.model.device)
        self.decode(Code((one_frame, config.hop_length)))  # statistics may be missing: now, not at the first clip

    @torch.inference_mode()
    def encode(self, audio: np.ndarray) -> Code:
        """Ids, and the number of samples."""
        inputs = torch.from_numpy(audio)[None, None].to(self.model.device)
        ids = self.model.encode(inputs).audio_codes
        return Code((ids, audio.size), ids=ids[0].cpu().numpy())

    @torch.inference_mode()
    def decode(self, code: Code) -> np.ndarray:
        """As many samples as went in."""
        ids, num_samples = code.payload
        output = self.model.decode(ids, time_norm=self.time_norm, num_samples=num_samples)
        return output.audio_values[0, 0].float().cpu().numpy()

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """The batch in one tensor."""
        inputs = self.noise(seconds, batch)[:, None].to(self.model.device)
        return (
            lambda: self.model.encode(inputs).audio_codes,
            lambda codes: self.model.decode(codes, time_norm=self.time_norm).audio_values,
        )


def _open_network(base: str, setting: str, device: str) -> Codec:
    from ..hub import bundled_presets
    from ..presets import FAMILIES, PRESETS
    from .peers import open_peer

    is_ours = base in PRESETS or _model_type(base) in FAMILIES
    try:
        return OurCodec(base, setting, device) if is_ours else open_peer(base, setting, device)
    except CodecUnavailable:
        raise
    except Exception as error:  # each library and each model has its own
        if not (is_ours or os.path.isdir(base)):
            offline = f"{', '.join(bundled_presets())}, opus, codec2 and directories work offline"
            reason = f"there is no such directory, and the hub was out of reach or has no such model; {offline}."
            raise CodecUnavailable(reason) from error
        reason = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
        raise CodecUnavailable(f"it cannot be loaded ({reason}).") from error


def _model_type(directory: str) -> str | None:
    path = os.path.join(directory, "config.json")
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file).get("model_type")
    except (ValueError, AttributeError):
        return None
