"""Which held-out clips are scored, what chooses the best weights, and how a spectrogram is drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from corpora import RATE

from l3ac_tokenizer.training import validation
from l3ac_tokenizer.training.data.corpus import AudioFiles
from l3ac_tokenizer.training.data.readers import find_clips
from l3ac_tokenizer.training.validation import Candidate, HeldOut, held_out_clips, validate


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


class Noisy(torch.nn.Module):
    """Adds the same noise to any clip, and hushes none."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.001))

    def forward(self, audio):
        noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
        return SimpleNamespace(audio_values=audio + self.level * noise, audio_codes=torch.tensor([[[1, 2]]]))


def test_what_cannot_be_scored_is_left_out_and_counted(caplog):
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    voice = (rng.standard_normal(len(time)) * np.clip(np.sin(4 * np.pi * time), 0, None) * 0.1).astype(np.float32)
    clips = [HeldOut("speech", voice), HeldOut("speech", voice[8000:10_000]), HeldOut("music", 0 * voice)]
    scores = validate(Candidate(Noisy()), clips, RATE, Accelerator())
    alone = validate(Candidate(Noisy()), clips[:1], RATE, Accelerator())
    assert scores["unscored"] == 2 and alone["unscored"] == 0
    assert {name: scores[name] for name in ("speech/stoi", "speech/pesq_wb", "score")} == {
        name: alone[name] for name in ("speech/stoi", "speech/pesq_wb", "score")
    }
    assert scores["score"] == scores["speech/stoi"] + scores["speech/pesq_wb"] / 4
    assert "music/si_sdr" not in scores and scores["speech/si_sdr"] > 10
    assert "1 held-out clips: STOI needs 0.4 s of audio that is not silent." in caplog.text


def test_weights_that_could_not_be_scored_at_all_are_never_the_best():
    scores = validate(Candidate(Noisy()), [HeldOut("music", np.zeros(8000, np.float32))], RATE, Accelerator())
    assert scores["score"] == -np.inf
