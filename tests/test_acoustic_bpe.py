"""Byte-pair encoding of ids: exact inverse, choice of merges, files, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3ac_tokenizer import AcousticBPE, split_ids

LARGE = 117_649


def phrases(count: int, seed: int = 0) -> list[np.ndarray]:
    """Clips composed of eight phrases of three ids each: much repetition of few ids from a large codebook."""
    rng = np.random.default_rng(seed)
    inventory = np.random.default_rng(99).integers(0, LARGE, size=(8, 3))
    return [inventory[rng.integers(0, 8, size=rng.integers(5, 40))].reshape(-1) for _ in range(count)]


@pytest.fixture(scope="module")
def bpe() -> AcousticBPE:
    return AcousticBPE.train(phrases(60), LARGE, num_merges=100)


@given(st.lists(st.one_of(st.integers(0, LARGE - 1), st.sampled_from(phrases(1)[0].tolist())), max_size=60))
@settings(deadline=None)
def test_decoding_inverts_encoding_for_any_ids_seen_or_not(bpe, ids):
    tokens = bpe.encode(ids)
    decoded = bpe.decode(tokens)
    assert decoded.dtype == np.int64 and decoded.tolist() == ids
    assert len(tokens) <= len(ids)


@given(st.lists(st.integers(0, 8), max_size=40), st.lists(st.lists(st.integers(0, 8), max_size=20), max_size=5))
@settings(deadline=None)
def test_decoding_inverts_encoding_whatever_the_training_clips(ids, clips):
    bpe = AcousticBPE.train(clips, num_ids=9, num_merges=10)
    assert bpe.decode(bpe.encode(ids)).tolist() == ids


def test_tokens_below_num_ids_are_the_ids_themselves(bpe):
    unseen = np.setdiff1d(np.arange(LARGE), np.concatenate(phrases(60)))
    np.random.default_rng(0).shuffle(unseen)
    assert bpe.encode(unseen[:200]) == unseen[:200].tolist()
    assert bpe.encode([0, LARGE - 1]) == [0, LARGE - 1]


def test_what_repeats_is_merged_in_clips_that_were_not_trained_on(bpe):
    unseen = phrases(20, seed=1)
    assert LARGE < bpe.vocab_size <= LARGE + 100
    assert bpe.compression(unseen) > 3  # every phrase of three is one token, and some pairs of phrases are
    tokens = sum(len(bpe.encode(clip)) for clip in unseen)
    assert bpe.compression(unseen) == sum(map(len, unseen)) / tokens


def test_what_never_repeats_is_not_merged():
    ids = np.arange(100)
    bpe = AcousticBPE.train([ids], LARGE, num_merges=50)
    assert bpe.vocab_size == LARGE
    assert bpe.compression([ids]) == 1


def test_no_merge_crosses_clips():
    bpe = AcousticBPE.train([[1], [2]] * 50, num_ids=3, num_merges=5)
    assert bpe.encode([1, 2, 1, 2]) == [1, 2, 1, 2]


def test_streams_of_small_ids_merge_too():
    clips = [split_ids(clip, [7] * 6)[:, 0] for clip in phrases(20)]
    bpe = AcousticBPE.train(clips, num_ids=343, num_merges=50)
    assert np.array_equal(bpe.decode(bpe.encode(clips[0])), clips[0])
    assert bpe.compression(clips) > 2


def test_saving_and_loading_changes_nothing(bpe, tmp_path):
    bpe.save(tmp_path / "merges.json")
    loaded = AcousticBPE.load(tmp_path / "merges.json")
    assert (loaded.num_ids, loaded.vocab_size) == (bpe.num_ids, bpe.vocab_size)
    for clip in phrases(5, seed=2):
        assert loaded.encode(clip) == bpe.encode(clip)
    assert [path.name for path in tmp_path.iterdir()] == ["merges.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}'])
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other\.json does not hold merges of ids"):
        AcousticBPE.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda bpe: bpe.encode([LARGE]), f"`ids` holds {LARGE}; ids are 0 to {LARGE - 1}"),
        (lambda bpe: bpe.encode([-1]), "`ids` holds -1"),
        (lambda bpe: bpe.encode([[1, 2]]), r"shape \(1, 2\)"),
        (lambda bpe: bpe.encode([0.5]), "whole numbers"),
        (lambda bpe: bpe.decode([bpe.vocab_size]), "`tokens` holds"),
        (lambda bpe: bpe.compression([]), "hold no ids to measure"),
        (lambda bpe: AcousticBPE.train([[5]], num_ids=5, num_merges=1), "`ids` holds 5; ids are 0 to 4"),
        (lambda bpe: AcousticBPE.train([], num_ids=1 << 20 | 1, num_merges=1), "`num_ids` is 1048577"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(bpe, call, said):
    with pytest.raises(ValueError, match=said):
        call(bpe)
