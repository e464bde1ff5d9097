"""`L3ACModel`: single-codebook neural audio codec (arXiv 2504.04949), and `L3ACEncoderModel`, its encoder alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ...configuration import L3ACConfig
from ...hub import takes_bundled_names
from ...quantization import FSQ
from ..codec import CodecModel
from ..encoder_model import CodecEncoderModel
from ..encoding import CodecEncoding
from ..layers import ConvNeXtBlock, GlobalResponseNorm, Snake
from ..time_norm import TimeNorm
from .decoder import Decoder
from .encoder import Encoder
from .spectral import LogMels, SpectralAnalysis


class L3ACPreTrainedModel(CodecEncoding):
    """Base class of `L3ACModel` and `L3ACEncoderModel`."""

    config: L3ACConfig
    config_class = L3ACConfig
    base_model_prefix = "l3ac"
    _no_split_modules = ["ConvNeXtBlock", "TransformerLayer", "TEConv", "ResidualUnit"]  # noqa: RUF012

    encoder: Encoder

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Snake):
            init.ones_(module.alpha)
        elif isinstance(module, GlobalResponseNorm):
            init.zeros_(module.gamma)
            init.zeros_(module.beta)
        elif isinstance(module, TimeNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_clips_tracked)
        elif isinstance(module, LogMels):
            for buffer, filters in zip(module.buffers(), module.filters(), strict=True):
                init.copy_(buffer, filters)
        elif isinstance(module, SpectralAnalysis):
            init.zeros_(module.mean)
            init.ones_(module.std)

    def _weight_normed_layers(self) -> Iterator[nn.Module]:
        yield from super()._weight_normed_layers()
        for module in self.modules():
            if isinstance(module, ConvNeXtBlock):
                yield from (module.expand, module.reduce)

    def padded_frames(self, frames: Any) -> Any:
        """Number of frames, including those of padding, that the encoder processes for a clip of `frames` frames.

        SQCodec pads clips with zeros to whole attention windows. Zeros beyond the look-ahead of the last id do not
        affect any id and are left out.
        """
        if not self.config.pad_to_window:
            return frames
        window, hop = self.config.attention_window, self.config.hop_length
        whole = (frames + window - 1) // window * window
        enough = frames + (self.encoder.lookahead + hop - 1) // hop
        if isinstance(whole, Tensor):
            return torch.minimum(whole, enough)
        return torch.sym_min(whole, enough)


@takes_bundled_names
class L3ACModel(L3ACPreTrainedModel, CodecModel):
    """L3AC, SQCodec and light networks: an FSQ quantizer between an encoder and a decoder with local transformers.

    ```python
    >>> model = AutoModel.from_pretrained("l3ac-1k")
    >>> extractor = AutoFeatureExtractor.from_pretrained("l3ac-1k")
    >>> inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    >>> codes = model.encode(**inputs).audio_codes           # (B, 1, N)
    >>> audio = model.decode(codes).audio_values             # (B, 1, T)
    ```
    """

    decoder: Decoder

    def __init__(self, config: L3ACConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.quantizer = _quantizer(config)
        self.decoder = Decoder(config)
        self.post_init()


@takes_bundled_names
class L3ACEncoderModel(L3ACPreTrainedModel, CodecEncoderModel):
    """The encoder and quantizer of `L3ACModel`, for jobs that only encode.

    ```python
    >>> encoder = L3ACEncoderModel.from_pretrained("l3ac-1k")
    >>> codes = encoder.encode(**inputs).audio_codes         # (B, 1, N), as of L3ACModel
    ```
    """

    def __init__(self, config: L3ACConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.quantizer = _quantizer(config)
        self.post_init()


def _quantizer(config: L3ACConfig) -> FSQ:
    return FSQ(config.feature_dim, config.levels, config.quantizer, config.noise_probability, config.num_quantizers)


__all__ = ["L3ACEncoderModel", "L3ACModel"]
