"""Word error rates of decoded speech under a speech recognizer."""

from __future__ import annotations

from collections.abc import Mapping

from ...asr import normalized_words, open_recognizer, word_errors
from ...metrics import MetricError
from .base import Metric, Scorer, Trial, Value


class WordErrorScorer(Scorer):
    """WER against the transcript, and dWER against what is recognized in the original; speech only.

    (substitutions + deletions + insertions) / words, pooled over all clips, by jiwer; both texts are normalized as
    Whisper's are. dWER needs no transcript (DASB, Mousavi et al., 2024): it counts the errors that the codec adds.

    Args:
        name: of the recognizer, see `open_recognizer`.
        device: torch device.
    """

    def __init__(self, name: str, device: str) -> None:
        self._recognize = open_recognizer(name, device)
        self._originals: dict[str, list[str]] = {}
        label = self._recognize.label
        self.metrics = {
            "wer": Metric("WER, %", 1, False, f"jiwer; {label}", 100),
            "dwer": Metric("dWER, %", 1, False, f"DASB; jiwer; {label}", 100),
        }

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """(errors, words) of either."""
        clip = trial.clip
        if clip.domain != "speech":
            return {}
        if clip.key not in self._originals:
            self._originals[clip.key] = normalized_words(self._recognize(trial.reference))
        recognized = normalized_words(self._recognize(trial.estimate))
        values = {}
        if "text" in clip.labels:
            values["wer"] = word_errors(normalized_words(clip.labels["text"]), recognized)
        if not self._originals[clip.key] and not values:
            raise MetricError("dWER has no value: nothing is recognized in the original.")
        if self._originals[clip.key]:
            values["dwer"] = word_errors(self._originals[clip.key], recognized)
        return values
