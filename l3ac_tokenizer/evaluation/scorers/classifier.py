"""What classifiers hear: emotions and audio events before and after a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..codecs.base import SCORING_RATE
from ..scoring import Metric, Trial, Value


class ClassAccuracy:
    """Accuracy of a classifier of transformers on decoded clips, and how often it agrees with itself on the original.

    Accuracy is of the clips with a label, agreement of all clips of speech (emotions) or all clips (events). Labels
    are compared without case.

    Args:
        task: `"emotion"` or `"event"`: the column with the labels.
        name: model, by hub name or directory.
        device: of torch.
    """

    def __init__(self, task: str, name: str, device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        self.task = task
        self._model: Any = AutoModelForAudioClassification.from_pretrained(name).eval()
        self._model.to(device)
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(name)
        self._originals: dict[str, str] = {}
        self.metrics: Mapping[str, Metric] = {
            f"{task}_accuracy": Metric(f"{task} accuracy, %", 1, True, f"Codec-SUPERB; {name}", 100),
            f"{task}_agreement": Metric(f"{task} agreement, %", 1, True, f"ours; {name}", 100),
        }

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """1 or 0."""
        clip = trial.clip
        if self.task == "emotion" and clip.domain != "speech":
            return {}
        if clip.key not in self._originals:
            self._originals[clip.key] = self._classify(trial.reference)
        heard = self._classify(trial.estimate)
        values = {f"{self.task}_agreement": float(heard == self._originals[clip.key])}
        if self.task in clip.labels:
            values[f"{self.task}_accuracy"] = float(heard.lower() == clip.labels[self.task].lower())
        return values

    @torch.inference_mode()
    def _classify(self, audio: np.ndarray) -> str:
        inputs = self._extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt").to(self._model.device)
        return self._model.config.id2label[int(self._model(**inputs).logits[0].argmax())]
