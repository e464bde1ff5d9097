"""`TAAEModel`: transformer codec "Scaling Transformers for Low-Bitrate High-Quality Speech Coding", and its encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import initialization as init

from ...configuration_taae import TAAEConfig
from ...hub import takes_bundled_names
from ...quantization import RandomLevelsFSQ
from ..codec import CodecModel
from ..encoder_model import CodecEncoderModel
from ..encoding import CodecEncoding
from ..layers import TimeConv
from .blocks import INITIAL_SCALE, LayerScale, TAAEDecoder, TAAEEncoder


class TAAEPreTrainedModel(CodecEncoding):
    """Base class of `TAAEModel` and `TAAEEncoderModel`."""

    config: TAAEConfig
    _keep_in_fp32_modules_strict = ["encoder"]  # noqa: RUF012 - its quantizer has no weights
    config_class = TAAEConfig
    base_model_prefix = "taae"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TAAELayer"]  # noqa: RUF012

    encoder: TAAEEncoder

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LayerScale):
            init.constant_(module.scale, INITIAL_SCALE)

    @property
    def latent_layer(self) -> TimeConv:
        """Last convolution of the encoder."""
        return self.encoder.project

    def set_levels(self, levels: Sequence[int]) -> None:
        """Set the number of quantization levels of each latent dimension; weights do not change.

        Decoding quality drops below the lowest level of `config.training_levels`, 5 in the paper. The choice is saved
        with checkpoints.

        Raises:
            ValueError: `levels` does not have an entry of at least 2 for each latent dimension.
        """
        if len(levels) != len(self.config.levels):
            raise ValueError(
                f"`levels` has {len(levels)} entries; give one for each of the {len(self.config.levels)} latent "
                "dimensions."
            )
        self._use_levels(levels, 1)


@takes_bundled_names
class TAAEModel(TAAEPreTrainedModel, CodecModel):
    """TAAE (arXiv 2411.19842): an FSQ bottleneck between an encoder and a decoder of windowed transformers.

    The number of levels can be chosen after training: in the configuration, or by `set_levels`.

    ```python
    >>> model = AutoModel.from_pretrained(folder)
    >>> ids = model.encode(**inputs).audio_codes                         # (B, 1, N), codebook size 46,656
    >>> model.set_levels([17] * 6)                                       # codebook size 24 million, for better audio
    >>> model.decompose(2)                                               # same audio, two codebooks of 15,625 ids
    >>> codes = model.encode(**inputs).audio_codes                       # (B, 2, N)
    ```
    """

    decoder: TAAEDecoder

    def __init__(self, config: TAAEConfig):
        super().__init__(config)
        self.encoder = TAAEEncoder(config)
        self.quantizer = _quantizer(config)
        self.decoder = TAAEDecoder(config)
        self.post_init()


@takes_bundled_names
class TAAEEncoderModel(TAAEPreTrainedModel, CodecEncoderModel):
    """The encoder and quantizer of `TAAEModel`, for jobs that only encode."""

    def __init__(self, config: TAAEConfig):
        super().__init__(config)
        self.encoder = TAAEEncoder(config)
        self.quantizer = _quantizer(config)
        self.post_init()


def _quantizer(config: TAAEConfig) -> RandomLevelsFSQ:
    return RandomLevelsFSQ(
        config.levels, config.noise_probability, config.training_levels, config.num_quantizers, config.clip_codes
    )


__all__ = ["TAAEEncoderModel", "TAAEModel"]
