"""Nothing that is published names folders of this machine: failures, tables, labels, cards and trackers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from networks import tiny

from l3ac_tokenizer import asr
from l3ac_tokenizer.evaluation.codecs.base import Codec
from l3ac_tokenizer.evaluation.dataset import EvaluationClip, EvaluationData, open_data
from l3ac_tokenizer.evaluation.run import Evaluation, EvaluationOptions
from l3ac_tokenizer.evaluation.scoring import ClipScorer
from l3ac_tokenizer.evaluation.summary import summarize_evaluation
from l3ac_tokenizer.names import public_name, public_path, without_folders
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.training.card import model_card
from l3ac_tokenizer.training.config import load_config
from l3ac_tokenizer.training.tracking import plain_settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/a.wav is damaged.", "a.wav is damaged."),
        (f"{os.path.expanduser('~')}/x/y.wav", "y.wav"),
        ("it cannot be loaded ('/a/b/c.json')", "it cannot be loaded ('c.json')"),
        ("--model=/a/b", "--model=b"),
        (r"C:\Users\me\a.wav is damaged", "a.wav is damaged"),
        ("speech/a.wav of openai/whisper-small at https://x.org/a/b, 1/2", None),
    ],
)
def test_messages_lose_the_folders_of_absolute_paths(text, expected):
    assert without_folders(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/home/me/whisper", "whisper"),
        ("./whisper", "whisper"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("faster-whisper:/home/me/w", "faster-whisper:w"),
        ("speechbrain:speechbrain/x", "speechbrain:speechbrain/x"),
    ],
)
def test_labels_name_a_model_without_its_folder(name, expected):
    assert public_name(name) == expected


def test_absolute_paths_of_a_corpus_begin_in_it():
    assert public_path("/c/a/b.wav", "/c") == "a/b.wav"
    assert public_path("/d/e/a/b.wav", "/c", "/d/e") == "a/b.wav"
    assert public_path("/d/e/b.wav", "/c") == "b.wav"
    assert public_path("a/b.wav", "/c") == "a/b.wav"


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A manifest of absolute paths: a clip, a damaged file, and one that is missing."""
    for name in ("a/x.wav", "b/x.wav"):
        (tmp_path / "home" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "home" / name, 0.1 * np.sin(np.arange(4000) / 9), 16_000)
    (tmp_path / "home/b/x.wav").write_bytes(b"no audio")
    names = ("a/x.wav", "b/x.wav", "b/gone.wav")
    lines = [json.dumps({"path": str(tmp_path / "home" / name)}) for name in names]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/m.jsonl").write_text("\n".join(lines))
    return tmp_path / "lists/m.jsonl"


def test_a_tokenized_corpus_names_no_folders_of_this_machine(corpus, tmp_path):
    tokenize_corpus(open_source(str(corpus), allow_outside=True), tiny("tiny"), tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out/shard-00000.parquet").to_pylist()
    assert (row["id"], row["path"]) == ("a/x", "a/x.wav")
    for file in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    assert len((tmp_path / "out/failures.jsonl").read_text().splitlines()) == 2


class Broken(Codec):
    """A codec whose errors name a file."""

    name = title = "broken"
    sampling_rate = output_rate = 16_000

    def encode(self, audio):
        raise OSError("cannot read /home/me/model.bin")

    def decode(self, encoded):
        raise AssertionError


def test_failures_of_an_evaluation_name_no_folders(corpus, tmp_path):
    data = open_data([str(corpus)], allow_outside=True)
    rows = [ClipScorer(consistency=False)(Broken(), clip)[0] for clip in data.clips]
    text = json.dumps([row.as_json() for row in rows])
    assert str(tmp_path) not in text and "/home/me" not in text and "model.bin" in text


def test_a_summary_names_models_without_folders():
    clips = EvaluationData([EvaluationClip("d", "c", "speech", b"")])
    options = EvaluationOptions(scorers=(("asr", "faster-whisper:/home/me/whisper"),))
    text = json.dumps(summarize_evaluation(Evaluation(clips, options, [], [], {})))
    assert "/home/me" not in text and "faster-whisper:whisper" in text


def test_labels_of_recognizers_are_public(monkeypatch):
    monkeypatch.setattr("transformers.pipeline", lambda *args, **options: None)
    assert asr.TransformersRecognizer("/home/me/whisper").label == "whisper"


def test_a_card_names_models_without_folders():
    overrides = {"init_from": "/home/me/start", "perceptual_encoder": "/home/me/whisper"}
    config = load_config("l3ac-1k", overrides)
    card = model_card(config, tiny("tiny").config, {"a|b<": 1.0}, "Trained.", "| source |")
    assert "/home/me" not in card and "`start`" in card and "`whisper`" in card and "a\\|b&lt;" in card


def test_trackers_get_no_folders():
    settings = plain_settings({"data": ["/home/me/audio"], "a": {"init_from": "/home/me/start"}, "lr": 0.1})
    assert settings == {"data": "['audio']", "a.init_from": "start", "lr": 0.1}
