"""The published networks: golden numbers, and the published package itself with random weights."""

from __future__ import annotations

import pytest
import torch
from networks import speech_like
from safetensors.torch import load_file, save_file

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.conversion.convert import convert_state_dicts
from l3ac_tokenizer.conversion.golden_weights import deterministic_state
from l3ac_tokenizer.conversion.l3ac_names import MODULES
from l3ac_tokenizer.conversion.parity import GOLDEN_L3AC, compare
from l3ac_tokenizer.conversion.reading import ConversionError, read_state_dicts


@pytest.mark.parametrize("preset", GOLDEN_L3AC)
def test_every_stage_every_id_and_the_audio_are_those_of_the_published_network(preset, shared):
    parity = compare(preset, load_file(shared / "reference" / f"{preset}.safetensors"))
    assert parity.holds(), parity
    assert parity.frames_near_boundary <= 10
    assert parity.changed_ids <= 3


@pytest.fixture(scope="module")
def state():
    return deterministic_state("l3ac-3k")


def changed(state, module, **difference):
    return {**state, module: {**state[module], **difference}}


def test_a_missing_key_is_refused_by_name(state):
    partial = {name: value for name, value in state["encoder"].items() if name != "blocks.0.conv_1.bias"}
    with pytest.raises(ConversionError, match=r"missing encoder\.blocks\.0\.conv_1\.bias"):
        convert_state_dicts("l3ac-3k", {**state, "encoder": partial})


def test_an_extra_key_is_refused_by_name(state):
    with pytest.raises(ConversionError, match=r"unknown decoder\.blocks\.99"):
        convert_state_dicts("l3ac-3k", changed(state, "decoder", **{"blocks.99": torch.zeros(1)}))


def test_a_tensor_of_another_shape_is_refused_by_name_and_both_shapes(state):
    wrong = {"project_in.weight": torch.zeros(6, 64)}
    with pytest.raises(
        ConversionError, match=r"quantizer\.project_in\.weight has shape \(6, 64\) instead of \(6, 128\)"
    ):
        convert_state_dicts("l3ac-3k", changed(state, "quantizer", **wrong))


def test_a_missing_file_is_refused_by_name(state):
    with pytest.raises(ConversionError, match="missing file 'en_decoder'"):
        convert_state_dicts("l3ac-3k", {module: state[module] for module in MODULES if module != "en_decoder"})


def test_the_empty_cache_token_of_sqcodec_is_accepted_and_may_be_absent():
    state = deterministic_state("sqcodec-1k5")
    assert state["en_encoder"]["cache_token"].shape == (1, 0, 256)
    with_token = convert_state_dicts("sqcodec-1k5", state)
    del state["en_encoder"]["cache_token"]
    assert convert_state_dicts("sqcodec-1k5", state).weights_digest() == with_token.weights_digest()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_l3ac_convert_writes_a_directory_that_loads_as_the_converted_model(state, tmp_path, suffix, capsys):
    for module, tensors in state.items():
        (save_file if suffix == ".safetensors" else torch.save)(dict(tensors), tmp_path / f"{module}{suffix}")
    output = tmp_path / "converted"
    assert main(["convert", str(tmp_path), "--preset", "l3ac-3k", "-o", str(output)]) == 0
    loaded = L3ACModel.from_pretrained(output)
    assert loaded.weights_digest() == convert_state_dicts("l3ac-3k", state).weights_digest()
    assert loaded.weights_digest() in capsys.readouterr().out


class RunsCode:
    def __reduce__(self):
        return print, ("code was run",)


def test_code_in_a_published_file_is_not_run(state, tmp_path, capsys):
    for module, tensors in state.items():
        torch.save(dict(tensors), tmp_path / f"{module}.pt")
    torch.save({"blocks": RunsCode()}, tmp_path / "decoder.pt")
    with pytest.raises(OSError, match=r"decoder\.pt is not a plain file of tensors"):
        read_state_dicts(tmp_path, "l3ac-3k")
    assert main(["convert", str(tmp_path), "--preset", "l3ac-3k", "-o", str(tmp_path / "out")]) == 1
    assert "code was run" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("preset", "published_name"),
    [("l3ac-0k75", "0k75bps"), ("l3ac-1k", "1kbps"), ("l3ac-1k5", "1k5bps"), ("l3ac-3k", "3kbps")],
)
def test_the_published_package_with_random_weights_gives_the_same_ids_and_audio(preset, published_name):
    l3ac = pytest.importorskip("l3ac", reason="the published package is not installed (extra `dev`)")
    config = l3ac.L3ACConfig(config_file=l3ac.CONFIG_DIR / f"{published_name}.toml")
    published = l3ac.EnCodec(config.network_config).eval()
    modules = published.trainable_modules
    with torch.no_grad():
        projection = modules["quantizer"].project_in
        projection.weight.mul_(20)  # spreads the ids, of which fresh weights use a handful
        for tensors in modules.values():
            for name, parameter in tensors.named_parameters():
                if name.rsplit(".", 1)[-1] in (
                    "gamma",
                    "beta",
                ):  # fresh ones are zero and would prove nothing
                    parameter.normal_(std=0.1)
        ours = convert_state_dicts(preset, {name: module.state_dict() for name, module in modules.items()})
        clip = speech_like(16_000)
        theirs = published(clip[None])
        encoded = ours.encode(clip[None, None])
        changed = encoded.audio_codes[0, 0] != theirs["indices"].flatten()
        assert len(encoded.audio_codes[0, 0].unique()) > 5
        assert not (changed & ~ours.quantizer.near_boundary(encoded.latents[0])).any()
        decoded = ours.decode(theirs["indices"].reshape(1, 1, -1), num_samples=16_000).audio_values[0, 0]
    scale = theirs["generated_audio"].abs().max()
    assert (decoded - theirs["generated_audio"][0]).abs().max() / scale < 1e-3
