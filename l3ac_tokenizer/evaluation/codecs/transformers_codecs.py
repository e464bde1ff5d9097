"""Codecs of transformers behind our interface, by hub name or local directory.

Each takes a setting for its rate: the number of codebooks for DAC and Mimi, kb/s for EnCodec and X-Codec. Weights are
the published ones, or whatever the directory holds; nothing is ever random.

Axes: B batch, T samples, K streams of ids, N ids a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Code, Codec, CodecUnavailable, Rates, codec_title


@dataclass(frozen=True)
class Adapter:
    """How a family of models is called.

    Attributes:
        encode: (model, inputs of the feature extractor, setting) → ids (1, K, N), or (chunks, 1, K, N).
        decode: (model, what encoding gave) → audio (1, 1, T) or (1, T).
        codebook_size: Configuration → size of each stream's codebook.
        setting: What the number after `@` is.
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
"""By `model_type`; another model of `AutoModelForAudioTokenization` is called as DAC is, without a setting."""

GENERAL = Adapter(
    lambda model, inputs, _: model.encode(inputs["input_values"]),
    lambda model, output: model.decode(audio_codes=output.audio_codes).audio_values,
)


class Peer(Codec):
    """A codec of transformers, with its own feature extractor.

    Args:
        name: hub name or directory.
        setting: see `Adapter.setting`; empty: the model's own default.
        device: of torch.

    Raises:
        CodecUnavailable: a setting that it has not.
        OSError, ValueError: it cannot be loaded whole.
    """

    def __init__(self, name: str, setting: str, device: str) -> None:
        from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization

        config = AutoConfig.from_pretrained(name)
        self.adapter = ADAPTERS.get(config.model_type, GENERAL)
        self.setting = _number(setting, self.adapter.setting)
        auto = AutoModel if config.model_type in ADAPTERS else AutoModelForAudioTokenization
        self.model: Any
        self.model, report = auto.from_pretrained(name, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"its file lacks {missing[0]} and {len(missing) - 1} other tensors")
        self.model.to(device).eval()
        self.extractor: Any = AutoFeatureExtractor.from_pretrained(name)
        self.name = self.title = codec_title(name) + (f"@{setting}" if setting else "")
        self.sampling_rate = self.extractor.sampling_rate
        self.output_rate = getattr(config, "output_sampling_rate", self.sampling_rate)
        self.parameters = self.model.num_parameters()
        self.digest = getattr(config, "_commit_hash", None)
        # The numbers of ids of 1 s and of 2 s of silence: configurations differ in what they call a rate, or round it.
        short, long = (self._encode(np.zeros(seconds * self.sampling_rate, np.float32))[1] for seconds in (1, 2))
        self.rates = Rates(float(long.shape[1] - short.shape[1]), (self.adapter.codebook_size(config),) * len(short))

    def encode(self, audio: np.ndarray) -> Code:
        """Ids as the model has them; those of chunks one after another."""
        output, ids = self._encode(audio)
        return Code(output, ids=ids)

    @torch.inference_mode()
    def decode(self, code: Code) -> np.ndarray:
        """All samples that the model gives, the first channel."""
        audio = self.adapter.decode(self.model, code.payload)[0]
        return (audio if audio.ndim == 1 else audio[0]).float().cpu().numpy()  # DAC leaves the channels out

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """The batch in one tensor, features made beforehand."""
        inputs = self._inputs(list(self.noise(seconds, batch).numpy()))
        return (
            lambda: self.adapter.encode(self.model, inputs, self.setting),
            lambda output: self.adapter.decode(self.model, output),
        )

    def _inputs(self, clips: list[np.ndarray]) -> Any:
        return self.extractor(clips, sampling_rate=self.sampling_rate, return_tensors="pt").to(self.model.device)

    @torch.inference_mode()
    def _encode(self, audio: np.ndarray) -> tuple[Any, np.ndarray]:
        """The model's output, and ids (K, N)."""
        output = self.adapter.encode(self.model, self._inputs([audio]), self.setting)
        codes = output.audio_codes
        if codes.ndim == 4:  # chunks, batch, streams, ids
            codes = torch.cat(list(codes), dim=-1)
        return output, codes[0].cpu().numpy()


def open_peer(name: str, setting: str, device: str) -> Peer:
    """A codec of transformers by hub name or directory; see [`Peer`]."""
    return Peer(name, setting, device)


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
