"""Loss of the codec: every term by name, and their weighted sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..configuration import L3ACConfig
from ..families import preset_config
from ..logs import get_logger
from ..modeling import CodecModel
from ..modeling.l3ac.spectral import LogMels
from ..modeling.span import WholeSpan
from .config import ConfigError, LossWeights, TrainingConfig
from .discriminator_trainer import DiscriminatorTrainer
from .losses import (
    clamp_max,
    cosine_loss,
    l1_loss,
    mel_loss,
    multi_scale_stft_loss,
    spectral_loss,
    stft_l1_loss,
)
from .network import Prediction
from .perceptual import (
    SAMPLING_RATE,
    WHISPER_BANDS,
    SpeechEncoderAbsentError,
    WhisperFeatures,
    perceptual_loss,
    relative_layer_distance,
    relative_perceptual_loss,
    speech_features,
    whisper_mel,
)
from .stages import MEL_STAGES

logger = get_logger(__name__)


class Objective(nn.Module):
    """Weighted sum of the losses, in float32 even under autocast.

    The perceptual and adversarial terms have weight 1 below their clamps (paper Eq. 2). As published, clamps act on the
    micro-batch of one process. The speech encoder is loaded if a phase has a weight for it; if the default one is not
    available, the perceptual terms are left out with a warning.

    Args:
        config: Names the losses and the networks that they need.
        bfloat16: Run a Whisper encoder in bfloat16, as the codec of a run in that precision.

    Raises:
        ConfigError: The speech encoder takes another sampling rate, or, in a stage without a waveform, no log-mels.
        SpeechEncoderError: The speech encoder cannot be loaded.
    """

    def __init__(self, config: TrainingConfig, *, bfloat16: bool = False):
        super().__init__()
        self.scales, self.floor = config.stft_scales, config.stft_floor
        self.features = _features(config)
        if isinstance(self.features, WhisperFeatures):
            self.features.in_bfloat16 = bfloat16
        network = preset_config(config.preset, **config.model)
        self.sampling_rate = network.sampling_rate
        self.fine_hop = getattr(network, "fine_hop", network.hop_length)
        self.log_mels = LogMels(network) if isinstance(network, L3ACConfig) else None
        self.teacher = Teacher(config.teacher) if config.teacher is not None else None

    def forward(
        self, prediction: Prediction, x: Tensor, weights: LossWeights, discriminator: DiscriminatorTrainer | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum and unweighted terms of a prediction for reference audio `x` (B, T)."""
        if prediction.audio is not None:
            terms, weighted = self._of_audio(_wide(prediction.audio), x, weights, discriminator)
        elif prediction.log_mels is not None:
            terms, weighted = self._of_mels(_wide(prediction.log_mels), x, weights)
        else:
            assert self.teacher is not None and prediction.features is not None
            terms = {"distillation": self.teacher(_wide(prediction.features), _wide(prediction.latents), x)}
            weighted = [weights.distillation * terms["distillation"]]
        return torch.stack(weighted).sum(), terms

    def _of_mels(self, predicted: Tensor, x: Tensor, weights: LossWeights) -> tuple[dict[str, Tensor], list[Tensor]]:
        assert self.log_mels is not None
        target = self.log_mels(x[..., None], WholeSpan())
        terms = {"mel": mel_loss(predicted, target)}
        weighted = [weights.mel * terms["mel"]]
        if weights.perceptual_relative and self.features is not None:
            layers: Any = self.features.layers_of_mel  # a Whisper's, see `_features`
            of_y, of_x = (
                layers(whisper_mel(mels[..., :WHISPER_BANDS], self.fine_hop, self.sampling_rate))
                for mels in (predicted, target)
            )
            terms["perceptual_relative"] = relative_layer_distance(of_y, of_x)
            weighted.append(weights.perceptual_relative * terms["perceptual_relative"])
        return terms, weighted

    def _of_audio(
        self, y: Tensor, x: Tensor, weights: LossWeights, discriminator: DiscriminatorTrainer | None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
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
        if weights.adversarial_max and discriminator is not None:
            judged, parts = discriminator.generator_loss(y, x)
            terms |= parts
            weighted.append(clamp_max(judged, weights.adversarial_max))
        return terms, weighted


def _wide(x: Tensor) -> Tensor:
    """The tensor in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Teacher(nn.Module):
    """Codec of a finished `tokens` run, whose features and latents a convolutional encoder learns.

    Args:
        source: Its checkpoint directory or bundled name.
    """

    def __init__(self, source: str):
        super().__init__()
        self.model = CodecModel.from_pretrained(source).eval().requires_grad_(False)

    def forward(self, features: Tensor, latents: Tensor, x: Tensor) -> Tensor:
        """Sum of the mean squared errors of features (B, J, D) and latents (B, N, L) for x (B, T), each divided by the
        variance of the teacher's.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            encoder = self.model.encoder
            span = WholeSpan()
            target = encoder.front_end(x[..., None], span)
            target_latents = self.model.quantizer.project_in(encoder.transformer(target, span))
        errors = [
            (student - teacher).square().mean() / teacher.var()
            for student, teacher in ((features, target), (latents, target_latents))
        ]
        return torch.stack(errors).sum()


def _features(config: TrainingConfig) -> nn.Module | None:
    """The speech encoder, or None if no phase needs it or the default one is not available."""
    of_phases = [phase.weights or config.weights for phase in config.phases]
    of_mels = config.stage in MEL_STAGES
    needed = any(weights.perceptual_relative or (weights.perceptual_max and not of_mels) for weights in of_phases)
    if not (config.perceptual_encoder and needed):
        return None
    rate = preset_config(config.preset, **config.model).sampling_rate
    if rate != SAMPLING_RATE:
        raise ConfigError(
            f"The perceptual loss takes audio at {SAMPLING_RATE} Hz and the codec's is at {rate} Hz: train without it "
            "with --perceptual-encoder null."
        )
    try:
        features = speech_features(config.perceptual_encoder, config.perceptual_seconds)
    except SpeechEncoderAbsentError as error:
        logger.warning("%s Training continues without the perceptual loss.", error)
        return None
    if of_mels and not isinstance(features, WhisperFeatures):
        raise ConfigError(
            f"Stage {config.stage} has no waveform, which {config.perceptual_encoder} takes: name a Whisper, or train "
            "without the loss with --perceptual-encoder null."
        )
    return features
