"""What is measured, and on what: the settings of a run, and the scorer that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .scoring import ClipScorer, Scorer


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        consistency: also encode changed clips.
        asr: recogniser for WER and dWER, see `recognisers.open_recogniser`.
        speaker: model for similarity and EER of speakers, see `speakers.open_embedder`.
        emotion: classifier of emotions, hub name or directory.
        events: classifier of audio events, hub name or directory.
        features: Whisper, or its encoder, for the distance of features; hub name or directory.
        opinions: of `proxies.OPINIONS`.
        device: of the codecs and of models that score.
        threads: of torch, a process.
    """

    consistency: bool = True
    asr: str | None = None
    speaker: str | None = None
    emotion: str | None = None
    events: str | None = None
    features: str | None = None
    opinions: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 1

    def of_rows(self) -> Options:
        """The same without what rows do not depend on."""
        return replace(self, device="", threads=0)

    def make_scorer(self) -> ClipScorer:
        """The scorer, its models loaded.

        Raises:
            ValueError: a model cannot be loaded, or the package that runs it is missing.
        """
        from .scorers.asr import WordErrors
        from .scorers.classifier import ClassAccuracy
        from .scorers.mos import FeatureDistance, PredictedOpinion
        from .scorers.speaker import SpeakerSimilarity, open_embedder

        device = self.device
        scorers: dict[str, Scorer] = {}

        def add(name: str, model: str | None, make: Callable[[str], Any]) -> None:
            if model is not None:
                scorers[name] = _loaded(model, make)

        add("words", self.asr, lambda name: WordErrors(name, device))
        add("speaker", self.speaker, lambda name: SpeakerSimilarity(open_embedder(name, device), name))
        add("emotion", self.emotion, lambda name: ClassAccuracy("emotion", name, device))
        add("event", self.events, lambda name: ClassAccuracy("event", name, device))
        add("features", self.features, lambda name: FeatureDistance(name, device))
        for opinion in self.opinions:
            add(opinion, opinion, lambda name: PredictedOpinion(name, device))
        speaker: Any = scorers.get("speaker")
        return ClipScorer(scorers, self.consistency, speaker.embed if speaker is not None else None)


def _loaded(model: str, make: Callable[[str], Any]) -> Any:
    try:
        return make(model)
    except ModuleNotFoundError as error:
        extra = "pip install 'l3ac-tokenizer[eval-offline]'"
        raise ValueError(f"{model} needs the package {error.name}, which is not installed: {extra}.") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # each library has its own
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"the model {model!r} cannot be loaded ({reason}): give a directory, or another name."
        ) from error
