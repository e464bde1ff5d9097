"""The codecs under test, by name.

A codec is named in one word, with a setting after `@` where it has one:

| name | codec | setting |
|---|---|---|
| `original` | no codec: the ceiling | |
| `l3ac-1k`, a directory | this package's presets and checkpoints | `frozen`: statistics of the decoder as in streams |
| hub name, a directory | models of transformers (`transformers_codecs.py`) | codebooks, or kb/s for EnCodec and X-Codec |
| `opus` | Opus through libsndfile (`classical.py`) | kb/s, from 6 |
| `codec2` | Codec 2 through `c2enc`, `c2dec` | mode: 3200 … 450 |
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .base import SCORING_RATE, Code, Codec, CodecUnavailable, Rates, codec_title

if TYPE_CHECKING:
    from ...modeling.span import TimeNormMode


def open_codec(name: str, device: str = "cpu") -> Codec:
    """The codec of this name.

    Raises:
        CodecUnavailable: it cannot be had here: no network, a missing tool or file, an unknown setting.
    """
    from . import classical as anchors

    base, _, setting = (name, "", "") if os.path.isdir(name) else name.partition("@")
    if base == "original":
        return Original()
    if base == "opus":
        return anchors.Opus(setting)
    if base == "codec2":
        return anchors.Codec2(setting)
    return _open_network(base, setting, device)


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
        from ...modeling import CodecModel

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
    from ...hub import bundled_presets
    from ...presets import FAMILIES, PRESETS
    from .transformers_codecs import open_peer

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
