"""Codecs of transformers as codecs under test, by hub name or local directory.

Some take a setting for their rate: the number of codebooks for DAC and Mimi, kb/s for EnCodec and X-Codec. To add a
model, add a line to `ADAPTERS`.

Axes: B batch, T samples, K codebooks, N ids of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Codec, CodecRates, CodecUnavailable, CompressedClip, codec_title


@dataclass(frozen=True)
class Adapter:
    """Calls of one family of models.

    Attributes:
        encode: (model, output of the feature extractor, setting) → model output with ids `audio_codes` (B, K, N), or
            (chunks, B, K, N).
        decode: (model, model output of `encode`) → audio (B, 1, T) or (B, T).
        codebook_size: Configuration → size of each codebook.
        setting: Unit of the number after `@`; None if the family takes no setting.
    """

    encode: Callable[[Any, Mapping[str, Tensor], float | None], Any]
    decode: Callable[[Any, Any], Tensor]
    codebook_size: Callable[[Any], int] = lambda config: config.codebook_size
    setting: str | None = None


def _whole(setting: float | None) -> int | None:
    return None if setting is None else int(setting)


def _fsq_size(config: Any) -> int:
    return int(np.prod(config.quantization_levels))


ADAPTERS: Mapping[str, Adapter] = {
    "dac": Adapter(
        lambda model, inputs, books: model.encode(inputs["input_values"], n_quantizers=_whole(books)),
        lambda model, output: model.decode(audio_codes=output.audio_codes).audio_values,
        setting="codebooks",
    ),
    "mimi": Adapter(
        lambda model, inputs, books: model.encode(inputs["input_values"], num_quantizers=_whole(books)),
        lambda model, output: model.decode(output.audio_codes).audio_values,
        setting="codebooks",
    ),
    "encodec": Adapter(
        lambda model, inputs, kbps: model.encode(inputs["input_values"], inputs.get("padding_mask"), bandwidth=kbps),
        lambda model, output: (
            model.decode(
                output.audio_codes, output.audio_scales, last_frame_pad_length=output.last_frame_pad_length or 0
            ).audio_values
        ),
        setting="kb/s",
    ),
    "xcodec": Adapter(
        lambda model, inputs, kbps: model.encode(inputs["input_values"], bandwidth=kbps),
        lambda model, output: model.decode(output.audio_codes).audio_values,
        setting="kb/s",
    ),
    "xcodec2": Adapter(
        lambda model, inputs, _: model.encode(**inputs),
        lambda model, output: model.decode(audio_codes=output.audio_codes).audio_values,
        _fsq_size,
    ),
    "neucodec": Adapter(
        lambda model, inputs, _: model.encode(**inputs),
        lambda model, output: model.decode(audio_codes=output.audio_codes).audio_values,
        _fsq_size,
    ),
}
"""`model_type` → calls; other models of `AutoModelForAudioTokenization` are called as `GENERAL`."""

GENERAL = Adapter(
    lambda model, inputs, _: model.encode(inputs["input_values"]),
    lambda model, output: model.decode(audio_codes=output.audio_codes).audio_values,
)


class TransformersCodec(Codec):
    """A codec of transformers with its feature extractor.

    Args:
        model: the model, in evaluation mode.
        extractor: its feature extractor.
        title: name in tables.
        setting: number of codebooks or kb/s, see `Adapter.setting`; "" for the model's default.

    Raises:
        CodecUnavailable: the setting is invalid for this model.
    """

    def __init__(self, model: Any, extractor: Any, title: str, setting: str = "") -> None:
        self.model, self.extractor = model, extractor
        config = model.config
        self.adapter = ADAPTERS.get(config.model_type, GENERAL)
        self.setting = _number(setting, self.adapter.setting)
        self.name = self.title = title
        self.sampling_rate = extractor.sampling_rate
        self.output_rate = getattr(config, "output_sampling_rate", self.sampling_rate)
        self.parameters = model.num_parameters()
        # Measured on 1 s and 2 s of silence: configurations differ in the rate that they state, or round it.
        short, long = (self._encode(np.zeros(seconds * self.sampling_rate, np.float32))[1] for seconds in (1, 2))
        self.rates = CodecRates(
            float(long.shape[1] - short.shape[1]), (self.adapter.codebook_size(config),) * len(short)
        )

    @classmethod
    def open(cls, name: str, setting: str, device: str) -> TransformersCodec:
        """The codec of a hub name or directory.

        Raises:
            CodecUnavailable: the setting is invalid for this model.
            OSError, ValueError: it cannot be loaded, or lacks weights.
        """
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        _number(setting, ADAPTERS.get(config.model_type, GENERAL).setting)  # before the weights are fetched
        auto = AutoModel if config.model_type in ADAPTERS else AutoModelForAudioTokenization
        model: Any
        model, report = auto.from_pretrained(name, output_loading_info=True, trust_remote_code=False)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"its file lacks {missing[0]} and {len(missing) - 1} other tensors")
        title = codec_title(name) + (f"@{setting}" if setting else "")
        extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
        codec = cls(model.to(device).eval(), extractor, title, setting)
        codec.digest = getattr(config, "_commit_hash", None)
        return codec

    def encode(self, audio: np.ndarray) -> CompressedClip:
        """Ids (K, N) of the model, those of its chunks concatenated."""
        output, ids = self._encode(audio)
        return CompressedClip(output, ids=ids)

    @torch.inference_mode()
    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """First channel (T,) of the model's output, uncut."""
        audio = self.adapter.decode(self.model, encoded.payload)[0]
        return (audio if audio.ndim == 1 else audio[0]).float().cpu().numpy()  # DAC has no channel axis

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Passes of the whole batch in one tensor; features are extracted beforehand."""
        inputs = self._inputs(list(self.noise(seconds, batch).numpy()))
        return (
            lambda: self.adapter.encode(self.model, inputs, self.setting),
            lambda output: self.adapter.decode(self.model, output),
        )

    def _inputs(self, clips: list[np.ndarray]) -> Any:
        return self.extractor(clips, sampling_rate=self.sampling_rate, return_tensors="pt").to(self.model.device)

    @torch.inference_mode()
    def _encode(self, audio: np.ndarray) -> tuple[Any, np.ndarray]:
        """Model output, and ids (K, N)."""
        output = self.adapter.encode(self.model, self._inputs([audio]), self.setting)
        codes = output.audio_codes
        if codes.ndim == 4:  # (chunks, B, K, N)
            codes = torch.cat(list(codes), dim=-1)
        return output, codes[0].cpu().numpy()


def _number(text: str, unit: str | None) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if unit is None or not number > 0:
        what = "no setting" if unit is None else f"a number of {unit} after @"
        raise CodecUnavailable(f"the setting {text!r} does not fit: this model takes {what}.")
    return number
