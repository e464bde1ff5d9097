"""Means over clips with bootstrap confidence intervals.

Axes: C clips, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEED = 0
RESAMPLES = 10_000
_BLOCK = 1 << 24
"""Numbers drawn at a time, which bounds memory."""


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over the clips that have a value.

    Attributes:
        count: Clips with a value.
        mean: Mean of the values; None without any.
        interval: 95 % bootstrap interval (percentiles over resampled clips); None for fewer than two values.
    """

    count: int
    mean: float | None
    interval: tuple[float, float] | None


NO_MEAN = Mean(0, None, None)


def mean_with_interval(values: Sequence[float]) -> Mean:
    """Mean of values (C,) over clips (10,000 resamples, seed 0)."""
    return pooled_mean([(value, 1.0) for value in values])


def pooled_mean(parts: Sequence[tuple[float, float]]) -> Mean:
    """Σ numerators / Σ denominators over clips (C,), such as word errors / words; clips are resampled."""
    return mean_of_means([parts])


def mean_of_means(datasets: Sequence[Sequence[tuple[float, float]]]) -> Mean:
    """Mean over data sets of their [`pooled_mean`]; clips are resampled within their data set.

    Data sets without a value, or whose denominators are all 0, are left out.
    """
    counted = [np.asarray(parts, dtype=np.float64) for parts in datasets if sum(part[1] for part in parts)]
    if not counted:
        return NO_MEAN
    mean = float(np.mean([parts[:, 0].sum() / parts[:, 1].sum() for parts in counted]))
    count = sum(map(len, counted))
    if min(map(len, counted)) < 2:
        return Mean(count, mean, None)
    resampled = np.mean([_resampled(parts) for parts in counted], axis=0)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Mean(count, mean, (float(low), float(high)))


def _resampled(parts: np.ndarray) -> np.ndarray:
    """Ratios (R,) over clips drawn with replacement from parts (C, 2)."""
    random = np.random.default_rng(SEED)
    clips = len(parts)
    rows = max(1, _BLOCK // clips)
    blocks = []
    for start in range(0, RESAMPLES, rows):
        drawn = parts[random.integers(clips, size=(min(rows, RESAMPLES - start), clips))].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # resamples whose denominators are all 0
            blocks.append(drawn[:, 0] / drawn[:, 1])
    return np.concatenate(blocks)
