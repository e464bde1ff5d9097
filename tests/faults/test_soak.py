"""A small soak: generated clips of all kinds, broken ones among them, tokenized with kills in between."""

from __future__ import annotations

from networks import tiny

from benchmarks.soak import BREAK, FORMATS, faults, generate, run_with_kills, tiny_model
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus


def test_every_broken_clip_is_named_and_every_good_one_is_there_once(tmp_path):
    good, bad = generate(tmp_path / "in", clips=80, broken=0.4)
    assert set(bad.values()) == set(BREAK) and {path.rpartition(".")[2] for path in bad} == {s[1:] for s in FORMATS}
    model = tiny_model(tmp_path / "model")
    run_with_kills(tmp_path / "in", tmp_path / "out", model, clips=80, kills=1, shard_rows=20)
    assert faults(tmp_path / "out", good, bad) == []


def test_what_is_lost_repeated_or_not_named_is_found(tmp_path):
    good, bad = generate(tmp_path / "in", clips=12, broken=0.3)
    output = tmp_path / "out"
    tokenize_corpus(open_source(str(tmp_path / "in")), tiny("tiny"), output)
    assert faults(output, good, bad) == []
    name, samples = next(iter(good.items()))
    assert faults(output, good | {"missing": 1}, bad) == ["missing is there 0 times."]
    assert len(faults(output, good | {name: samples + 1}, bad)) == 1
    assert len(faults(output, good, bad | {f"{name}.wav": "cut"})) == 1
    assert len(faults(output, good, dict(list(bad.items())[1:]))) == 1
