"""TAAE: golden numbers of the published classes, and the conversion of a state in the published names."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from l3ac_tokenizer import CodecFeatureExtractor, TAAEModel, preset_config
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.conversion.convert import convert_state_dicts
from l3ac_tokenizer.conversion.golden_weights import deterministic_state, deterministic_tensor
from l3ac_tokenizer.conversion.parity import GOLDEN_TAAE, compare
from l3ac_tokenizer.conversion.reading import ConversionError, read_state_dicts
from l3ac_tokenizer.conversion.released_config import differences

PRESET = "taae-tiny-12hz5"


@pytest.mark.parametrize("preset", GOLDEN_TAAE)
def test_every_stage_every_id_and_the_audio_are_those_of_the_published_network(preset, shared):
    parity = compare(preset, load_file(shared / "reference" / f"{preset}.safetensors"))
    assert parity.holds(), parity
    assert parity.changed_ids == 0


def test_the_rule_makes_the_numbers_that_it_is_documented_with():
    values = deterministic_tensor("taae-tiny/encoder.layers.0.weight_g", (128, 1, 1)).flatten()[:3]
    assert values.tolist() == pytest.approx([1.0287493, 1.0381398, 0.9963192], abs=1e-7)


@pytest.fixture(scope="module")
def state():
    return deterministic_state(PRESET)["model"]


def released_config(**changes):
    """What lies beside released weights of the preset."""
    half = {
        "channels": 32,
        "c_mults": [4, 4, 4],
        "strides": [1, 2, 2],
        "transformer_depths": [1, 1, 1],
        "latent_dim": 8,
        "sliding_window": [7, 8],
    }
    model = {
        "encoder": {"type": "taae", "config": {**half, "in_channels": 320}},
        "decoder": {"type": "taae", "config": {**half, "out_channels": 320}},
        "pretransform": {"type": "patched", "config": {"patch_size": 320}},
        "bottleneck": {"type": "dithered_fsq", "config": {"dim": 8, "levels": 17}},
        "downsampling_ratio": 1280,
    }
    for place, value in changes.items():
        *parents, last = place.split(".")
        target = model
        for parent in parents:
            target = target[parent]
        target[last] = value
    return {"sample_rate": 16_000, "model": model}


def test_the_published_state_has_the_tensors_that_it_should(state):
    assert len(deterministic_state("taae-tiny")["model"]) == 2 * (5 * 17) + 2 * 3 * 3 - 1
    assert state["decoder.layers.1.layers.2.weight_g"].shape == (128, 1, 1)
    assert state["decoder.layers.1.layers.2.weight_v"].shape == (128, 128, 4)
    assert "decoder.layers.5.bias" not in state


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("encoder.layers.0.bias", None, r"missing model\.encoder\.layers\.0\.bias"),
        ("encoder.layers.1.layers.0.alpha", torch.ones(128), r"unknown model\.encoder\.layers\.1\.layers\.0\.alpha"),
        (
            "decoder.layers.5.weight_v",
            torch.ones(320, 128, 5),
            r"decoder\.layers\.5\.weight_v has shape \(320, 128, 5\) instead of \(320, 128, 7\)",
        ),
        (
            "encoder.layers.1.layers.2.1.pre_norm.beta",
            torch.ones(128),
            r"pre_norm\.beta holds other values than the constants",
        ),
        (
            "encoder.layers.1.layers.2.1.rope.inv_freq",
            torch.ones(16),
            r"rope\.inv_freq holds other values than the constants",
        ),
    ],
)
def test_a_key_that_is_not_the_network_s_is_refused_by_name(state, name, tensor, said):
    changed = {key: value for key, value in state.items() if key != name} | ({} if tensor is None else {name: tensor})
    with pytest.raises(ConversionError, match=said):
        convert_state_dicts(PRESET, {"model": changed})


def test_constants_may_be_left_out(state):
    without = {name: value for name, value in state.items() if not name.endswith(("beta", "inv_freq"))}
    digests = {convert_state_dicts(PRESET, {"model": each}).weights_digest() for each in (state, without)}
    assert len(digests) == 1


@pytest.mark.parametrize("file", ["model.safetensors", "model.ckpt"])
def test_l3ac_convert_reads_either_published_file_and_writes_a_directory_that_loads(state, tmp_path, file, capsys):
    if file.endswith(".ckpt"):
        torch.save({"state_dict": dict(state)}, tmp_path / file)
    else:
        save_file({name: value.clone() for name, value in state.items()}, tmp_path / file)
    (tmp_path / "model_config.json").write_text(json.dumps(released_config()))
    output = tmp_path / "converted"
    assert main(["convert", str(tmp_path), "--preset", PRESET, "-o", str(output)]) == 0
    assert CodecFeatureExtractor.from_pretrained(output).level_lufs == -20  # as the published wrapper does
    loaded = TAAEModel.from_pretrained(output)
    assert loaded.weights_digest() == convert_state_dicts(PRESET, {"model": state}).weights_digest()
    assert loaded.weights_digest() in capsys.readouterr().out


def test_a_released_configuration_of_the_network_has_no_differences():
    assert differences(released_config(), preset_config(PRESET)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("encoder.config.use_snake", True),
        ("decoder.config.conformer", True),
        ("encoder.config.layer_scale", False),
        ("encoder.config.c_mults", [4, 8, 4]),
        ("decoder.config.strides", [2, 2, 1]),
        ("encoder.config.sliding_window", [63, 64]),
        ("decoder.soft_clip", True),
        ("pretransform.config.patch_size", 160),
        ("bottleneck.type", "fsq"),
        ("downsampling_ratio", 640),
    ],
)
def test_a_released_configuration_of_another_network_is_refused_by_its_place(tmp_path, place, value):
    (tmp_path / "model_config.json").write_text(json.dumps(released_config(**{place: value})))
    with pytest.raises(ConversionError, match=place):
        read_state_dicts(tmp_path, PRESET)


def test_weights_without_their_configuration_are_refused(tmp_path):
    with pytest.raises(OSError, match="model_config"):
        read_state_dicts(tmp_path, PRESET)
