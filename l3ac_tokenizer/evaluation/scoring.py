"""Scoring of one clip through one codec.

Axes: T samples, K codebooks, N ids of a codebook, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..causes import failure, shortened
from ..names import without_folders
from .codecs.base import SCORING_RATE, Codec, CompressedClip, reconstruct
from .dataset import EvaluationClip
from .scorers.base import Metric, Scorer, Trial, Value
from .scorers.signal import SIGNAL_METRICS, SPEECH_ONLY
from .scorers.speaker import EER
from .scorers.tokens import CONSISTENCY, consistency


@dataclass
class ResultRow:
    """Result of one clip through one codec.

    Attributes:
        codec: Name of the codec.
        digest: Digest of its weights, if it has one; rows of other weights are not reused.
        clip: Key of the clip.
        dataset: Data set of the clip.
        seconds: Length of the clip.
        bits: Size of the encoded clip in bits.
        ids: (K, N); None for codecs without ids.
        values: Values by metric.
        embedding: Speaker embedding (D,) of the decoded clip, for the EER.
        truncated: Note that the clip's file is truncated; None if it is not.
        failures: Metric or scorer → reason why it has no value; a key of `WHOLE_CLIP` if nothing of the clip has one.
    """

    codec: str
    digest: str | None
    clip: str
    dataset: str
    seconds: float = 0.0
    bits: float | None = None
    ids: list[list[int]] | None = None
    values: dict[str, Value] = field(default_factory=dict)
    embedding: list[float] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    truncated: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self)


WHOLE_CLIP = {"read": "not readable", "silent": "silent", "codec": "codec failed"}
"""Failures of a whole clip, and their names in tables."""


class ClipScorer:
    """Scores clips by signal metrics, id metrics and further scorers.

    Args:
        scorers: further scorers, by name.
        consistency: also measure the consistency of ids, which encodes each clip four more times.
        embed: decoded audio (T,) → speaker embedding (D,), for the EER; None: no EER.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer] | None = None,
        consistency: bool = True,
        embed: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.scorers = scorers or {}
        self.consistency = consistency
        self.embed = embed

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics, in the order of the tables."""
        shown = {name: metric for name, (metric, _) in SIGNAL_METRICS.items()}
        for scorer in self.scorers.values():
            shown |= scorer.metrics
        if self.embed is not None:
            shown["eer"] = EER
        return shown | (dict(CONSISTENCY) if self.consistency else {})

    def __call__(self, codec: Codec, clip: EvaluationClip) -> tuple[ResultRow, np.ndarray | None]:
        """The row, and the decoded audio (T,) at `SCORING_RATE`; None if the clip failed."""
        row = ResultRow(codec.name, codec.digest, clip.key, clip.dataset)
        try:
            with clip.open(SCORING_RATE) as reader:
                reference = reader.read()
            row.truncated = reader.truncated
            audio = clip.read(codec.sampling_rate)
        except Exception as error:
            row.failures["read"] = _failure(error)
            return row, None
        row.seconds = reference.size / SCORING_RATE
        if not reference.any():
            row.failures["silent"] = f"{clip.name} is silent: there is nothing to compare."
            return row, None
        try:
            encoded = codec.encode(audio)
            estimate = reconstruct(codec, encoded, reference.size)
        except Exception as error:  # codecs come from any library; the others continue
            row.failures["codec"] = f"{type(error).__name__}: {_sentence(error)}"
            return row, None
        try:
            self._measure(codec, clip, audio, reference, encoded, estimate, row)
        except Exception as error:
            row.failures["codec"] = _failure(error)
            return row, None
        return row, estimate

    def _measure(
        self,
        codec: Codec,
        clip: EvaluationClip,
        audio: np.ndarray,
        reference: np.ndarray,
        encoded: CompressedClip,
        estimate: np.ndarray,
        row: ResultRow,
    ) -> None:
        row.bits = encoded.bits
        if encoded.ids is not None and codec.rates is not None:
            row.ids = encoded.ids.tolist()
            row.bits = encoded.ids.shape[1] * float(np.log2(codec.rates.codebooks).sum())
            if self.consistency:
                row.values |= consistency(codec, audio, encoded.ids)
        self._score(Trial(clip, reference, estimate), row)

    def _score(self, trial: Trial, row: ResultRow) -> None:
        for name, (_, function) in SIGNAL_METRICS.items():
            if trial.clip.domain == "speech" or name not in SPEECH_ONLY:
                try:
                    row.values[name] = function(trial.reference, trial.estimate, SCORING_RATE)
                except Exception as error:
                    row.failures[name] = _failure(error)
        for name, scorer in self.scorers.items():
            try:
                row.values |= scorer.score(trial)
            except Exception as error:  # of any library, for instance about a strange transcript
                row.failures[name] = _failure(error)
        if self.embed is not None and "speaker" in trial.clip.labels:
            row.embedding = self.embed(trial.estimate).tolist()


def failure_titles(metrics_shown: Mapping[str, Metric], failures: Sequence[str]) -> dict[str, int]:
    """Number of failures by title of the metric."""
    counts: dict[str, int] = {}
    for name in failures:
        metric = metrics_shown.get(name)
        title = metric.title if metric else WHOLE_CLIP.get(name, name)
        counts[title] = counts.get(title, 0) + 1
    return counts


def _failure(error: BaseException) -> str:
    return without_folders(failure(error))


def _sentence(error: BaseException) -> str:
    return shortened(without_folders(" ".join(str(error).split()))) or type(error).__name__
