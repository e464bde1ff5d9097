"""Configurations inherit, are overridden, and name what is wrong with them."""

from __future__ import annotations

import re

import pytest

from l3ac_tokenizer.training.chain import load_chain
from l3ac_tokenizer.training.config import (
    ConfigError,
    LossWeights,
    Phase,
    TrainingConfig,
    load_config,
    parse_overrides,
)
from l3ac_tokenizer.training.config_files import CONFIGS, bundled_configs, config_path

RECIPES = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_recipe_is_valid(path):
    stages = load_chain(path)
    if stages is None:
        load_config(path)
    else:
        assert len(stages) > 1


def test_published_recipe_is_the_default():
    assert load_config(CONFIGS / "l3ac-1k.yaml") == TrainingConfig()


def test_a_bundled_configuration_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"l3ac-1k", "light/joint", "ablations/no-clamp", "l3ac-1k-light-finetune"} <= set(bundled_configs())
    for name in bundled_configs():
        assert config_path(name) == CONFIGS / f"{name}.yaml"
    assert load_config("light/decode") == load_config(CONFIGS / "light" / "decode.yaml")
    assert load_chain("l3ac-1k-light")[0].config.stage == "tokens"


@pytest.mark.parametrize("wrong", ["l3ac-1k.yaml", "recipes/configs/l3ac-1k.yaml", "l3ac-1kk"])
def test_a_name_that_is_not_bundled_gets_the_nearest(wrong):
    with pytest.raises(ConfigError, match=r"nor a bundled configuration of that name; did you mean l3ac-1k\?"):
        load_config(wrong)


def test_the_finetuning_configuration_starts_from_the_bundled_codec_on_speech_alone():
    config = load_config("l3ac-1k-light-finetune")
    assert (config.stage, config.init_from, config.preset) == ("joint", "l3ac-1k-light", "l3ac-1k-light")
    assert config.domains == {"speech": 1, "music": 0, "general": 0} and config.holdout == []


def test_files_inherit_key_by_key(tmp_path):
    (tmp_path / "base.yaml").write_text("lr: 1e-3\nweights: {l1: 7, stft: 2}\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\nweights: {stft: 3}\n")
    config = load_config(tmp_path / "own.yaml")
    assert (config.lr, config.weights.l1, config.weights.stft) == (1e-3, 7.0, 3.0)


def test_a_group_that_was_switched_off_can_be_switched_on_by_one_value(tmp_path):
    (tmp_path / "c.yaml").write_text("discriminator: null\n")
    assert load_config(tmp_path / "c.yaml").discriminator is None
    assert load_config(tmp_path / "c.yaml", {"discriminator.every": 2}).discriminator.every == 2


def test_groups_on_the_command_line_merge_as_those_of_files_do(tmp_path):
    (tmp_path / "c.yaml").write_text("weights: {l1: 10, perceptual_max: 0}\ndomains: {speech: 4, music: 1}\n")
    arguments = ["--weights", "{l1: 5, stft: 8}", "--weights.cosine", "1", "--domains", "{music: 0}", "--phases"]
    config = load_config(tmp_path / "c.yaml", parse_overrides([*arguments, "[{crop_seconds: 1, batch_size: 2}]"]))
    assert config.weights == LossWeights(l1=5, stft=8, cosine=1, perceptual_max=0)
    assert config.domains == {"speech": 4, "music": 0}
    assert config.phases == [Phase(1.0, 2)]


def test_weights_of_a_phase_are_the_configurations_but_for_what_it_names(tmp_path):
    phases = "[{crop_seconds: 1, batch_size: 2, until: 0.5}, {crop_seconds: 1, batch_size: 2, weights: {stft: 3}}]"
    (tmp_path / "c.yaml").write_text(f"weights: {{l1: 10, perceptual_max: 0}}\nphases: {phases}\n")
    first, second = load_config(tmp_path / "c.yaml").phases
    assert first.weights is None
    assert second.weights == LossWeights(l1=10, stft=3, perceptual_max=0)


def test_precision_is_what_accelerate_is_configured_for_unless_a_file_says_it():
    assert load_config(CONFIGS / "l3ac-1k.yaml").mixed_precision is None
    assert load_config(CONFIGS / "l3ac-1k-cpu.yaml").mixed_precision == "no"


def test_a_file_that_is_not_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "c.yaml").write_text("lr: 1.0\nweights: {l1: 5\n")
    with pytest.raises(ConfigError, match=r"c\.yaml is not YAML \(expected ',' or '}', but got .*line 3\)\.$"):
        load_config(tmp_path / "c.yaml")


def test_command_line_overrides(tmp_path):
    (tmp_path / "c.yaml").write_text("lr: 1.0\n")
    arguments = [
        "--lr",
        "1e-4",
        "--augment.polarity=true",
        "--max-minutes",
        "3",
        "--augment.speed",
        "[0.9,1.1]",
        "--mixed-precision",
        "no",
    ]
    config = load_config(tmp_path / "c.yaml", parse_overrides(arguments))
    assert (config.lr, config.max_minutes) == (1e-4, 3.0)
    assert config.augment.polarity is True and config.augment.speed == [0.9, 1.1]
    assert config.mixed_precision == "no"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lerning_rate", "1"], "Unknown key lerning_rate; the nearest is"),
        (["--augment.polartiy", "true"], "the nearest is augment.polarity"),
        (["--ema_deccay", "0.9"], "the nearest is ema_decay"),
        (["--seed", "1.5"], "seed is 1.5; expected int"),
        (["--whiten_latents", "1"], "whiten_latents is 1; expected bool"),
        (["--lr"], "--lr has no value"),
        (["--lr.peak", "1"], "lr is {'peak': 1}; expected float"),
        (["--weights", "{l1: 5"], "--weights {l1: 5 is not YAML"),
        (
            ["--model.atention_window", "500"],
            "key model.atention_window; the nearest is model.attention_window.",
        ),
        (["--model", "{attention_window: wide}"], "model: Field 'attention_window' expected int, got str"),
        (["--model.attention_window", "0"], "model: `attention_window` is 0; it must be at least 1."),
        (["--preset", "l3ac-2k"], "'l3ac-2k' is not a preset"),
        (["--max-steps", "0"], "max_steps is 0; it must be at least 1."),
        (["--max-minutes", "0"], "max_minutes is 0; it must be above 0."),
        (["--log-every", "0"], "log_every is 0; it must be at least 1."),
        (["--accumulation", "0"], "accumulation is 0; it must be at least 1."),
        (["--discriminator.every", "0"], "discriminator.every is 0"),
        (["--discriminator.schedule", "cosine"], "it must be constant or one_cycle"),
        (["--max_steps", "null"], "set at least one"),
        (["--stage", "token"], "stage is 'token'; it must be tokens, distill, encode, decode or joint"),
        (["--phases", "[{crop_seconds: 1, batch_size: 2, until: 0.5}]"], "The last phase must have `until` 1.0."),
    ],
)
def test_mistakes_are_named(tmp_path, arguments, message):
    (tmp_path / "c.yaml").write_text("lr: 1.0\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(tmp_path / "c.yaml", parse_overrides(arguments))
