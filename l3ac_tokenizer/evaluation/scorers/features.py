"""Distance of Whisper encoder features: a proxy for the loss of recognizability that needs no transcript.

Axes: T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..codecs.base import SCORING_RATE
from .base import Metric, Scorer, Trial, Value


class FeatureDistanceScorer(Scorer):
    """Relative distance ‖F(x) − F(x̂)‖ / ‖F(x)‖ of a Whisper encoder's features, over the frames of the clip.

    Our own proxy. Frobenius norms; clips are encoded in chunks of at most 30 s, Whisper's input length.

    Args:
        name: hub name or directory of a Whisper model, or of its encoder alone.
        device: torch device.
    """

    metrics: Mapping[str, Metric] = {"feature_distance": Metric("feature distance (proxy)", 3, False, "ours; Whisper")}

    def __init__(self, name: str, device: str) -> None:
        from transformers import AutoConfig, AutoFeatureExtractor, WhisperModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        encoder_only = getattr(config, "architectures", None) == ["WhisperEncoder"]
        encoder: Any = (
            WhisperEncoder.from_pretrained(name, dtype=torch.float32)
            if encoder_only
            else WhisperModel.from_pretrained(name, dtype=torch.float32).get_encoder()
        )
        self._encoder = encoder.to(device).eval()
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The relative distance."""
        size = 30 * SCORING_RATE
        squares = np.zeros(2)
        for start in range(0, trial.reference.size, size):
            chunks = [clip[start : start + size] for clip in (trial.reference, trial.estimate)]
            original, decoded = (self._features(chunk) for chunk in chunks)
            squares += [float((original - decoded).square().sum()), float(original.square().sum())]
        return {"feature_distance": float(np.sqrt(squares[0] / squares[1]))}

    @torch.inference_mode()
    def _features(self, audio: np.ndarray) -> torch.Tensor:
        """Features (frames, width), one frame every 320 samples."""
        inputs = self._extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt")
        features = self._encoder(inputs.input_features.to(self._encoder.device)).last_hidden_state[0]
        return features[: -(-audio.size // 320)].double()
