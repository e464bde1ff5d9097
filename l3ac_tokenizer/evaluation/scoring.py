"""From a clip and a codec to one row of scores.

Axes: T samples, K streams of ids, N ids a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from .. import metrics
from ..metrics import MetricError
from .codecs.base import SCORING_RATE, Codec, reconstruct
from .dataset import Clip
from .scorers.tokens import consistency

Value = float | tuple[float, float]
"""Of one clip: a number, or numerator and denominator where clips are pooled."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        title: Name in tables, with its unit.
        decimals: After the point in tables.
        higher_is_better: Which way is good.
        source: Whose definition, in a few words.
        scale: Factor in tables, 100 for shares in percent.
    """

    title: str
    decimals: int
    higher_is_better: bool
    source: str
    scale: float = 1.0


@dataclass(frozen=True)
class Trial:
    """What a metric compares: a clip, and what a codec made of it, (T,) at `SCORING_RATE`."""

    clip: Clip
    reference: np.ndarray
    estimate: np.ndarray


class Scorer(Protocol):
    """Metrics that come from one computation.

    Attributes:
        metrics: Name → how it is shown, of all that `score` may give.
    """

    metrics: Mapping[str, Metric]

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """Values by name; what does not apply to the clip (no transcript, music) is left out.

        Raises:
            MetricError: the clip has no value.
        """
        ...


@dataclass
class Row:
    """A clip through a codec.

    Attributes:
        codec: Name of the codec.
        digest: Of its weights, where it has one: rows of other weights are not used.
        clip: Key of the clip.
        dataset: Its data set.
        seconds: Its length.
        bits: Size of its code.
        ids: (K, N); None without ids.
        values: By metric.
        embedding: Of the decoded voice, for the error rate of trials between clips.
        failures: Metric → why it has no value; one of `WHOLE_CLIP` where nothing of the clip has.
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

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self)


SIGNAL: Mapping[str, tuple[Metric, Callable[[np.ndarray, np.ndarray, int], float]]] = {
    "stoi": (Metric("STOI", 3, True, "Codec-SUPERB, TAAE; pystoi"), metrics.stoi),
    "pesq_wb": (Metric("PESQ-WB", 2, True, "ITU-T P.862.2; Codec-SUPERB, TAAE"), metrics.pesq),
    "pesq_nb": (Metric("PESQ-NB", 2, True, "ITU-T P.862, P.862.1"), lambda x, y, rate: metrics.pesq(x, y, rate, "nb")),
    "sdr": (Metric("SDR, dB", 2, True, "BSS Eval, 512 taps; Codec-SUPERB"), lambda x, y, _: metrics.sdr(x, y)),
    "superb_mel": (Metric("MEL", 3, False, "Codec-SUPERB"), metrics.superb_mel),
    "si_sdr": (Metric("SI-SDR, dB", 2, True, "TAAE"), lambda x, y, _: metrics.si_sdr(x, y)),
    "mel_distance": (Metric("mel distance", 3, False, "TAAE"), metrics.mel_distance),
    "stft_distance": (Metric("STFT distance", 3, False, "TAAE"), lambda x, y, _: metrics.stft_distance(x, y)),
}
SPEECH_ONLY = ("stoi", "pesq_wb", "pesq_nb")
"""Metrics of speech, which Codec-SUPERB does not take of other audio either."""

CONSISTENCY: Mapping[str, Metric] = {
    "changed_by_noise": Metric("ids changed by noise, %", 1, False, "ours", 100),
    "changed_by_sample": Metric("ids changed by a sample, %", 1, False, "ours", 100),
    "changed_by_hop": Metric("ids changed by a hop, %", 1, False, "ours", 100),
    "changed_by_gain": Metric("ids changed by gain, %", 1, False, "ours", 100),
}


EER = Metric("EER, %", 1, False, "Codec-SUPERB; all pairs of decoded clips of a domain", 100)

WHOLE_CLIP = {"read": "not readable", "silent": "silent", "codec": "codec failed"}
"""Failures of all of a clip, and what tables call them."""


class ClipScorer:
    """Scores clips: signal metrics, ids, and what else was asked for.

    Args:
        scorers: metrics of applications, by name.
        consistent_ids: also encode changed clips, four times the encoder's work.
        embed: decoded audio (T,) → embedding of the voice.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer] | None = None,
        consistent_ids: bool = True,
        embed: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.scorers = scorers or {}
        self.consistent_ids = consistent_ids
        self.embed = embed

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics, in the order of tables."""
        shown = {name: metric for name, (metric, _) in SIGNAL.items()}
        for scorer in self.scorers.values():
            shown |= scorer.metrics
        if self.embed is not None:
            shown["eer"] = EER
        return shown | (dict(CONSISTENCY) if self.consistent_ids else {})

    def __call__(self, codec: Codec, clip: Clip) -> tuple[Row, np.ndarray | None]:
        """The row, and the decoded audio (T,) at `SCORING_RATE`; None where the clip failed."""
        row = Row(codec.name, codec.digest, clip.key, clip.dataset)
        try:
            reference, audio = clip.read(SCORING_RATE), clip.read(codec.sampling_rate)
        except (OSError, ValueError) as error:
            row.failures["read"] = _sentence(error)
            return row, None
        row.seconds = reference.size / SCORING_RATE
        if not reference.any():
            row.failures["silent"] = f"{clip.name} is silent: there is nothing to compare."
            return row, None
        try:
            code = codec.encode(audio)
            estimate = reconstruct(codec, code, reference.size)
        except Exception as error:  # a codec of any library; the others go on
            row.failures["codec"] = f"{type(error).__name__}: {_sentence(error)}"
            return row, None
        row.bits = code.bits
        if code.ids is not None and codec.rates is not None:
            row.ids = code.ids.tolist()
            row.bits = code.ids.shape[1] * float(np.log2(codec.rates.codebooks).sum())
            if self.consistent_ids:
                row.values |= consistency(codec, audio, code.ids)
        self._score(Trial(clip, reference, estimate), row)
        return row, estimate

    def _score(self, trial: Trial, row: Row) -> None:
        for name, (_, function) in SIGNAL.items():
            if trial.clip.domain == "speech" or name not in SPEECH_ONLY:
                try:
                    row.values[name] = function(trial.reference, trial.estimate, SCORING_RATE)
                except MetricError as error:
                    row.failures[name] = _sentence(error)
        for name, scorer in self.scorers.items():
            try:
                row.values |= scorer.score(trial)
            except MetricError as error:
                row.failures[name] = _sentence(error)
        if self.embed is not None and "speaker" in trial.clip.labels:
            row.embedding = self.embed(trial.estimate).tolist()


def failure_titles(metrics_shown: Mapping[str, Metric], failures: Sequence[str]) -> dict[str, int]:
    """How often each kind of failure occurred, by its title."""
    counts: dict[str, int] = {}
    for name in failures:
        metric = metrics_shown.get(name)
        title = metric.title if metric else WHOLE_CLIP.get(name, name)
        counts[title] = counts.get(title, 0) + 1
    return counts


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
