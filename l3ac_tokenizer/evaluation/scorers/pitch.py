"""F0 of decoded speech against the original: correlation, voicing errors and gross pitch errors.

Axes: T samples, N frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..codecs.base import SCORING_RATE
from .base import Metric, Scorer, Trial, Value

F0_RANGE_HZ = (71.0, 800.0)
"""Range of F0: that of WORLD's trackers, by which F0 is usually measured."""

FRAME_LENGTH = 1024
HOP_LENGTH = 256
"""Samples of a frame (64 ms) and between frames (16 ms) at `SCORING_RATE`."""

GROSS_ERROR = 0.2
"""Relative deviation of F0 beyond which an error is gross."""


class PitchScorer(Scorer):
    """F0 metrics of the decoded clip, frame by frame; speech only.

    - F0 correlation: see [`f0_correlation`]; no value for clips in which it is undefined. It says nothing of frames
      that lost their voice: read it beside the voicing error.
    - Voicing error: share of frames that are voiced in one clip only (voicing decision error of Nakatani et al., "A
      method for fundamental frequency estimation and voicing decision", Speech Communication 2008).
    - Gross pitch error: share of the frames voiced in both whose F0 deviates by more than 20 % (the same paper).

    Both errors are pooled over the frames of all clips.

    Args:
        name: F0 tracker; `pyin` is librosa's (Mauch and Dixon, "pYIN", 2014).
        device: not used.

    Raises:
        ValueError: no tracker is named `name`.
        ModuleNotFoundError: librosa is missing.
    """

    metrics: Mapping[str, Metric] = {
        "f0_correlation": Metric("F0 correlation", 3, True, "Codec-SUPERB; pYIN by librosa"),
        "voicing_error": Metric("voicing error, %", 1, False, "Nakatani et al. 2008; pYIN by librosa", 100),
        "gross_pitch_error": Metric("gross pitch error, %", 1, False, "Nakatani et al. 2008; pYIN by librosa", 100),
    }

    def __init__(self, name: str, device: str) -> None:
        import librosa  # noqa: F401 - a missing package shows before hours of work

        if name != "pyin":
            raise ValueError(f"{name!r} is not an F0 tracker: choose pyin.")
        self._originals: dict[str, np.ndarray] = {}

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The correlation, and (errors, frames) of either error."""
        clip = trial.clip
        if clip.domain != "speech":
            return {}
        if clip.key not in self._originals:
            self._originals[clip.key] = track_f0(trial.reference)
        reference, estimate = self._originals[clip.key], track_f0(trial.estimate)
        voiced = ~np.isnan(reference), ~np.isnan(estimate)
        both = voiced[0] & voiced[1]
        deviation = np.abs(estimate[both] / reference[both] - 1)
        values: dict[str, Value] = {
            "voicing_error": (float((voiced[0] != voiced[1]).sum()), float(reference.size)),
            "gross_pitch_error": (float((deviation > GROSS_ERROR).sum()), float(both.sum())),
        }
        correlation = f0_correlation(reference, estimate)
        return values if correlation is None else {"f0_correlation": correlation, **values}


def track_f0(audio: np.ndarray) -> np.ndarray:
    """F0 in Hz of each frame (N,) of a clip (T,) at `SCORING_RATE`; NaN in frames without voice."""
    import librosa

    low, high = F0_RANGE_HZ
    f0, _, _ = librosa.pyin(
        audio, fmin=low, fmax=high, sr=SCORING_RATE, frame_length=FRAME_LENGTH, hop_length=HOP_LENGTH
    )
    return f0


def f0_correlation(reference: np.ndarray, estimate: np.ndarray) -> float | None:
    """Pearson correlation of two F0 tracks (N,) in Hz over the frames that are voiced in both, -1 to 1.

    F0CORR of Codec-SUPERB (Wu et al., 2024). None where it is undefined: fewer than two such frames, or an F0 that does
    not vary.
    """
    both = ~(np.isnan(reference) | np.isnan(estimate))
    if both.sum() < 2 or not (np.ptp(reference[both]) and np.ptp(estimate[both])):
        return None
    return float(np.corrcoef(reference[both], estimate[both])[0, 1])
