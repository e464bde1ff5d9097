"""Accuracy of audio classifiers (emotions, audio events) on decoded clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...names import public_name
from ..codecs.base import SCORING_RATE
from .base import Metric, Scorer, Trial, Value


def open_emotion_scorer(name: str, device: str) -> ClassifierScorer:
    """Emotion recognition by a classifier, by hub name or directory; speech only."""
    return ClassifierScorer("emotion", name, device)


def open_event_scorer(name: str, device: str) -> ClassifierScorer:
    """Audio event classification by a classifier, by hub name or directory."""
    return ClassifierScorer("event", name, device)


class ClassifierScorer(Scorer):
    """Accuracy of a classifier of transformers on decoded clips, and its agreement with its output for the original.

    Accuracy is over the clips with a label, agreement over all clips of speech (emotions) or all clips (events).
    Labels are compared without case.

    Args:
        task: `"emotion"` or `"event"`: the column that holds the labels.
        name: model, by hub name or directory.
        device: torch device.
    """

    def __init__(self, task: str, name: str, device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        self.task = task
        self._model: Any = AutoModelForAudioClassification.from_pretrained(name, trust_remote_code=False).eval()
        self._model.to(device)
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
        label = public_name(name)
        self._originals: dict[str, str] = {}
        self.metrics = {
            f"{task}_accuracy": Metric(f"{task} accuracy, %", 1, True, f"Codec-SUPERB; {label}", 100),
            f"{task}_agreement": Metric(f"{task} agreement, %", 1, True, f"ours; {label}", 100),
        }

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """1 or 0 each."""
        clip = trial.clip
        if self.task == "emotion" and clip.domain != "speech":
            return {}
        if clip.key not in self._originals:
            self._originals[clip.key] = self.classify(trial.reference)
        predicted = self.classify(trial.estimate)
        values = {f"{self.task}_agreement": float(predicted == self._originals[clip.key])}
        if self.task in clip.labels:
            values[f"{self.task}_accuracy"] = float(predicted.lower() == clip.labels[self.task].lower())
        return values

    @torch.inference_mode()
    def classify(self, audio: np.ndarray) -> str:
        """The most likely class of a clip (T,) at `SCORING_RATE`."""
        inputs = self._extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt").to(self._model.device)
        return self._model.config.id2label[int(self._model(**inputs).logits[0].argmax())]
