"""The corpus cache, the published level rule, and a stream that depends on (seed, item) alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile
from corpora import RATE, write_corpus

from l3ac_tokenizer.training.augment import level, level_divisor
from l3ac_tokenizer.training.config import Augment
from l3ac_tokenizer.training.data import BatchStream, DataError, open_corpus, prefetched

DOMAINS = {"speech": 1.0, "music": 1.0, "general": 1.0}
EVERYTHING = Augment(speed=[0.85, 1.2], equalise_db=4.0, mix_probability=0.5, gain_db=[-12.0, 0.0], polarity=True)


def open_(folder, cache, **options):
    return open_corpus([folder], cache, sampling_rate=RATE, domains=list(DOMAINS), default_domain="speech", **options)


@pytest.fixture(scope="module")
def corpus(corpus_folder, tmp_path_factory):
    return open_(corpus_folder, tmp_path_factory.mktemp("cache"))


def test_level_rule_is_golden(golden_losses):
    g = {name: tensor.numpy() for name, tensor in golden_losses.items()}
    spiked = g["x"][0].copy()
    spiked[100], spiked[200] = 2, -2
    cases = [
        *(
            (row, divisor, slice(None, None, 8), out)
            for row, divisor, out in zip(g["x"], g["norm.divisor"], g["norm.out"], strict=True)
        ),
        (spiked, g["norm.spike_divisor"], slice(90, 210), g["norm.spike_out"]),
    ]
    for audio, divisor, shown, out in cases:
        assert level_divisor(audio) == pytest.approx(float(divisor), rel=1e-6)
        np.testing.assert_allclose(level(audio, level_divisor(audio))[shown], out, atol=1e-6)
    short = g["x"][0, 3000:3800]
    np.testing.assert_allclose(level(short, level_divisor(short)), g["norm.short_out"], atol=1e-6)


def test_corpus_holds_every_file_and_its_domain(corpus, corpus_folder):
    assert len(corpus.clips) == 12
    assert {clip.domain for clip in corpus.clips} == set(DOMAINS)
    for clip in corpus.clips:
        audio, _ = soundfile.read(clip.path, dtype="float32")
        np.testing.assert_array_equal(corpus.audio(clip), audio)


def test_cache_is_used_and_renewed_with_the_files(tmp_path, monkeypatch):
    folder = write_corpus(tmp_path / "audio", clips=1)
    first = open_(folder, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "read", None)  # reading a file would fail
        again = open_(folder, tmp_path / "cache")
    assert again.clips == first.clips
    soundfile.write(folder / "music" / "new.wav", np.full(500, 0.5), RATE)
    assert len(open_(folder, tmp_path / "cache").clips) == 4


def test_unusable_files_are_logged_and_skipped_until_there_are_too_many(tmp_path, caplog):
    folder = write_corpus(tmp_path / "audio", clips=2)
    (folder / "speech" / "broken.flac").write_bytes(b"fLaC no more")
    soundfile.write(folder / "speech" / "empty.wav", np.zeros(0), RATE)
    with caplog.at_level(logging.WARNING):
        assert len(open_(folder, tmp_path / "cache", max_failures=0.5).clips) == 6
    assert "broken.flac skipped" in caplog.text and "empty.wav skipped: it holds no audio" in caplog.text
    with pytest.raises(DataError, match="2 of 8 audio files are unusable"):
        open_(folder, tmp_path / "other_cache")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        open_(tmp_path / "nowhere", tmp_path / "cache")


def test_other_rates_and_stereo_become_mono_at_the_rate(tmp_path):
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "stereo.wav", np.full((44_100, 2), [0.2, 0.4]), 44_100, subtype="FLOAT")
    (clip,) = open_(tmp_path / "audio", tmp_path / "cache").clips
    assert clip.length == RATE and clip.domain == "speech"


@pytest.mark.parametrize("options", [Augment(), EVERYTHING], ids=["published", "augmented"])
def test_stream_depends_on_seed_and_item_alone(corpus, options):
    stream = BatchStream(corpus, DOMAINS, options, seed=3)
    whole = stream.batch(0, 12, 4000)
    assert whole.shape == (12, 1, 4000) and whole.dtype == np.float32
    assert np.abs(whole).max() <= 1
    later = BatchStream(corpus, DOMAINS, options, seed=3).batch(7, 5, 4000)
    np.testing.assert_array_equal(later, whole[7:])
    assert not np.array_equal(BatchStream(corpus, DOMAINS, options, seed=4).batch(0, 12, 4000), whole)


def test_domains_take_turns_in_their_shares(corpus):
    stream = BatchStream(corpus, DOMAINS, Augment(), seed=0)
    assert all(len({stream.domain(3 * i + j) for j in range(3)}) == 3 for i in range(40))
    stream = BatchStream(corpus, {"speech": 4.0, "music": 1.0, "general": 0.0}, Augment(), seed=0)
    for first in range(0, 120, 5):
        assert sum(stream.domain(i) == "speech" for i in range(first, first + 5)) == 4


@pytest.mark.parametrize("shares", [DOMAINS, {"speech": 2.0, "music": 1.0, "general": 1.0}])
def test_every_clip_comes_once_before_any_comes_again(corpus, shares):
    stream = BatchStream(corpus, shares, Augment(), seed=0)
    for domain in DOMAINS:
        items = [i for i in range(240) if stream.domain(i) == domain]
        paths = [stream._clip(i).path for i in items]
        for first in range(0, len(paths) - 3, 4):
            assert len(set(paths[first : first + 4])) == 4


def test_short_clips_are_padded_with_zeros_on_the_right(corpus):
    item = BatchStream(corpus, DOMAINS, Augment(), seed=0).item(0, 20_000)
    assert np.abs(item[:RATE]).max() > 0.5 and not item[RATE:].any()


def test_held_out_clips_are_not_trained_on(corpus):
    train, held = corpus.split(["*/voice1_*"])
    assert len(train.clips) == 9 and {"voice1_0.wav"} == {clip.path.rpartition("/")[2] for clip in held.clips}


def test_empty_domain_is_named(corpus):
    with pytest.raises(DataError, match="'singing'"):
        BatchStream(corpus, {"speech": 1.0, "singing": 1.0}, Augment(), seed=0)


def test_prefetching_keeps_the_order(corpus):
    stream = BatchStream(corpus, DOMAINS, Augment(), seed=0)
    requests = [(0, 2, 800), (2, 3, 800), (5, 1, 1600)]
    for request, batch in zip(requests, prefetched(stream, iter(requests)), strict=True):
        np.testing.assert_array_equal(batch, stream.batch(*request))
