"""Id metrics: codebook usage, bit rates, and consistency under small changes of the input."""

from __future__ import annotations

import numpy as np
import pytest
from networks import speech_like

from l3ac_tokenizer.evaluation.codecs.base import Codec, CodecRates, CompressedClip
from l3ac_tokenizer.evaluation.scorers.tokens import consistency, digit_usage, id_statistics
from l3ac_tokenizer.id_stability import PERTURBATIONS

RATE = 16_000
CLIP = speech_like(RATE).numpy()


class Loudness(Codec):
    """Ids of two codebooks every 160 samples: how loud a frame is, and whether it begins above zero."""

    name = title = "loudness"
    sampling_rate = output_rate = RATE
    rates = CodecRates(100.0, (8, 2))

    def encode(self, audio):
        frames = np.pad(audio, (0, -audio.size % 160)).reshape(-1, 160)
        level = np.sqrt(np.square(frames).mean(axis=1)) * 16
        return CompressedClip(
            None, ids=np.stack([level.clip(0, 7).astype(np.int64), (frames[:, 0] > 0).astype(np.int64)])
        )

    def decode(self, code):
        raise AssertionError("ids are measured without decoding")


def test_changes_do_what_their_names_say():
    changed = {name: change(CLIP, RATE, 160) for name, (_, change) in PERTURBATIONS.items()}
    noise = changed["noise"][0] - CLIP
    assert 10 * np.log10(np.square(CLIP).mean() / np.square(noise).mean()) == pytest.approx(60, abs=0.2)
    for name, samples in (("sample", 1), ("half_hop", 80), ("hop", 160)):
        np.testing.assert_array_equal(changed[name][0][samples:], CLIP)
    for name, decibels in (("gain_1", -1), ("gain", -6)):
        np.testing.assert_allclose(changed[name][0], CLIP * 10 ** (decibels / 20), rtol=1e-6)
    assert {name for name, (_, moved) in changed.items() if moved} == {"hop"}


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_coded_audio_is_near_the_clip_and_where_it_was(name):
    coded, _ = PERTURBATIONS[name][1](CLIP, RATE, 160)
    assert coded.shape == CLIP.shape
    delays = {
        delay: float(np.dot(CLIP[2000:14_000], coded[2000 + delay : 14_000 + delay])) for delay in range(-200, 201)
    }
    assert max(delays, key=delays.get) == 0


def test_ids_that_depend_on_their_frame_alone_move_with_a_hop_and_not_with_noise():
    codec = Loudness()
    counts = consistency(codec, CLIP, codec.encode(CLIP).ids)
    assert counts["changed_by_hop"] == (0, 200)
    assert counts["changed_by_noise"][0] <= 2
    changed, compared = counts["changed_by_gain"]
    assert compared == 200 and changed > 30
    assert consistency(codec, CLIP, 1 - codec.encode(CLIP).ids)["changed_by_hop"][0] > 100


def test_statistics_of_ids_that_are_known():
    """100 frames, the first codebook even over 4 of 8 ids, the second constant."""
    ids = np.stack([np.arange(100) % 4, np.zeros(100, int)])
    found = id_statistics([ids[:, :30], ids[:, 30:]], CodecRates(50.0, (8, 2)), seconds=2.0)
    assert found["count"] == 200
    assert [(book["used"], book["size"]) for book in found["codebooks"]] == [(4, 8), (1, 2)]
    assert found["codebooks"][0]["normalized_entropy"] == pytest.approx(2 / 3)
    assert found["bits_per_second"] == pytest.approx(
        {"nominal": 200.0, "whole_bits": 200.0, "counted": 200.0, "entropy": 100.0, "huffman": 50 * (2 + 1)}
    )
    assert found["levels"] == []


def test_levels_are_the_digits_of_an_id():
    ids = np.array([0, 1, 2, 5, 5])  # digits of (3, 2): (0,0) (1,0) (2,0) (2,1) (2,1)
    use = digit_usage(ids, (3, 2))
    assert [(level.size, level.used) for level in use] == [(3, 3), (2, 2)]
    assert use[1].entropy == pytest.approx(-0.6 * np.log2(0.6) - 0.4 * np.log2(0.4))
    even = digit_usage(np.arange(3 * 5 * 7), [3, 5, 7])
    assert [level.normalized_entropy for level in even] == pytest.approx([1, 1, 1])
