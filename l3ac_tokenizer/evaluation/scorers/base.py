"""Interface of scorers: the original and the decoded clip in, values by metric out.

Axes: T samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..dataset import EvaluationClip

Value = float | tuple[float, float]
"""A metric of one clip: a number, or (numerator, denominator) for metrics that are pooled over clips, such as WER."""


@dataclass(frozen=True)
class Metric:
    """Presentation of a metric in tables.

    Attributes:
        title: Name, with its unit.
        decimals: Decimal places.
        higher_is_better: Direction of better values.
        source: Whose definition it is, in a few words.
        scale: Factor in tables, 100 for shares in percent.
    """

    title: str
    decimals: int
    higher_is_better: bool
    source: str
    scale: float = 1.0


@dataclass(frozen=True)
class Trial:
    """An original and its decoded version, both (T,) at `SCORING_RATE`.

    Attributes:
        clip: The clip, with its domain and labels.
        reference: Original audio.
        estimate: Decoded audio.
    """

    clip: EvaluationClip
    reference: np.ndarray
    estimate: np.ndarray


class Scorer(ABC):
    """Metrics that one model or computation yields.

    Attributes:
        metrics: Name → presentation, of every metric that `score` may return.
    """

    metrics: Mapping[str, Metric]

    @abstractmethod
    def score(self, trial: Trial) -> Mapping[str, Value]:
        """Values by name of metric, without those that do not apply to the clip (no transcript, not speech).

        Raises:
            MetricError: the metrics are undefined for this clip.
        """
