from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
import torch

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.cli import loading
from l3ac_tokenizer.container import Header, write_l3ac

from .conftest import RATE, files_below, is_one_sentence, speechlike, write_wav

PCM = 2**-15


@pytest.fixture
def encoded(l3ac, tmp_path, tiny):
    """Encode clips of these lengths in seconds: in/0.l3ac, in/1.l3ac, …"""

    def encode(*lengths: float, model: str = tiny) -> None:
        for seed, seconds in enumerate(lengths):
            write_wav(tmp_path / "audio" / f"{seed}.wav", speechlike(seconds, seed=seed))
        assert l3ac("encode", "audio", "-o", "in", "--model", model)[0] == 0

    return encode


@torch.inference_mode()
def roundtrip(model, samples: np.ndarray, time_norm: str = "clip") -> np.ndarray:
    codes = model.encode(torch.from_numpy(samples)[None, None]).audio_codes
    return model.decode(codes, time_norm=time_norm, num_samples=len(samples)).audio_values[0, 0].numpy()


def test_decoded_files_are_the_models_audio_of_the_clips_length(l3ac_json, encoded, tmp_path, bundled):
    lengths = [0.3, 2.0, 0.01, 1.111]
    encoded(*lengths, model="l3ac-1k")
    result = l3ac_json("decode", "in", "-o", "out", "--model", "l3ac-1k")
    assert files_below(tmp_path / "out") == ["0.wav", "1.wav", "2.wav", "3.wav"]
    for seed, seconds in enumerate(lengths):
        samples = speechlike(seconds, seed=seed)
        decoded, _ = read_audio(tmp_path / "out" / f"{seed}.wav", RATE)
        np.testing.assert_allclose(decoded, roundtrip(bundled, samples), atol=2 * PCM)
        assert result["files"][seed]["num_samples"] == len(samples)


def test_wav_and_flac_of_16_bit(l3ac, encoded, tmp_path, tiny):
    encoded(0.5)
    for name in ("a.wav", "a.flac"):
        assert l3ac("decode", "in/0.l3ac", "-o", name, "--model", tiny)[0] == 0
        info = soundfile.info(tmp_path / name)
        assert (info.format, info.subtype, info.samplerate, info.frames) == (
            name[2:].upper(), "PCM_16", RATE, RATE // 2
        )  # fmt: skip
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE)[0], read_audio(tmp_path / "a.flac", RATE)[0])


def test_chunks_change_nothing(l3ac, encoded, tmp_path):
    encoded(3.21, model="l3ac-1k")
    for seconds in ("30", "1", "0.1"):
        assert l3ac("decode", "in", "-o", seconds, "--model", "l3ac-1k", "--chunk-seconds", seconds)[0] == 0
    whole, _ = read_audio(tmp_path / "30" / "0.wav", RATE)
    for seconds in ("1", "0.1"):
        np.testing.assert_allclose(read_audio(tmp_path / seconds / "0.wav", RATE)[0], whole, atol=2 * PCM)


def test_frozen_time_norm_needs_stored_statistics(l3ac, encoded, tmp_path, tiny):
    encoded(1.0)
    status, _, err = l3ac("decode", "in", "-o", "out", "--model", tiny, "--time-norm", "frozen")
    assert status == 1 and is_one_sentence(err) and "calibrate_time_norm" in err
    assert not (tmp_path / "out").exists() or not files_below(tmp_path / "out")


def test_frozen_time_norm_uses_stored_statistics(l3ac, encoded, tmp_path, bundled):
    encoded(1.0, model="l3ac-1k")
    status, _, err = l3ac("decode", "in", "-o", "out", "--model", "l3ac-1k", "--time-norm", "frozen")
    assert (status, err) == (0, "")
    decoded, _ = read_audio(tmp_path / "out" / "0.wav", RATE)
    np.testing.assert_allclose(decoded, roundtrip(bundled, speechlike(1.0), "frozen"), atol=2 * PCM)
    assert np.abs(decoded - roundtrip(bundled, speechlike(1.0), "clip")).max() > 2 * PCM


def test_a_file_names_bundled_models_only(l3ac, encoded, tmp_path, tiny):
    encoded(0.2)
    shutil.copytree(tiny, tmp_path / "tiny")  # a directory of the name in the file is not looked for
    status, _, err = l3ac("decode", "in", "-o", "out")
    assert status == 1 and is_one_sentence(err) and "in/0.l3ac was made by tiny" in err and "--model" in err
    assert l3ac("decode", "in", "-o", "out", "--model", "tiny")[0] == 0


def test_ids_of_another_model_are_refused(l3ac, encoded, tmp_path, models):
    encoded(0.2)
    for name, words in (("twin", "with the weights"), ("wide", "with the levels")):
        status, out, err = l3ac("decode", "in/0.l3ac", "-o", "x.wav", "--model", models[name][0])
        assert (status, out) == (1, "") and is_one_sentence(err) and words in err and "--model" in err
        assert not (tmp_path / "x.wav").exists()


def test_weights_that_kept_the_encoder_decode_the_same_ids(l3ac, encoded, tmp_path, tiny):
    encoded(0.2)
    further = L3ACModel.from_pretrained(tiny)
    further.config.ids_of = list(further.id_digests())
    further.config.encoder_digest = further.encoder_digest()
    with torch.no_grad():
        further.decoder.output_layer.weight.mul_(0.5)
    further.save_pretrained(tmp_path / "further")
    assert l3ac("decode", "in/0.l3ac", "-o", "x.wav", "--model", tmp_path / "further")[0] == 0


def test_a_damaged_file_is_refused_and_salvaged_on_request(l3ac, tmp_path, tiny, tiny_model):
    num_ids = 2500
    header = Header("tiny", tiny_model.weights_digest(), (7,) * 6, RATE, 270, num_ids * 270)
    write_l3ac(tmp_path / "a.l3ac", header, np.random.default_rng(0).integers(0, 7**6, num_ids))
    (tmp_path / "a.l3ac").write_bytes((tmp_path / "a.l3ac").read_bytes()[:-100])
    status, _, err = l3ac("decode", "a.l3ac", "-o", "a.wav", "--model", tiny)
    assert status == 1 and is_one_sentence(err) and "2048 of 2500 ids are good" in err and "--salvage" in err
    assert files_below(tmp_path) == ["a.l3ac"]
    status, _, err = l3ac("decode", "a.l3ac", "-o", "a.wav", "--model", tiny, "--salvage")
    assert status == 0 and is_one_sentence(err) and "2048 of 2500" in err
    assert soundfile.info(tmp_path / "a.wav").frames == 2048 * 270
    (tmp_path / "a.l3ac").write_bytes((tmp_path / "a.l3ac").read_bytes()[:300])
    status, _, err = l3ac("decode", "a.l3ac", "-o", "b.wav", "--model", tiny, "--salvage")
    assert status == 1 and is_one_sentence(err) and "0 of 2500" in err


def test_a_model_is_loaded_once_for_many_files(l3ac, encoded, tiny, monkeypatch):
    encoded(0.1, 0.2, 0.3)
    calls = []
    load = loading.load_model
    monkeypatch.setattr("l3ac_tokenizer.cli.decode.load_model", lambda *a: calls.append(a) or load(*a))
    assert l3ac("decode", "in", "-o", "out", "--model", tiny)[0] == 0
    assert len(calls) == 1
