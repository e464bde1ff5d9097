"""Codecs under test: their output, their rates, and the reason given for those that are unavailable."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import soundfile
import soxr
import torch
from networks import TINY, speech_like, tiny, tiny_streams

from l3ac_tokenizer import CodecModel, L3ACConfig, L3ACModel
from l3ac_tokenizer.evaluation.codecs.base import SCORING_RATE, CodecRates, CodecUnavailable, reconstruct
from l3ac_tokenizer.evaluation.codecs.classical import Codec2, Opus, opus_payload_bytes
from l3ac_tokenizer.evaluation.codecs.registry import open_codec, refuse_equal_titles
from l3ac_tokenizer.metrics import si_sdr

CLIP = speech_like(24_000).numpy()

needs_codec2 = pytest.mark.skipif(not shutil.which("c2enc"), reason="the Debian package codec2 is not installed")


@pytest.fixture(scope="module", params=["tiny", "tiny-light", "tiny-taae"])
def checkpoint(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny(request.param).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["original", "opus", "opus@24", pytest.param("codec2", marks=needs_codec2)])
@pytest.mark.parametrize("samples", [400, 24_000])
def test_a_clip_comes_back_at_its_length(name, samples):
    codec = open_codec(name)
    audio = soxr.resample(CLIP[:samples], SCORING_RATE, codec.sampling_rate)
    code = codec.encode(audio)
    decoded = reconstruct(codec, code, samples)
    assert decoded.shape == (samples,) and decoded.dtype == np.float32
    assert code.bits is not None and code.bits > 0 and code.ids is None


def test_the_original_is_the_clip():
    codec = open_codec("original")
    code = codec.encode(CLIP)
    np.testing.assert_array_equal(codec.decode(code), CLIP)
    assert code.bits == 16 * CLIP.size


def test_opus_follows_its_target_and_more_bits_are_better():
    rates, quality = [], []
    for target in (6, 16, 64):
        codec = Opus(str(target))
        code = codec.encode(CLIP)
        rates.append(code.bits / (CLIP.size / 16_000) / 1000)
        quality.append(si_sdr(CLIP, codec.decode(code)))
        assert rates[-1] == pytest.approx(target, rel=0.35)
    assert quality == sorted(quality)


def test_opus_packets_are_counted_without_the_container():
    file = io.BytesIO()
    soundfile.write(file, CLIP, 16_000, format="OGG", subtype="OPUS")
    ogg = file.getvalue()
    counted = opus_payload_bytes(ogg)
    # Every page has a header of 27 bytes and a lacing value a segment; both header packets begin with their names.
    assert 0.8 * len(ogg) < counted < len(ogg) - 27 * ogg.count(b"OggS") - len(b"OpusHead") - len(b"OpusTags")
    headers = ogg.index(b"OggS", ogg.index(b"OpusTags"))
    audio_pages = ogg[headers:]
    overhead, place = 0, 0
    while place < len(audio_pages):
        segments = audio_pages[place + 26]
        overhead += 27 + segments
        place += 27 + segments + sum(audio_pages[place + 27 : place + 27 + segments])
    assert counted == len(audio_pages) - overhead


@needs_codec2
@pytest.mark.parametrize(("mode", "bits_per_second"), [("3200", 3200), ("1200", 1200), ("700C", 700), ("450", 450)])
def test_codec2_costs_what_its_mode_says(mode, bits_per_second):
    audio = soxr.resample(np.tile(CLIP, 4), SCORING_RATE, 8000)
    code = Codec2(mode).encode(audio)
    assert code.bits / (audio.size / 8000) == pytest.approx(bits_per_second, rel=0.02)


@needs_codec2
def test_codec2_comes_back_without_its_delay():
    codec = Codec2("3200")
    audio = soxr.resample(np.tile(CLIP, 2), SCORING_RATE, 8000)
    decoded = codec.decode(codec.encode(audio))[: audio.size]

    def envelope(clip):
        return np.convolve(np.abs(clip), np.hanning(80), "same")

    agreement = [
        np.corrcoef(envelope(audio)[400:-400], np.roll(envelope(decoded), lag)[400:-400])[0, 1]
        for lag in range(-240, 241, 20)
    ]
    assert abs(np.argmax(agreement) - 12) <= 3  # within 60 samples, 7.5 ms


def test_our_checkpoint_gives_its_ids_and_its_audio(checkpoint):
    model = CodecModel.from_pretrained(checkpoint).eval()
    codec = open_codec(str(checkpoint))
    code = codec.encode(CLIP)
    with torch.inference_mode():
        expected = model(torch.from_numpy(CLIP)[None, None])
    np.testing.assert_array_equal(code.ids, expected.audio_codes[0].numpy())
    np.testing.assert_allclose(reconstruct(codec, code, CLIP.size), expected.audio_values[0, 0], atol=1e-5)
    assert codec.name == "tiny" and codec.digest == model.weights_digest()
    assert codec.rates == CodecRates(16_000 / 12, (45,), (5, 3, 3))


def test_streams_of_small_ids_are_codebooks(tmp_path):
    model = tiny_streams()
    model.save_pretrained(tmp_path / "streams")
    codec = open_codec(str(tmp_path / "streams"))
    assert codec.rates == CodecRates(16_000 / 12, (27, 27))
    assert codec.rates.bits_per_second == pytest.approx(model.config.bits_per_second)
    code = codec.encode(CLIP)
    assert code.ids.shape == (2, CLIP.size // 12) and reconstruct(codec, code, CLIP.size).shape == CLIP.shape


def test_a_codec_at_another_rate_is_resampled(tmp_path):
    torch.manual_seed(0)
    L3ACModel(L3ACConfig(**TINY, sampling_rate=24_000)).save_pretrained(tmp_path / "wide")
    codec = open_codec(str(tmp_path / "wide"))
    code = codec.encode(soxr.resample(CLIP, SCORING_RATE, codec.sampling_rate))
    assert code.ids.shape == (1, CLIP.size * 3 // 2 // 12)
    assert reconstruct(codec, code, CLIP.size).shape == CLIP.shape


def test_frozen_statistics_are_a_setting(checkpoint, tmp_path):
    model = CodecModel.from_pretrained(checkpoint).eval()
    model.calibrate_time_norm([speech_like(4000)])
    model.save_pretrained(tmp_path / "streams")
    shutil.copytree(tmp_path / "streams", tmp_path / "copy")
    clip, frozen = (open_codec(str(tmp_path / "streams")), open_codec("l3ac-1k@frozen"))
    assert clip.time_norm == "clip" and frozen.time_norm == "frozen" and frozen.name == "l3ac-1k@frozen"


@pytest.mark.parametrize("checkpoint", ["tiny"], indirect=True)
def test_a_checkpoint_without_frozen_statistics_is_unavailable_at_once(checkpoint):
    with pytest.raises(CodecUnavailable, match="no statistics for time_norm='frozen'"):
        open_codec(f"{checkpoint}@frozen")


def test_rates_of_several_streams():
    rates = CodecRates(50.0, (1024, 1000), ())
    assert rates.tokens_per_second == 100
    assert rates.bits_per_second == pytest.approx(50 * (10 + np.log2(1000)))
    assert rates.whole_bits_per_second == 1000


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("opus@2", "6 to 256"),
        ("opus@fast", "6 to 256"),
        ("codec2@9600", "one of 3200"),
        ("l3ac-1k@chunks", "write @frozen"),
        ("l3ac-0k75", "no bundled weights"),
        ("nobody/no-codec", "out of reach or has no such model"),
    ],
)
def test_an_unavailable_codec_gives_the_reason(name, reason, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CodecUnavailable, match=reason) as caught:
        open_codec(name)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_codec2_without_its_programs_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(CodecUnavailable, match="apt install codec2"):
        open_codec("codec2")


def test_a_damaged_checkpoint_is_unavailable(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "l3ac"')
    with pytest.raises(CodecUnavailable, match="cannot be loaded"):
        open_codec(str(tmp_path))


def test_two_directories_of_one_name_are_refused(tmp_path):
    for parent in "ab":
        (tmp_path / parent / "run").mkdir(parents=True)
    with pytest.raises(ValueError, match="both be called run"):
        refuse_equal_titles([str(tmp_path / "a" / "run"), "opus", str(tmp_path / "b" / "run")])
