"""Words that a speech recogniser understands, before and after a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...asr import normalized_words, open_recogniser
from ...metrics import MetricError
from ..scoring import Metric, Trial, Value


class WordErrors:
    """WER against the transcript, and dWER against what is recognised in the original, of clips of speech.

    (substitutions + deletions + insertions) / words, over all clips together, by jiwer; both texts normalised as
    Whisper's are. dWER needs no transcript (DASB, Mousavi et al., 2024): it counts what the codec changes.

    Args:
        name: of the recogniser, see `open_recogniser`.
        device: of torch.
    """

    def __init__(self, name: str, device: str) -> None:
        self._recognise = open_recogniser(name, device)
        self._originals: dict[str, list[str]] = {}
        label = self._recognise.label
        self.metrics: Mapping[str, Metric] = {
            "wer": Metric("WER, %", 1, False, f"jiwer; {label}", 100),
            "dwer": Metric("dWER, %", 1, False, f"DASB; jiwer; {label}", 100),
        }

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """Errors and words."""
        clip = trial.clip
        if clip.domain != "speech":
            return {}
        if clip.key not in self._originals:
            self._originals[clip.key] = normalized_words(self._recognise(trial.reference))
        heard = normalized_words(self._recognise(trial.estimate))
        values = {}
        if "text" in clip.labels:
            values["wer"] = word_errors(normalized_words(clip.labels["text"]), heard)
        if not self._originals[clip.key] and not values:
            raise MetricError("dWER has no value: nothing is recognised in the original.")
        if self._originals[clip.key]:
            values["dwer"] = word_errors(self._originals[clip.key], heard)
        return values


def word_errors(reference: list[str], heard: list[str]) -> tuple[float, float]:
    """(errors, words of the reference)."""
    import jiwer

    if not reference:
        return float(len(heard)), 0.0
    counts: Any = jiwer.process_words(" ".join(reference), " ".join(heard))
    return float(counts.substitutions + counts.deletions + counts.insertions), float(len(reference))
