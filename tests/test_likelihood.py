"""Likelihood tests of a speech language model: log-likelihoods, accuracies, and the command of the recipe."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import speech_like, tiny

from l3ac_tokenizer import CodecEncoderModel
from l3ac_tokenizer.container import Header, write_l3ac
from l3ac_tokenizer.id_metadata import ModelMismatchError
from l3ac_tokenizer.speech_lm.accuracy import (
    ClipScore,
    ScoredPair,
    accuracies,
    markdown_table,
    require_codec,
    score_pairs,
    write_scores,
)
from l3ac_tokenizer.speech_lm.likelihood import log_likelihoods, windows
from l3ac_tokenizer.speech_lm.model import SpeechLM, SpeechLMConfig
from l3ac_tokenizer.speech_lm.pairs import Pair, PairList

LEVELS = (5, 3, 3)
CODEBOOK = math.prod(LEVELS)
RATE = 16_000


def language_model(**fields) -> SpeechLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return SpeechLM(SpeechLMConfig(**sizes, levels=LEVELS, max_position_embeddings=16, **fields)).eval()


@pytest.fixture(scope="module")
def codec():
    return tiny("tiny")


# ---------------------------------------------------------------------------------------------- log-likelihoods


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 24, 25, 100])
def test_windows_count_every_id_once_with_half_a_context_before_it(length):
    clip = np.arange(length)
    counted = []
    for window in windows([clip], 16):
        assert len(window.ids) <= 16
        if window.first:
            assert window.first >= 8
        counted += window.ids[window.first :].tolist()
    assert counted == clip.tolist()


def test_a_clip_is_as_likely_as_its_ids_given_those_before():
    model = language_model()
    clips = [np.random.default_rng(seed).integers(CODEBOOK, size=length) for seed, length in enumerate((9, 16, 1))]
    with torch.no_grad():
        for clip, value in zip(clips, log_likelihoods(model, clips), strict=True):
            expected = 0.0
            for place in range(len(clip)):  # each id in a call of its own
                ids = torch.from_numpy(clip[: place + 1])[None]
                expected += float(model.lm_head.log_probs(model.features(ids)[0, -1])[clip[place]])
            assert value == pytest.approx(expected, rel=1e-5)


def test_the_log_likelihood_does_not_depend_on_the_batch():
    model = language_model()
    clips = [np.random.default_rng(seed).integers(CODEBOOK, size=length) for seed, length in enumerate((9, 40, 0, 16))]
    single = [log_likelihoods(model, [clip])[0] for clip in clips]
    for batch_size in (1, 3, 8):
        assert log_likelihoods(model, clips, batch_size) == pytest.approx(single, rel=1e-5)
    assert single[2] == 0


# ---------------------------------------------------------------------------------------------- accuracies


def scored(positive: float, negative: float, group: str = "", item: str = "", ids: tuple[int, int] = (10, 10)):
    pair = Pair(Path("p"), Path("n"), group, item)
    return ScoredPair(pair, ClipScore(ids[0], positive), ClipScore(ids[1], negative))


def test_ties_count_half_and_short_clips_are_not_favored_per_id():
    every = [scored(-9, -10, item="a"), scored(-10, -9, item="b"), scored(-9, -9, item="c")]
    row = accuracies(every)[-1]
    assert row["per_id"]["mean"] == row["total"]["mean"] == 0.5 and row["per_id"]["ties"] == 1
    longer = scored(-20, -15, item="a", ids=(20, 10))
    row = accuracies([longer])[-1]
    assert (row["per_id"]["mean"], row["total"]["mean"]) == (1.0, 0.0)


def test_the_pairs_of_an_item_are_averaged_first_and_items_of_groups_are_apart():
    every = [scored(1, 0, "x", "1"), scored(0, 1, "x", "1"), scored(1, 0, "x", "2"), scored(0, 1, "y", "1")]
    y, x, both = accuracies(every)
    assert (x["group"], x["items"], x["pairs"], x["per_id"]["mean"]) == ("x", 2, 3, 0.75)
    assert (y["group"], y["items"], y["per_id"]["mean"], y["per_id"]["interval"]) == ("y", 1, 0.0, None)
    assert (both["group"], both["items"], both["pairs"]) == ("all", 3, 4)
    assert both["per_id"]["mean"] == pytest.approx(0.5)
    low, high = both["per_id"]["interval"]
    assert 0 <= low < 0.5 < high <= 1


def test_clips_that_cannot_be_read_are_counted_and_named(tmp_path):
    bad = ScoredPair(Pair(Path("p"), Path("n"), "x", "3"), None, None, "n is not audio.")
    pairs = PairList([], ["q_correct.wav has no counterpart."])
    results = write_scores([scored(1, 0, "x", "1"), bad], pairs, {"run": "RUN"}, tmp_path / "scores")
    assert results["accuracy"][0] | {"per_id": None, "total": None} == {
        "group": "x", "pairs": 1, "unreadable": 1, "items": 1, "per_id": None, "total": None,
    }  # fmt: skip
    assert json.loads((tmp_path / "scores" / "results.json").read_text()) == results
    table = (tmp_path / "scores" / "table.md").read_text()
    assert "Left out: 2." in table and "n is not audio." in table and "no counterpart" in table
    with open(tmp_path / "scores" / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["correct_per_id"] for row in rows] == ["1.0", ""]
    assert [row["error"] for row in rows] == ["", "n is not audio."]
    assert (rows[0]["positive_ids"], rows[0]["positive_log_likelihood"]) == ("10", "1")


def test_a_table_names_the_first_clips_that_cannot_be_read():
    results = {"accuracy": accuracies([scored(1, 0)]), "unreadable": [f"{n} is bad" for n in range(30)], "unpaired": []}
    table = markdown_table(results)
    assert "Left out: 30." in table and "19 is bad" in table and "20 is bad" not in table and "and 10 more" in table


def test_a_table_without_any_score_is_a_table():
    bad = ScoredPair(Pair(Path("p"), Path("n"), "x", "3"), None, None, "n is not audio.")
    results = {"accuracy": accuracies([bad]), "unreadable": ["n is not audio."], "unpaired": []}
    assert "| x | 0 | 0 | – | – |" in markdown_table(results)


# ---------------------------------------------------------------------------------------------- files


def test_files_of_audio_and_of_ids_have_the_scores_of_their_ids(codec, tmp_path):
    model = language_model(weights_digest=codec.weights_digest())
    wave = speech_like(700, seed=3)
    with torch.no_grad():
        ids = codec.encode(wave[None, None]).audio_codes[0, 0].numpy()
    soundfile.write(tmp_path / "a.wav", wave.numpy(), RATE, subtype="FLOAT")
    header = Header("tiny", codec.weights_digest(), LEVELS, RATE, codec.config.hop_length, 700)
    write_l3ac(tmp_path / "a.l3ac", header, ids)
    np.save(tmp_path / "a.npy", ids)
    np.save(tmp_path / "far.npy", np.array([CODEBOOK]))
    np.save(tmp_path / "none.npy", np.array([], dtype=np.int64))
    write_l3ac(tmp_path / "other.l3ac", Header("b", "0" * 64, LEVELS, RATE, 12, 700), ids)
    (tmp_path / "text.wav").write_text("no audio")
    names = ["a.l3ac", "a.npy", "far.npy", "none.npy", "other.l3ac", "text.wav", "missing.wav"]
    pairs = [Pair(tmp_path / "a.wav", tmp_path / name, "", name) for name in names]
    results = score_pairs(pairs, codec, model)
    expected = log_likelihoods(model, [ids])[0]
    for result in results[:2]:
        assert result.positive == result.negative == ClipScore(len(ids), expected)
        assert result.correct("per_id") == result.correct("total") == 0.5
    for name, result in zip(names[2:], results[2:], strict=True):
        assert result.positive is None and result.correct("total") is None
        assert name in result.error, result.error


def test_a_language_model_takes_its_own_codec_alone(codec, tmp_path):
    codec.save_pretrained(tmp_path / "codec")
    encoder = CodecEncoderModel.from_pretrained(tmp_path / "codec").eval()
    require_codec(language_model(weights_digest=codec.weights_digest()), encoder, "codec")
    with pytest.raises(ModelMismatchError, match="give the codec of its corpus"):
        require_codec(language_model(weights_digest="0" * 64), encoder, "codec")
    with pytest.raises(ValueError, match="does not say which codec"):
        require_codec(language_model(), encoder, "codec")


def test_the_command_scores_a_table(codec, tmp_path, monkeypatch, capsys):
    pytest.importorskip("datasets")
    pytest.importorskip("yaml")
    from recipes import speech_lm

    codec.save_pretrained(tmp_path / "codec")
    language_model(weights_digest=codec.weights_digest()).save_pretrained(tmp_path / "run" / "model")
    for seed in range(3):
        soundfile.write(tmp_path / f"{seed}.wav", speech_like(3 * RATE, seed).numpy(), RATE)
    folders = [str(tmp_path / name) for name in ("pairs", "run", "scores", "codec")]
    run(speech_lm, monkeypatch, "pairs", str(tmp_path), "-o", folders[0])
    assert "9 pairs" in capsys.readouterr().out
    run(
        speech_lm,
        monkeypatch,
        "score",
        f"{folders[0]}/pairs.csv",
        "--run",
        folders[1],
        "-o",
        folders[2],
        "--model",
        folders[3],
    )
    printed = capsys.readouterr().out
    assert all(f"| {group} | 3 | 3 |" in printed for group in ("reversed", "shuffled", "level"))
    assert "| all | 9 | 9 |" in printed
    assert (tmp_path / "scores" / "table.md").read_text() == printed
    with pytest.raises(SystemExit, match="speech_lm: nowhere has no folder `model`"):
        run(speech_lm, monkeypatch, "score", f"{folders[0]}/pairs.csv", "--run", "nowhere", "-o", folders[2])
    with pytest.raises(SystemExit, match=r"speech_lm: .*nowhere"):
        run(speech_lm, monkeypatch, "score", "nowhere.csv", "--run", folders[1], "-o", folders[2])


def run(recipe, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["speech_lm.py", *arguments])
    recipe.main()
