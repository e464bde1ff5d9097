"""F0 metrics: exact on tracks made by hand, and right on tones, noise and silence."""

from __future__ import annotations

import numpy as np
import pytest

from l3ac_tokenizer.evaluation.codecs.base import SCORING_RATE
from l3ac_tokenizer.evaluation.dataset import EvaluationClip
from l3ac_tokenizer.evaluation.scorers import pitch
from l3ac_tokenizer.evaluation.scorers.base import Trial
from l3ac_tokenizer.evaluation.scorers.pitch import PitchScorer, f0_correlation, track_f0

pytest.importorskip("librosa", reason="comes with the extra `eval-offline`")

NONE = float("nan")
SECONDS = 1.0


def voice(low: float, high: float) -> np.ndarray:
    """A tone with harmonics whose F0 glides from `low` to `high` Hz."""
    phase = 2 * np.pi * np.cumsum(np.linspace(low, high, round(SECONDS * SCORING_RATE))) / SCORING_RATE
    return (0.1 * sum(np.sin(order * phase) / order for order in range(1, 9))).astype(np.float32)


RISING = voice(110, 220)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(RISING.size)).astype(np.float32)
SILENCE = np.zeros_like(RISING)


def scores(reference: np.ndarray, estimate: np.ndarray, domain: str = "speech") -> dict:
    return dict(
        PitchScorer("pyin", "cpu").score(Trial(EvaluationClip("set", "clip", domain, None), reference, estimate))
    )


def share(value: tuple[float, float]) -> float:
    return value[0] / value[1]


def test_the_tracker_finds_the_f0_of_a_glide():
    found = track_f0(RISING)
    truth = np.linspace(110, 220, found.size)
    assert np.isnan(found).mean() < 0.05
    np.testing.assert_allclose(found[2:-2], truth[2:-2], rtol=0.03)


def test_a_clip_agrees_with_itself():
    found = scores(RISING, RISING)
    assert found["f0_correlation"] == pytest.approx(1)
    assert found["voicing_error"][0] == found["gross_pitch_error"][0] == 0
    assert found["voicing_error"][1] == found["gross_pitch_error"][1] == 1 + RISING.size // pitch.HOP_LENGTH


def test_a_transposed_voice_correlates_and_counts_as_a_gross_error_beyond_a_fifth():
    near, far = scores(RISING, voice(1.1 * 110, 1.1 * 220)), scores(RISING, voice(1.5 * 110, 1.5 * 220))
    assert near["f0_correlation"] > 0.999 and far["f0_correlation"] > 0.999
    assert share(near["gross_pitch_error"]) == 0 and share(far["gross_pitch_error"]) == 1
    assert share(near["voicing_error"]) < 0.05


def test_a_falling_voice_in_place_of_a_rising_one_correlates_negatively():
    assert scores(RISING, voice(220, 110))["f0_correlation"] < -0.99


@pytest.mark.parametrize("lost", [SILENCE, NOISE], ids=["silence", "noise"])
def test_a_lost_voice_is_a_voicing_error_and_has_no_correlation(lost):
    found = scores(RISING, lost)
    assert share(found["voicing_error"]) > 0.9
    assert scores(SILENCE, SILENCE)["voicing_error"][0] == 0
    if lost is SILENCE:
        assert "f0_correlation" not in found and found["gross_pitch_error"] == (0, 0)


def test_half_a_voice_is_half_a_voicing_error():
    half = np.concatenate([RISING[: RISING.size // 2], SILENCE[RISING.size // 2 :]])
    assert share(scores(RISING, half)["voicing_error"]) == pytest.approx(0.5, abs=0.05)


def test_errors_are_counted_frame_by_frame(monkeypatch):
    tracks = iter([np.array([100, 100, NONE, NONE, 200.0]), np.array([119, 121, 100, NONE, NONE])])
    monkeypatch.setattr(pitch, "track_f0", lambda audio: next(tracks))
    found = scores(RISING, RISING)
    assert found["voicing_error"] == (2, 5) and found["gross_pitch_error"] == (1, 2)
    assert "f0_correlation" not in found  # the original's F0 does not vary where both are voiced


def test_correlation_is_pearsons_over_frames_voiced_in_both():
    left, right = np.array([100, 120, NONE, 90, 150.0]), np.array([90, 130, 100, NONE, 140.0])
    expected = np.corrcoef([100, 120, 150], [90, 130, 140])[0, 1]
    assert f0_correlation(left, right) == pytest.approx(expected)
    assert f0_correlation(left, np.full(5, NONE)) is None


def test_other_audio_has_no_f0():
    assert scores(RISING, RISING, "audio") == {}


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="'told' is not an F0 tracker"):
        PitchScorer("told", "cpu")
