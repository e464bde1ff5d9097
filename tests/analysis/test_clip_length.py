"""The same audio in clips of every length."""

from __future__ import annotations

import pytest
from networks import speech_like

from l3ac_tokenizer.analysis import clip_length


def test_every_length_codes_the_same_audio_and_clips_without_a_value_are_counted(tiny_model, monkeypatch):
    seen: list[tuple[float, int]] = []

    def metric(reference, estimate, rate):
        assert reference.shape == estimate.shape
        if not reference.any():
            raise clip_length.MetricError("silent")
        seen.append((len(reference) / rate, len(reference)))
        return float(len(reference))

    monkeypatch.setattr(clip_length, "CLIP_METRICS", {"size": ("size", metric, 0)})
    long, short = speech_like(16_000 * 9).numpy(), speech_like(16_000).numpy()
    long[:8000] = 0.0
    results = clip_length.measure_clip_lengths(tiny_model, [long, short], (0.5, 2, 4))
    assert [(one.seconds, one.clips) for one in results] == [(0.5, 16), (2, 4), (4, 2)]
    assert [one.means["size"].count for one in results] == [15, 4, 2]
    page = clip_length.clip_length_section(results, "tiny")
    assert "| 0.5 s | 16 | 8000 [8000, 8000] (1 without) |" in page


def test_recordings_that_are_too_short_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"No recording is as long as 60 s; give longer ones\."):
        clip_length.measure_clip_lengths(tiny_model, [speech_like(100).numpy()])
