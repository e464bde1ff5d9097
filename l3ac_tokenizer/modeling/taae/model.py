"""`TAAEModel`: the transformer codec of "Scaling Transformers for Low-Bitrate High-Quality Speech Coding"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import initialization as init

from ...configuration_taae import TAAEConfig
from ...hub import takes_bundled_names
from ...quantization import RandomLevelsFSQ
from ..codec import CodecModel
from ..layers import TimeConv
from .blocks import INITIAL_SCALE, LayerScale, TAAEDecoder, TAAEEncoder


@takes_bundled_names
class TAAEModel(CodecModel):
    """TAAE (arXiv 2411.19842): an FSQ bottleneck between two stacks of windowed transformers.

    The number of levels is chosen after training: in the configuration, or by `set_levels`.

    ```python
    >>> model = AutoModel.from_pretrained(folder)
    >>> ids = model.encode(**inputs).audio_codes                         # (B, 1, N), 46,656 different
    >>> model.set_levels([17] * 6)                                       # 24 million, for better audio
    >>> model.decompose(2)                                               # the same audio as two ids of 15,625 a frame
    >>> codes = model.encode(**inputs).audio_codes                       # (B, 2, N)
    ```
    """

    config: TAAEConfig
    config_class = TAAEConfig
    base_model_prefix = "taae"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TAAELayer"]  # noqa: RUF012

    encoder: TAAEEncoder
    decoder: TAAEDecoder

    def __init__(self, config: TAAEConfig):
        super().__init__(config)
        self.encoder = TAAEEncoder(config)
        self.quantizer = RandomLevelsFSQ(
            config.levels,
            config.noise_probability,
            config.training_levels,
            config.num_quantizers,
            config.clip_codes,
        )
        self.decoder = TAAEDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LayerScale):
            init.constant_(module.scale, INITIAL_SCALE)

    @property
    def latent_layer(self) -> TimeConv:
        """The encoder's last convolution."""
        return self.encoder.project

    def set_levels(self, levels: Sequence[int]) -> None:
        """Quantise to so many levels of each latent dimension from now on; the weights stay as they are.

        The paper's checkpoint knows 5 to 17: fewer than the fewest that training saw are coarser than it learned to
        decode. Saved checkpoints remember the choice.

        Raises:
            ValueError: Not one number of at least 2 for each latent dimension.
        """
        if len(levels) != len(self.config.levels):
            raise ValueError(
                f"`levels` has {len(levels)} entries; the latents have {len(self.config.levels)} dimensions."
            )
        self._use_levels(levels, 1)


__all__ = ["TAAEModel"]
