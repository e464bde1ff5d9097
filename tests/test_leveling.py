"""Leveled input: loudness as in the standard, scales that restore the level, and ids that do not depend on it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import TINY_LIGHT

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel, L3ACConfig, L3ACModel, decode_clips, encode_files
from l3ac_tokenizer.audio import write_audio
from l3ac_tokenizer.loudness import LoudnessMeter, loudness_scale

RATE = 16_000
QUIETER = np.float32(10 ** (-6 / 20))
TONE = np.sin(2 * np.pi * 997 * np.arange(2 * RATE) / RATE).astype(np.float32)


@pytest.fixture
def extractor() -> CodecFeatureExtractor:
    return CodecFeatureExtractor(level_lufs=-20)


def noise(seconds: float, level: float = 0.05, seed: int = 0) -> np.ndarray:
    """Noise with pauses, so that the gates have something to leave out."""
    generator = np.random.default_rng(seed)
    wave = level * generator.standard_normal(round(seconds * RATE))
    return (wave * np.repeat(generator.random(len(wave) // 800 + 1) > 0.4, 800)[: len(wave)]).astype(np.float32)


def batch_of(extractor: CodecFeatureExtractor, clips, **options):
    return extractor(clips, sampling_rate=RATE, return_tensors="pt", **options)


def test_a_loudness_is_that_of_the_standard_and_peaks_stay_below_one():
    # BS.1770: a sine of 997 Hz at full scale in one channel has -3.01 LUFS.
    assert 20 * np.log10(loudness_scale(TONE, RATE, -20.0)) == pytest.approx(20 - 3.01, abs=0.1)
    click = 0.02 * TONE
    click[1000] = 1.0
    assert 1 / loudness_scale(click, RATE, -20.0) == pytest.approx(0.95)
    for kept in (1e-4 * TONE, TONE[: RATE // 3], np.zeros(RATE, np.float32)):  # as good as silent; below a block
        assert loudness_scale(kept, RATE, -20.0) == 1.0


@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 3 * RATE), max_size=8))
@settings(max_examples=10, deadline=None)
def test_a_scale_depends_neither_on_chunks_nor_on_the_level(seed, cuts):
    clip = noise(3.0, seed=seed)
    meter = LoudnessMeter(RATE)
    for part in np.split(clip, sorted(cuts)):
        meter.push(part)
    scale = loudness_scale(clip, RATE, -23.0)
    assert meter.scale(-23.0) == scale
    assert loudness_scale(QUIETER * clip, RATE, -23.0) == pytest.approx(QUIETER * scale, rel=1e-6)


def test_leveled_waveforms_times_their_scales_are_the_given_ones_whatever_the_batch(extractor):
    clips = [noise(1.0), noise(2.3, 0.4, 1), noise(0.2, 0.01, 2), TONE]
    batch = batch_of(extractor, clips)
    assert batch["audio_scales"].shape == (4, 1) and batch["audio_scales"].dtype == torch.float32
    assert batch["audio_scales"][2] == 1
    assert batch["input_values"].abs().max() <= 1
    singles = [extractor(clip, sampling_rate=RATE) for clip in clips]
    for clip, single, row, scale in zip(clips, singles, batch["input_values"], batch["audio_scales"], strict=True):
        assert scale == loudness_scale(clip, RATE, -20.0) == single["audio_scales"][0]
        np.testing.assert_allclose(row[0, : len(clip)].numpy() * scale.numpy(), clip, rtol=0, atol=1e-6)
    rows = [{name: value[0] for name, value in single.items()} for single in singles]
    for features in (singles, rows):
        padded = extractor.pad(features, return_tensors="pt")
        assert torch.equal(padded["audio_scales"], batch["audio_scales"])
        assert torch.equal(padded["input_values"], batch["input_values"])
    with pytest.raises(ValueError, match="Only some of the features"):
        extractor.pad([singles[0], CodecFeatureExtractor()(TONE, sampling_rate=RATE)])


def test_a_level_is_saved_and_loaded_and_nothing_is_where_there_is_none(tmp_path, extractor):
    extractor.save_pretrained(tmp_path)
    assert CodecFeatureExtractor.from_pretrained(tmp_path).level_lufs == -20
    assert CodecFeatureExtractor.from_pretrained(tmp_path, level_lufs=None).level_lufs is None
    assert "level_lufs" not in json.loads(CodecFeatureExtractor().to_json_string())
    assert "audio_scales" not in batch_of(CodecFeatureExtractor(), TONE)
    for wrong in (1.0, -71, float("nan"), "loud", True):
        with pytest.raises(ValueError, match="level_lufs"):
            CodecFeatureExtractor(level_lufs=wrong)
        with pytest.raises(ValueError, match="level_lufs"):
            CodecFeatureExtractor.from_pretrained(tmp_path, level_lufs=wrong)


@pytest.fixture(scope="module")
def network() -> L3ACModel:
    torch.manual_seed(0)
    return L3ACModel(L3ACConfig(**TINY_LIGHT)).eval()


@torch.inference_mode()
def test_a_codec_passes_scales_through_and_restores_the_level(network, extractor):
    batch = batch_of(extractor, [noise(0.6), noise(0.5, 0.3)])
    scales = batch["audio_scales"]
    plain = {name: value for name, value in batch.items() if name != "audio_scales"}
    encoded = network.encode(**batch)
    assert torch.equal(encoded.audio_scales, scales)
    assert network.encode(**plain).audio_scales is None and len(network.encode(**plain, return_dict=False)) == 3
    flat = network.decode(**network.encode(**plain)).audio_values
    for chunk_seconds in (None, 0.2):
        restored = network.decode(**encoded, chunk_seconds=chunk_seconds).audio_values
        torch.testing.assert_close(restored, flat * scales[:, :, None], rtol=1e-4, atol=1e-4)
    whole = network(**batch)
    torch.testing.assert_close(
        whole.audio_values, network(**plain).audio_values * scales[:, :, None], rtol=0, atol=1e-6
    )
    assert torch.equal(whole.audio_scales, scales) and torch.equal(network(**batch, return_dict=False)[-1], scales)
    for wrong in (scales[:1], -scales, scales.log().sqrt(), scales.int()):
        with pytest.raises(ValueError, match="`audio_scales`"):
            network.decode(encoded.audio_codes, audio_scales=wrong)


@torch.inference_mode()
def test_ids_of_a_quieter_clip_are_the_same_up_to_rounding(extractor):
    """Leveled samples differ by float32 rounding, 1e-6, so only frames at a boundary may differ: at most 1 %."""
    model = CodecModel.from_pretrained("l3ac-1k-light").eval()
    clip = noise(2.0)
    loud, quiet = (
        model.encode(**batch_of(extractor, audio)).audio_codes for audio in (clip, (QUIETER * clip).astype(np.float32))
    )
    assert (loud != quiet).float().mean() <= 0.01


def test_files_short_and_long_have_the_scale_of_the_whole_clip(network, tmp_path):
    clip = noise(2.0)
    write_audio(tmp_path / "a.wav", clip, RATE)
    (kept,) = encode_files(network, [tmp_path / "a.wav"])
    results = [
        encode_files(network, [tmp_path / "a.wav"], chunk_seconds=seconds, level_lufs=-20)[0] for seconds in (30, 0.3)
    ]
    assert kept.audio_scale == 1.0
    assert results[0].audio_scale == results[1].audio_scale == pytest.approx(loudness_scale(clip, RATE, -20), rel=1e-3)
    ids = [results[0].ids]
    (leveled,), (restored,) = decode_clips(network, ids), decode_clips(network, ids, audio_scales=[0.5])
    np.testing.assert_allclose(restored, 0.5 * leveled, atol=1e-6)
