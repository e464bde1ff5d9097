"""The one-cycle schedule in three phases: learning rate and, inversely, Adam's beta1."""

from __future__ import annotations

import math
from typing import NamedTuple

RESOLUTION = 7000
"""Steps of the published schedule; a run of any length follows the same curve."""


class CyclePoint(NamedTuple):
    """Learning rate and beta1 at one moment of the run."""

    lr: float
    beta1: float


CONSTANT_BETA = 0.9
"""Adam's beta1 at a constant learning rate."""


def one_cycle(
    position: float,
    *,
    peak: float,
    div_factor: float = 10.0,
    final_div_factor: float = 10.0,
    pct_start: float = 0.4,
    betas: tuple[float, float] = (0.85, 0.95),
) -> CyclePoint:
    """Cosine rise from peak / div_factor to `peak`, the same way back, then down by final_div_factor.

    `position` is in schedule steps, 0 to 6999. With the defaults and peak 5e-4: 5e-5 -> 5e-4 -> 5e-5 -> 5e-6,
    beta1 0.95 -> 0.85 -> 0.95. (Smith and Topin, 2018, arXiv 1708.07120; turning points as PyTorch places
    them.)
    """
    start = peak / div_factor
    low, high = betas
    top, bottom, end = pct_start * RESOLUTION - 1, 2 * pct_start * RESOLUTION - 2, RESOLUTION - 1
    if position <= top:
        share = position / top
        return CyclePoint(_cosine(start, peak, share), _cosine(high, low, share))
    if position <= bottom:
        share = (position - top) / (bottom - top)
        return CyclePoint(_cosine(peak, start, share), _cosine(low, high, share))
    share = min(1.0, (position - bottom) / (end - bottom))
    return CyclePoint(_cosine(start, start / final_div_factor, share), high)


def _cosine(start: float, end: float, share: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * share)) / 2
