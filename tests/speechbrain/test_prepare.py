"""Preparation of the two corpora, and its errors."""

from __future__ import annotations

import pytest
from conftest import ASR, RECIPES, TTS, load
from made_speech import make_librispeech, make_ljspeech

from l3ac_tokenizer.speechbrain import read_manifest


@pytest.fixture(scope="module")
def librispeech():
    return load(ASR / "librispeech_prepare.py")


@pytest.fixture(scope="module")
def ljspeech():
    return load(TTS / "ljspeech_prepare.py")


def test_librispeech_is_listed_by_subset(librispeech, tmp_path):
    data = make_librispeech(tmp_path / "libri", {"train": 4, "more": 2, "dev": 2, "test": 3})
    librispeech.prepare_librispeech(data, tmp_path / "csv", ["train", "more"], ["dev"], ["test", "dev"])
    names = {file: [row.ID for row in read_manifest(tmp_path / "csv" / file)] for file in ("train.csv", "valid.csv")}
    assert [name[0] for name in names["train.csv"]] == ["1"] * 4 + ["2"] * 2
    assert (tmp_path / "csv" / "dev.csv").read_text() == (tmp_path / "csv" / "valid.csv").read_text()
    assert read_manifest(tmp_path / "csv" / "test.csv")[0].spk_id == "4"


def test_preparing_again_is_left_out_until_something_changed(librispeech, tmp_path):
    data = make_librispeech(tmp_path / "libri", {"train": 4, "dev": 2})
    arguments = (data, tmp_path / "csv", ["train"], ["dev"], ["dev"])
    librispeech.prepare_librispeech(*arguments)
    (tmp_path / "csv" / "train.csv").write_text("kept")
    librispeech.prepare_librispeech(*arguments)
    assert (tmp_path / "csv" / "train.csv").read_text() == "kept"
    librispeech.prepare_librispeech(data, tmp_path / "csv", ["dev"], ["dev"], ["dev"])
    assert len(read_manifest(tmp_path / "csv" / "train.csv")) == 2


def test_a_wrong_folder_says_what_was_looked_for(librispeech, ljspeech, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-clean-100 has no SPEAKER/CHAPTER/.*trans\.txt.* --data_folder"):
        librispeech.prepare_librispeech(tmp_path, tmp_path / "csv", ["train-clean-100"], [], [])
    with pytest.raises(FileNotFoundError, match=r"metadata\.csv does not exist.* --data_folder"):
        ljspeech.prepare_ljspeech(tmp_path, tmp_path / "csv", "session", [90, 5, 5], 0)
    assert not (tmp_path / "csv").exists()


def test_no_session_is_in_two_parts_and_no_clip_is_lost(ljspeech, tmp_path):
    data = make_ljspeech(tmp_path / "lj", 20, sessions=5)
    ljspeech.prepare_ljspeech(data, tmp_path / "csv", "session", [60, 20, 20], 3)
    parts = [read_manifest(tmp_path / "csv" / file) for file in ljspeech.FILES]
    sessions = [{row.ID.partition("-")[0] for row in part} for part in parts]
    assert [len(names) for names in sessions] == [3, 1, 1]
    assert len(set.union(*sessions)) == 5
    assert sum(map(len, parts)) == 20
    assert parts[0][0].wrd == parts[0][0].wrd.lower()  # the third field of the metadata


def test_a_random_split_depends_on_the_seed_alone(ljspeech, tmp_path):
    data = make_ljspeech(tmp_path / "lj", 20, sessions=1)
    written = []
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(written))
        ljspeech.prepare_ljspeech(data, folder, "random", [80, 10, 10], seed)
        assert [len(read_manifest(folder / file)) for file in ljspeech.FILES] == [16, 2, 2]
        written.append((folder / "test.csv").read_text())
    assert written[0] == written[1] != written[2]


def test_too_few_sessions_are_said_with_the_way_on(ljspeech, tmp_path):
    data = make_ljspeech(tmp_path / "lj", 6, sessions=1)
    with pytest.raises(ValueError, match=r"1 sessions, too few .* --split=random"):
        ljspeech.prepare_ljspeech(data, tmp_path / "csv", "session", [90, 5, 5], 0)


def test_sentences_of_the_made_corpus_never_repeat_and_test_voices_are_new():
    make_corpus = load(RECIPES / "Synthetic" / "make_corpus.py")
    import itertools
    import random

    drawn = list(itertools.islice(make_corpus.sentences(random.Random(0)), 2000))
    assert len(set(drawn)) == 2000
    assert drawn == list(itertools.islice(make_corpus.sentences(random.Random(0)), 2000))
    assert len({word for sentence in drawn for word in sentence.split()}) < 100
    names = [voice.name for voice in make_corpus.TRAIN_VOICES + make_corpus.DEV_VOICES + make_corpus.TEST_VOICES]
    assert len(set(names)) == len(names)


def test_the_made_corpus_is_read_as_librispeech_and_as_ljspeech(librispeech, ljspeech, tmp_path):
    import shutil

    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    make_corpus = load(RECIPES / "Synthetic" / "make_corpus.py")
    make_corpus.main([str(tmp_path / "lj"), "--layout", "ljspeech", "--utterances", "4"])
    assert len([row for row in ljspeech.read_corpus(tmp_path / "lj") if row[1] is not None]) == 4
    make_corpus.main([str(tmp_path / "libri"), "--layout", "librispeech", "--utterances", "1", "--held-out", "1"])
    rows = list(librispeech.read_split(tmp_path / "libri", "test-synthetic"))
    assert len(rows) == len(make_corpus.TEST_VOICES) and all(row[1] is not None for row in rows)
