"""Held-out clips, their scores in every stage, and the score by which the best weights are chosen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from corpora import RATE, write_corpus
from networks import tiny

from l3ac_tokenizer.id_stability import PERTURBATIONS
from l3ac_tokenizer.training import validation
from l3ac_tokenizer.training.data.corpus import AudioFiles
from l3ac_tokenizer.training.data.readers import find_clips
from l3ac_tokenizer.training.network import SpectralHead
from l3ac_tokenizer.training.validation import Candidate, HeldOut, held_out_clips, predicted_log_mels, validate


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


def test_word_errors_count_most():
    better, worse = {"speech/stoi": [0.8], "speech/pesq_wb": [2.0]}, {"speech/stoi": [0.9], "speech/pesq_wb": [2.2]}
    assert validation._score(better, wer=0.25) == pytest.approx(0.8 + 2.0 / 4 - 2 * 0.25)
    assert validation._score(better, wer=0.2) > validation._score(worse, wer=0.3)


def test_without_a_waveform_word_errors_choose_or_else_the_error_of_log_mels():
    scores = {"speech/mel_error": [3.0], "music/mel_error": [5.0]}
    assert validation._score(scores) == -4.0
    assert validation._score(scores, wer=0.3) == -0.3
    assert validation._score({"speech/same_digits": [0.5], "music/same_digits": [0.7]}) == pytest.approx(0.6)


class Recognizer:
    """Hears the same in everything."""

    def __init__(self):
        self.mels = []

    def __call__(self, wave):
        return "a red house"

    def hear_mel(self, mel):
        self.mels.append(mel)
        return "a red house"


@pytest.fixture
def spoken() -> list[HeldOut]:
    rng = np.random.default_rng(0)
    voice = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    return [HeldOut("speech", voice, "A red mouse ran."), HeldOut("speech", voice), HeldOut("music", voice)]


def test_word_errors_are_those_of_transcribed_clips_alone(spoken):
    scores = validate(Candidate(Noisy()), spoken, RATE, Accelerator(), Recognizer())
    assert scores["wer"] == 0.5  # house for mouse, and nothing for ran
    assert scores["score"] == pytest.approx(scores["speech/stoi"] + scores["speech/pesq_wb"] / 4 - 1.0)
    assert "wer" not in validate(Candidate(Noisy()), spoken[1:], RATE, Accelerator(), Recognizer())
    assert "wer" not in validate(Candidate(Noisy()), spoken, RATE, Accelerator())


def test_a_candidate_with_a_head_is_scored_on_its_log_mels(spoken):
    model = tiny("tiny-light")
    head, recognizer = SpectralHead(model.config.feature_dim).eval(), Recognizer()
    scores = validate(Candidate(model, head), spoken, RATE, Accelerator(), recognizer)
    changed = {f"ids_changed/{name}" for name in PERTURBATIONS}
    assert set(scores) == {"speech/mel_error", "music/mel_error", "wer", "ids", "unscored", "score"} | changed
    assert all(0 <= scores[name] <= 1 for name in changed)
    assert scores["score"] == -scores["wer"] == -0.5 and scores["speech/mel_error"] > 10
    assert [mel.shape for mel in recognizer.mels] == [(80, 100)]  # a frame each 10 ms of one second
    predicted, target, ids = predicted_log_mels(Candidate(model, head), spoken[0])
    assert predicted.shape == target.shape == (2 * -(-RATE // 12), 180) and len(ids) == scores["ids"]


def test_a_candidate_with_a_teacher_is_scored_on_its_digits(spoken):
    model, other = tiny("tiny-light"), tiny("tiny")
    alike = validate(Candidate(model, None, model), spoken, RATE, Accelerator())
    assert alike["speech/same_digits"] == alike["music/same_digits"] == alike["score"] == 1.0
    different = validate(Candidate(other, None, model), spoken, RATE, Accelerator())
    assert different["score"] < 0.8 and "speech/stoi" not in different


def test_transcribed_clips_are_held_out_whole_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(validation, "MAX_TRANSCRIBED", 2)
    folder = write_corpus(tmp_path / "audio")
    names = [path.stem for path in sorted((folder / "speech").iterdir())]
    (folder / "speech" / "voice.trans.txt").write_text("".join(f"{name} A RED HOUSE\n" for name in names[:3]))
    clips = find_clips([folder], domains=["speech", "music", "general"], default_domain="speech")
    held = held_out_clips(AudioFiles(RATE), clips, most=2)
    assert [clip.text for clip in held] == [None, None, "A RED HOUSE", "A RED HOUSE"]
    assert [len(clip.audio) for clip in held] == [RATE // 2, RATE // 2, RATE, RATE]


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
