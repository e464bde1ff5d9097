from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

from hf_integration.convert_checkpoint import main as script
from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.conversion import parity
from l3ac_tokenizer.conversion.convert import convert_state_dicts
from l3ac_tokenizer.conversion.golden_weights import deterministic_state

from .conftest import is_one_sentence

PRESET = "taae-tiny-12hz5"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with published weights of a small network, and their digest after conversion."""
    folder = tmp_path_factory.mktemp("published")
    state = deterministic_state(PRESET)
    save_file({name: value.clone() for name, value in state["model"].items()}, folder / "model.safetensors")
    half = {"channels": 32, "c_mults": [4, 4, 4], "strides": [1, 2, 2], "transformer_depths": [1, 1, 1]}
    half |= {"latent_dim": 8, "sliding_window": [7, 8]}
    model = {
        "encoder": {"config": {**half, "in_channels": 320}},
        "decoder": {"config": {**half, "out_channels": 320}},
        "pretransform": {"type": "patched", "config": {"patch_size": 320}},
        "bottleneck": {"type": "dithered_fsq", "config": {"dim": 8, "levels": 17}},
        "downsampling_ratio": 1280,
    }
    (folder / "model_config.json").write_text(json.dumps({"sample_rate": 16_000, "model": model}))
    return folder, convert_state_dicts(PRESET, state).weights_digest()


def test_it_writes_a_directory_of_the_converted_weights(l3ac, l3ac_json, published):
    folder, digest = published
    facts = l3ac_json("convert", folder, "--preset", PRESET, "-o", "converted")
    assert facts == {"directory": "converted", "preset": PRESET, "weights_digest": digest}
    assert l3ac_json("info", "converted")["weights_digest"] == digest
    status, out, err = l3ac("convert", folder, "--preset", PRESET, "-o", "again")
    assert (status, err) == (0, "") and digest in out


def test_the_script_is_the_same_command(published, tmp_path, capsys):
    folder, digest = published
    assert script(["--preset", PRESET, "--weights", str(folder), "--output", str(tmp_path / "converted")]) == 0
    assert digest in capsys.readouterr().out
    assert CodecModel.from_pretrained(tmp_path / "converted").weights_digest() == digest


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("published",),
        ("published", "--preset", PRESET),
        ("--preset", PRESET, "-o", "out"),
        ("published", "--preset", PRESET, "-o", "out", "--verify", "golden"),
    ],
)
def test_it_takes_either_weights_or_golden_files(l3ac, tmp_path, arguments):
    status, out, err = l3ac("convert", *arguments)
    assert (status, out) == (2, "") and is_one_sentence(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("preset", "said"),
    [
        ("l3ac-1k", "has no file encoder"),
        ("taae-tiny", "does not describe taae-tiny"),
        ("mimi", "'mimi' is not a preset"),
        ("l3ac-1k-light", "'l3ac-1k-light' is a network of this package without published weights"),
        ("taae-small", "'taae-small' is a network of this package without published weights"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_written(l3ac, tmp_path, published, preset, said):
    status, out, err = l3ac("convert", published[0], "--preset", preset, "-o", "out")
    assert (status, out) == (1, "") and said in err and is_one_sentence(err)
    assert not (tmp_path / "out").exists()


def test_verify_reports_parity_with_golden_files(l3ac, l3ac_json, shared, monkeypatch):
    monkeypatch.setattr(parity, "GOLDEN", (PRESET,))
    status, out, err = l3ac("convert", "--verify", shared / "reference")
    assert (status, err) == (0, "") and PRESET in out and out.rstrip().endswith("yes")
    (result,) = l3ac_json("convert", "--verify", shared / "reference")
    assert result["holds"] and result["changed_ids"] == 0 and max(result["deviations"].values()) < parity.TOLERANCE


def test_verify_fails_where_a_golden_file_is_missing(l3ac, tmp_path):
    status, out, err = l3ac("convert", "--verify", tmp_path)
    assert (status, out) == (1, "") and err.count("golden file") == len(parity.GOLDEN)
