from __future__ import annotations

import json

import pytest
import torch

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.hub import bundled_presets
from l3ac_tokenizer.presets import PRESETS

from .conftest import speechlike, write_wav


@pytest.fixture
def encoded(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "a.wav", speechlike(2.0))
    assert l3ac("encode", "a.wav", "-o", "a.l3ac", "--model", tiny)[0] == 0
    return tmp_path / "a.l3ac"


def test_info_of_a_file(l3ac, l3ac_json, encoded, tiny_model):
    facts = l3ac_json("info", encoded)
    assert facts["model"] == "tiny" and facts["weights_digest"] == tiny_model.weights_digest()
    assert (facts["seconds"], facts["num_samples"], facts["num_ids"]) == (2.0, 32000, 119)
    assert facts["bits_per_second"] == pytest.approx(tiny_model.config.bits_per_second)
    assert facts["bytes"] == encoded.stat().st_size and facts["checksum"] == "ok"
    status, out, _ = l3ac("info", encoded)
    assert status == 0 and "2.000 s" in out and "998.2 bits/s" in out and "ok" in out


def test_info_says_that_a_file_is_damaged(l3ac, encoded):
    encoded.write_bytes(encoded.read_bytes()[:-1])
    status, out, _ = l3ac("info", encoded, "--json")
    assert status == 1 and "is damaged" in json.loads(out)["checksum"]
    encoded.write_bytes(encoded.read_bytes()[:50])
    status, out, err = l3ac("info", encoded)
    assert (status, out) == (1, "") and "has a damaged header" in err


def test_info_of_a_model(l3ac, l3ac_json, tiny, tiny_model):
    facts = l3ac_json("info", tiny)
    assert facts["parameters"] == tiny_model.num_parameters()
    assert facts["weights_digest"] == tiny_model.weights_digest()
    assert facts["encoder_latency_ms"] == pytest.approx((270 + tiny_model.encoder_lookahead) / 16)
    assert facts["decoder_latency_ms"] == pytest.approx(tiny_model.decoder_lookahead / 16)
    assert facts["stream"] == "not possible before its calibration: call model.calibrate_time_norm(clips)"
    status, out, _ = l3ac("info", tiny)
    assert status == 0 and "look-ahead" in out


def test_info_of_a_model_says_how_a_stream_differs_from_decode(l3ac, l3ac_json, tiny, tmp_path):
    model = L3ACModel.from_pretrained(tiny)
    model.calibrate_time_norm([torch.from_numpy(speechlike(1.0)).float()])
    model.save_pretrained(tmp_path / "calibrated")
    facts = l3ac_json("info", "calibrated")
    assert facts["stream"].startswith("not equal to decode()") and -120 < facts["stream_difference_db"] < 20
    assert f"{facts['stream_difference_db']:.1f} dB relative to decode()" in l3ac("info", "calibrated")[1]
    light = l3ac_json("info", "l3ac-1k-light")
    assert light["stream"] == "equal to decode()" and "stream_difference_db" not in light


def test_info_of_a_file_by_a_preset_tells_the_latency(l3ac_json, encoded, tmp_path, tiny, l3ac):
    (tmp_path / "l3ac-1k").symlink_to(tiny)
    assert l3ac("encode", "a.wav", "-o", "b.l3ac", "--model", "./l3ac-1k")[0] == 0
    facts = l3ac_json("info", "b.l3ac")
    model = L3ACModel(L3ACConfig.from_preset("l3ac-1k"))
    assert facts["encoder_latency_ms"] == pytest.approx((270 + model.encoder_lookahead) / 16)


def test_models_lists_the_presets_and_which_are_bundled(l3ac, l3ac_json):
    table = l3ac_json("models")
    assert [row["name"] for row in table] == list(PRESETS)
    assert [row["name"] for row in table if row["bundled"]] == bundled_presets()
    row = next(row for row in table if row["name"] == "l3ac-3k")
    assert (row["hop_length"], row["codebook_size"]) == (96, 250047)
    status, out, _ = l3ac("models")
    assert status == 0 and len(out.splitlines()) == 2 + len(PRESETS)
