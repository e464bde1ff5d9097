"""The generator's loss: every term by name, and their weighted sum."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from ..hub import preset_config
from .adversary import Adversary
from .config import ConfigError, LossWeights, TrainingConfig
from .losses import clamp_max, cosine_loss, l1_loss, multi_scale_stft_loss, spectral_loss, stft_l1_loss
from .perceptual import (
    SAMPLING_RATE,
    SpeechEncoderAbsentError,
    perceptual_loss,
    relative_perceptual_loss,
    speech_features,
)

logger = logging.getLogger(__name__)


class Objective(nn.Module):
    """Weighted sum of the reconstruction losses, in float32 whatever the autocast state.

    The perceptual and the adversarial term have weight 1 below their clamps (paper Eq. 2), which scale them down.
    Clamps act on the micro-batch of one process, as published. The speech encoder is loaded where any phase has a
    weight for it; without the default one, where that is to be had nowhere, the perceptual terms are left out.

    Raises:
        ConfigError: the codec's audio has not the speech encoder's sampling rate.
        SpeechEncoderError: the speech encoder cannot be loaded.
    """

    def __init__(self, config: TrainingConfig):
        super().__init__()
        self.scales, self.floor = config.stft_scales, config.stft_floor
        self.features = _features(config)
        self.sampling_rate = preset_config(config.preset, **config.model).sampling_rate

    def forward(
        self, y: Tensor, x: Tensor, weights: LossWeights, adversary: Adversary | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Generated `y` and reference `x` (B, T) to the sum and the raw terms."""
        terms = {"l1": l1_loss(y, x)}
        weighted = [weights.l1 * terms["l1"]]
        if weights.stft:
            terms["stft"] = multi_scale_stft_loss(y, x, self.scales, self.floor)
            weighted.append(weights.stft * terms["stft"])
        if weights.spectral:
            terms["spectral"] = spectral_loss(y, x, self.sampling_rate)
            weighted.append(weights.spectral * terms["spectral"])
        if weights.stft_l1:
            terms["stft_l1"] = stft_l1_loss(y, x)
            weighted.append(weights.stft_l1 * terms["stft_l1"])
        if weights.cosine:
            terms["cosine"] = cosine_loss(y, x)
            weighted.append(weights.cosine * terms["cosine"])
        if weights.perceptual_relative and self.features is not None:
            terms["perceptual_relative"] = relative_perceptual_loss(self.features, y, x)
            weighted.append(weights.perceptual_relative * terms["perceptual_relative"])
        if weights.perceptual_max and self.features is not None:
            terms["perceptual"] = perceptual_loss(self.features, y, x)
            weighted.append(clamp_max(terms["perceptual"], weights.perceptual_max))
        if weights.adversarial_max and adversary is not None:
            judged, parts = adversary.generator_loss(y, x)
            terms |= parts
            weighted.append(clamp_max(judged, weights.adversarial_max))
        return torch.stack(weighted).sum(), terms


def _features(config: TrainingConfig) -> nn.Module | None:
    """The speech encoder, where there is one and a phase asks for it."""
    of_phases = [phase.weights or config.weights for phase in config.phases]
    asked_for = any(weights.perceptual_max or weights.perceptual_relative for weights in of_phases)
    if not (config.perceptual_encoder and asked_for):
        return None
    rate = preset_config(config.preset, **config.model).sampling_rate
    if rate != SAMPLING_RATE:
        raise ConfigError(
            f"The perceptual loss takes audio at {SAMPLING_RATE} Hz and the codec's is at {rate} Hz: train without it "
            "with --perceptual-encoder null."
        )
    try:
        return speech_features(config.perceptual_encoder, config.perceptual_seconds)
    except SpeechEncoderAbsentError as error:
        logger.warning("%s Training goes on without the perceptual loss.", error)
        return None
