"""Probe of ids: folds, and a run on ids that do and do not tell their label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from networks import tiny

pytest.importorskip("speechbrain")

from l3ac_tokenizer.tokenization.arrow import ids_array, shard_schema
from l3ac_tokenizer.tokenization.spec import CorpusMetadata
from recipes import probe


def corpus_of(folder: Path, clips: list[np.ndarray], labels: list[str | None], groups: list[str]) -> str:
    """A folder with one shard, as `l3ac tokenize` writes it for a manifest with two more columns."""
    schema = shard_schema({"label": pa.string(), "group": pa.string()}, CorpusMetadata.of(tiny("tiny"), 1, None))
    table = pa.table(
        {
            "id": [f"clip-{number}" for number in range(len(clips))],
            "ids": ids_array([clip.astype(np.int32) for clip in clips], 1),
            "num_samples": [12 * len(clip) for clip in clips],
            "sampling_rate": [16_000] * len(clips),
            "path": [f"clip-{number}.wav" for number in range(len(clips))],
            "label": labels,
            "group": groups,
        },
        schema=schema,
    )
    folder.mkdir()
    pq.write_table(table, folder / "shard-00000.parquet")
    return str(folder)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["probe.py", *arguments])
    probe.main()


def test_no_group_is_in_two_folds_and_every_fold_has_every_label():
    random = np.random.default_rng(0)
    groups = [f"group-{number}" for number in random.integers(40, size=300)]
    labels = [f"label-{int(group.split('-')[1]) % 4}" for group in groups]
    folds = probe.assign_folds(labels, groups, 5)
    assert all(len({fold for fold, each in zip(folds, groups, strict=True) if each == group}) == 1 for group in groups)
    assert {(label, fold) for label, fold in zip(labels, folds, strict=True)} == {
        (f"label-{label}", fold) for label in range(4) for fold in range(5)
    }
    assert np.array_equal(folds, probe.assign_folds(labels, groups, 5))


def test_a_group_of_several_labels_stays_together():
    folds = probe.assign_folds(["a", "b", "a", "b"], ["one", "one", "two", "three"], 2)
    assert folds[0] == folds[1] and folds[0] != folds[2] and folds[0] != folds[3]


@pytest.mark.parametrize("head", ["linear", "ecapa"])
def test_a_label_that_the_ids_tell_is_found_and_another_is_not(tmp_path, monkeypatch, capsys, head):
    monkeypatch.setattr(probe, "CHANNELS", 16)
    random = np.random.default_rng(0)
    clips = [random.integers(20 * (number % 2), 25 + 20 * (number % 2), size=30 + number) for number in range(40)]
    told = ["low" if number % 2 == 0 else "high" for number in range(40)]
    guessed = [str(value) for value in random.integers(2, size=40)]
    arguments = ["--group", "group", "--head", head, "--epochs", "10", "--folds", "2"]
    groups = [f"group-{number // 2}" for number in range(40)]
    for name, labels in (("told", told), ("guessed", guessed)):
        folder = corpus_of(tmp_path / name, clips, labels, groups)
        run(monkeypatch, folder, "--label", "label", *arguments, "-o", str(tmp_path / f"{name}-results"))
    found, chance = (
        json.loads((tmp_path / f"{name}-results" / "results.json").read_text()) for name in ("told", "guessed")
    )
    assert found["accuracy"]["mean"] >= 0.9 and chance["accuracy"]["mean"] < 0.75
    assert (found["clips"], found["groups"], found["labels"]) == (40, 20, 2)
    assert found["most_frequent_label"] == 0.5 and found["left_out"] == 0
    assert found["accuracy_of_label"].keys() == {"low", "high"}
    assert f"accuracy {found['accuracy']['mean']:.1%}" in capsys.readouterr().out


def test_clips_without_a_label_and_short_ones_are_left_out_and_a_missing_column_is_named(tmp_path, monkeypatch):
    clips = [np.zeros(20, int), np.zeros(4, int), np.zeros(20, int)]
    folder = corpus_of(tmp_path / "corpus", clips, ["a", "a", None], ["x", "y", "z"])
    ids, labels, groups = probe.read_clips(probe.TokenizedCorpus(folder), "label", "group")
    assert (len(ids), labels, groups) == (1, ["a"], ["x"])
    with pytest.raises(SystemExit, match="no column 'speaker'; it has id, ids"):
        run(monkeypatch, folder, "--label", "speaker", "-o", str(tmp_path / "results"))
    with pytest.raises(SystemExit, match="1 labels and 1 groups in 5 folds"):
        run(monkeypatch, folder, "--label", "label", "-o", str(tmp_path / "results"))
