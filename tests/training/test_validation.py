"""Which held-out clips are scored, what chooses the best weights, and how a spectrogram is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import RATE

from l3ac_tokenizer.training import validation
from l3ac_tokenizer.training.corpus import AudioFiles
from l3ac_tokenizer.training.sources import find_clips
from l3ac_tokenizer.training.tracking import spectrogram_picture
from l3ac_tokenizer.training.validation import held_out_clips, si_sdr


@pytest.fixture
def clips(corpus_folder):
    return find_clips([corpus_folder], domains=["speech", "music", "general"], default_domain="speech")


def test_at_most_so_many_clips_spread_over_all(clips):
    held = held_out_clips(AudioFiles(RATE), clips, most=3)
    assert [clip.domain for clip in held] == ["general", "music", "speech"]
    assert len(held_out_clips(AudioFiles(RATE), clips, most=99)) == len(clips) == 12
    assert held_out_clips(AudioFiles(RATE), [], most=3) == []


def test_clips_without_the_packages_that_score_them_are_refused_at_once(clips, monkeypatch):
    monkeypatch.setattr(validation, "find_spec", lambda name: None if name == "pystoi" else name)
    with pytest.raises(ValueError, match=r"without pystoi: pip install l3ac-tokenizer\[eval\], or hold nothing out"):
        held_out_clips(AudioFiles(RATE), clips, most=3)


def test_score_is_of_speech_alone_where_there_is_any():
    scores = {"speech/stoi": [0.5, 0.7], "speech/pesq_wb": [2.0], "speech/si_sdr": [1.0], "music/si_sdr": [9.0]}
    assert validation._score(scores) == pytest.approx(0.6 + 2.0 / 4)
    assert validation._score({"music/si_sdr": [4.0], "general/si_sdr": [1.0, 1.0]}) == pytest.approx(2.0)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_si_sdr_of_noise_at_a_known_level(scale):
    rng = np.random.default_rng(0)
    reference, noise = rng.standard_normal((2, 200_000))
    assert si_sdr(scale * (reference + 0.1 * noise), reference) == pytest.approx(20.0, abs=0.1)


def test_spectrogram_of_a_tone_is_bright_at_its_frequency():
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    picture = spectrogram_picture(tone)
    assert picture.dtype == np.uint8 and picture.shape[0] == 257
    brightest = 256 - picture[:, 10:-10].argmax(axis=0)  # low frequencies are the last rows
    assert (brightest == 2000 * 512 // RATE).all() and picture.max() == 255
