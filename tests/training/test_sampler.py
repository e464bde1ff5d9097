"""Items depend on (seed, index) alone; unusable clips are replaced and reported; workers change nothing."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import RATE, write_corpus

from l3ac_tokenizer.training.config import Augment
from l3ac_tokenizer.training.data import sampler as sampler_module
from l3ac_tokenizer.training.data.corpus import AudioFiles, DataError
from l3ac_tokenizer.training.data.readers import find_clips
from l3ac_tokenizer.training.data.sampler import CropSampler, Request, batches

DOMAINS = {"speech": 1.0, "music": 1.0, "general": 1.0}
EVERYTHING = Augment(speed=[0.85, 1.2], equalize_db=4.0, mix_probability=0.5, gain_db=[-12.0, 0.0], polarity=True)


def clips_of(folder):
    return find_clips([folder], domains=list(DOMAINS), default_domain="speech")


def turns_of(shares):
    return sampler_module._turns({str(number): share for number, share in enumerate(shares)})


@pytest.fixture
def sampler_of(corpus_folder):
    def make(shares=DOMAINS, options=EVERYTHING, seed=0):
        return CropSampler(AudioFiles(RATE), clips_of(corpus_folder), shares, options, seed)

    return make


@pytest.mark.parametrize("options", [Augment(), EVERYTHING], ids=["published", "augmented"])
def test_an_item_depends_on_seed_and_item_alone(sampler_of, options):
    whole = sampler_of(options=options, seed=3)[Request(0, 0, 12, 4000)].samples
    assert whole.shape == (12, 1, 4000) and whole.dtype == torch.float32
    assert whole.abs().max() <= 1
    assert torch.equal(sampler_of(options=options, seed=3)[Request(0, 7, 5, 4000)].samples, whole[7:])
    assert not torch.equal(sampler_of(options=options, seed=4)[Request(0, 0, 12, 4000)].samples, whole)


def test_domains_take_turns_in_their_shares(sampler_of):
    sampler = sampler_of()
    assert all(len({sampler.domain(3 * i + j) for j in range(3)}) == 3 for i in range(40))
    sampler = sampler_of({"speech": 4.0, "music": 1.0, "general": 0.0})
    for first in range(0, 120, 5):
        assert sum(sampler.domain(i) == "speech" for i in range(first, first + 5)) == 4


def test_without_shares_every_data_set_has_the_same(sampler_of):
    sampler = sampler_of({})
    assert sorted(sampler.domain(i) for i in range(60)) == sorted(list(DOMAINS) * 20)


@pytest.mark.parametrize(
    "shares", [[7.0, 1.0, 1.0], [4.0, 1.0, 1.0], [8.0], [1.0] * 2, [1.0] * 3, [1.0] * 4, [2.0, 1.0], [0.5, 0.3, 0.2]]
)
def test_usual_shares_keep_the_cycle_of_sixty_with_which_runs_were_started(shares):
    wanted = np.array(shares) / sum(shares)
    credit, expected = np.zeros(len(shares)), []
    for _ in range(60):
        credit += wanted
        expected.append(int(credit.argmax()))
        credit[expected[-1]] -= 1
    assert turns_of(shares).tolist() == expected


@pytest.mark.parametrize("number", [7, 11, 61, 200])
def test_equal_shares_get_equally_many_turns(number):
    assert len(set(np.bincount(turns_of([1.0] * number), minlength=number))) == 1


@pytest.mark.parametrize("shares", [[1000.0, 1.0], [300.0, 200.0, 1.0, 1.0], [1.0] * 90 + [0.1] * 10])
def test_a_small_share_is_drawn_in_proportion(shares):
    turns = turns_of(shares)
    counts = np.bincount(turns, minlength=len(shares)) / len(turns)
    np.testing.assert_allclose(counts, np.array(shares) / sum(shares), rtol=sampler_module.SHARE_TOLERANCE)


def test_a_share_too_small_for_a_turn_is_an_error(sampler_of):
    with pytest.raises(DataError, match=r"'music' has too small a share for a turn in 100,000 items"):
        sampler_of({"speech": 1.0, "music": 1e-6})


def test_no_audio_left_is_an_error():
    with pytest.raises(DataError, match="No audio is left to train on"):
        CropSampler(AudioFiles(RATE), [], {}, Augment(), seed=0)


@pytest.mark.parametrize("shares", [DOMAINS, {"speech": 2.0, "music": 1.0, "general": 1.0}])
def test_every_clip_comes_once_before_any_comes_again(sampler_of, shares):
    sampler = sampler_of(shares)
    for domain in DOMAINS:
        paths = [sampler.clip(i).path for i in range(240) if sampler.domain(i) == domain]
        for first in range(0, len(paths) - 3, 4):
            assert len(set(paths[first : first + 4])) == 4


def test_short_clips_are_padded_with_zeros_on_the_right(sampler_of):
    item = sampler_of(options=Augment()).item(0, 20_000, [])
    assert np.abs(item[:RATE]).max() > 0.5 and not item[RATE:].any()


def test_empty_domain_is_named(sampler_of):
    with pytest.raises(DataError, match="'singing'"):
        sampler_of({"speech": 1.0, "singing": 1.0})


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_any_number_of_workers(sampler_of, workers):
    sampler = sampler_of()
    requests = [Request(0, 0, 2, 800), Request(0, 2, 3, 800), Request(1, 5, 1, 1600)]
    found = list(islice(batches(sampler, requests, workers=workers, pin=False), 3))
    for request, batch in zip(requests, found, strict=True):
        assert batch.request == request
        assert torch.equal(batch.samples, sampler[request].samples)


def test_an_unusable_clip_is_replaced_and_reported(tmp_path):
    folder = write_corpus(tmp_path / "audio", clips=3)
    clips = clips_of(folder)
    Path(clips[0].path).write_bytes(b"broken")
    sampler = CropSampler(AudioFiles(RATE), clips, DOMAINS, Augment(), seed=0)
    batch = sampler[Request(0, 0, 9, 4000)]  # every clip once
    assert len(batch.unusable) >= 1 and all(clips[0].path in reason for reason in batch.unusable)
    assert batch.samples.abs().amax((1, 2)).min() > 0.3
    assert torch.equal(sampler[Request(0, 0, 9, 4000)].samples, batch.samples)


def test_only_unusable_clips_are_an_error(tmp_path):
    folder = write_corpus(tmp_path / "audio", clips=2)
    clips = clips_of(folder)
    for clip in clips:
        Path(clip.path).unlink()
    with pytest.raises(DataError, match=r"9 clips in a row are unusable, the last: .*no such file"):
        CropSampler(AudioFiles(RATE), clips, DOMAINS, Augment(), seed=0).item(0, 4000, [])


def test_a_worker_that_dies_while_it_hands_over_is_named_and_the_signal_handler_comes_back(monkeypatch):
    class Loader:
        def __init__(self, *arguments, **options):
            pass

        def __iter__(self):
            return self

        def __next__(self):
            raise ConnectionResetError("reset")

    monkeypatch.setattr(sampler_module, "DataLoader", Loader)
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(DataError, match=r"^A process that reads audio died \(reset\)$"):
        next(batches(None, [], workers=1, pin=False))
    assert signal.getsignal(signal.SIGCHLD) == before
