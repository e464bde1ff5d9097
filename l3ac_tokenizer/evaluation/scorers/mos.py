"""What needs no label and no hub: distance of a speech encoder's features, and opinions predicted without a reference.

Axes: T samples.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...metrics import MetricError
from ..codecs.base import SCORING_RATE
from ..scoring import Metric, Trial, Value

OPINIONS = ("dnsmos", "distillmos")


class FeatureDistance:
    """Relative distance ‖F(x) − F(x̂)‖ / ‖F(x)‖ of a Whisper encoder's features, over the positions of the clip.

    A proxy of ours for what recognition loses. Frobenius norms; clips go in by 30 s at most, as Whisper takes them.

    Args:
        source: hub name or directory of a Whisper, or of its encoder alone.
        device: of torch.
    """

    metrics: Mapping[str, Metric] = {"feature_distance": Metric("feature distance (proxy)", 3, False, "ours; Whisper")}

    def __init__(self, source: str, device: str) -> None:
        from transformers import AutoConfig, AutoFeatureExtractor, WhisperModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        alone = getattr(AutoConfig.from_pretrained(source), "architectures", None) == ["WhisperEncoder"]
        encoder: Any = (
            WhisperEncoder.from_pretrained(source, dtype=torch.float32)
            if alone
            else WhisperModel.from_pretrained(source, dtype=torch.float32).get_encoder()
        )
        self._encoder = encoder.to(device).eval()
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(source)

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The distance."""
        size = 30 * SCORING_RATE
        squares = np.zeros(2)
        for start in range(0, trial.reference.size, size):
            pieces = [clip[start : start + size] for clip in (trial.reference, trial.estimate)]
            original, decoded = (self._features(piece) for piece in pieces)
            squares += [float((original - decoded).square().sum()), float(original.square().sum())]
        return {"feature_distance": float(np.sqrt(squares[0] / squares[1]))}

    @torch.inference_mode()
    def _features(self, audio: np.ndarray) -> torch.Tensor:
        """(positions, width), one position every 320 samples."""
        inputs = self._extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt")
        features = self._encoder(inputs.input_features.to(self._encoder.device)).last_hidden_state[0]
        return features[: -(-audio.size // 320)].double()


class PredictedOpinion:
    """Mean opinion scores of decoded speech as a network predicts them, without looking at the original.

    `dnsmos`: overall score of P.835 and score of P.808, of `speechmos` (Reddy et al., 2021, 2022). `distillmos`: of
    `distillmos` (Stahl and Gamper, 2025). The original's own score is the ceiling, not 5.
    """

    def __init__(self, name: str, device: str) -> None:
        if name == "dnsmos":
            from speechmos import dnsmos

            self._predict = lambda audio: _dnsmos(dnsmos, audio)
            self.metrics: Mapping[str, Metric] = {
                "dnsmos_ovrl": Metric("DNSMOS OVRL (predicted)", 2, True, "speechmos"),
                "dnsmos_p808": Metric("DNSMOS P.808 (predicted)", 2, True, "speechmos"),
            }
        elif name == "distillmos":
            from distillmos import ConvTransformerSQAModel

            with contextlib.redirect_stdout(sys.stderr):  # it says which weights it loads
                model: Any = ConvTransformerSQAModel().to(device).eval()
            self._predict = lambda audio: _distillmos(model, audio)
            self.metrics = {"distillmos": Metric("DistillMOS (predicted)", 2, True, "distillmos")}
        else:
            raise ValueError(f"there is no predictor of opinions named {name!r}: choose {' or '.join(OPINIONS)}.")

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The scores, of speech."""
        if trial.clip.domain != "speech":
            return {}
        if not trial.estimate.any():
            raise MetricError("Predicted opinions have no value: the decoded clip is silent.")
        return self._predict(trial.estimate)


def _dnsmos(dnsmos: Any, audio: np.ndarray) -> dict[str, Value]:
    scores = dnsmos.run(audio.clip(-1, 1), SCORING_RATE)
    return {"dnsmos_ovrl": float(scores["ovrl_mos"]), "dnsmos_p808": float(scores["p808_mos"])}


@torch.inference_mode()
def _distillmos(model: Any, audio: np.ndarray) -> dict[str, Value]:
    device = next(model.parameters()).device
    return {"distillmos": float(model(torch.from_numpy(audio)[None].to(device)))}
