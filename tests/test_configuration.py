"""Configurations: the eleven presets, and values that describe no network."""

from __future__ import annotations

import pytest

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.presets import L3AC_PRESETS

# Published: hop, sampling rate, levels' product, millions of parameters with weight-norm magnitudes.
PUBLISHED = {
    "l3ac-0k75": (360, 16_000, 117_649, 11.2897),
    "l3ac-1k": (270, 16_000, 117_649, 11.271268),
    "l3ac-1k5": (180, 16_000, 117_649, 11.254884),
    "l3ac-3k": (96, 16_000, 250_047, 10.307288),
    "sqcodec-0k75": (360, 16_000, 117_649, 15.179044),
    "sqcodec-1k5": (180, 16_000, 117_649, 15.095076),
    "sqcodec-3k": (90, 16_000, 117_649, 11.256344),
    "sqcodec-6k": (45, 16_000, 117_649, 11.207436),
    "sqcodec-12k": (24, 16_000, 250_047, 11.182092),
    "sqcodec-12k-24khz": (36, 24_000, 250_047, 11.218956),
    "sqcodec-24k-24khz": (18, 24_000, 250_047, 11.163660),
}


@pytest.mark.parametrize("preset", L3AC_PRESETS)
def test_a_preset_has_the_published_rates_and_number_of_parameters(preset):
    hop, rate, codebook, millions = PUBLISHED[preset]
    config = L3ACConfig.from_preset(preset)
    assert (config.hop_length, config.sampling_rate, config.codebook_size) == (hop, rate, codebook)
    assert config.frame_rate == rate / hop
    model = L3ACModel(config)
    model.apply_weight_norm()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 6) == millions


def test_the_bit_rate_is_ids_a_second_times_log2_of_the_codebook():
    assert L3ACConfig.from_preset("l3ac-1k").bits_per_second == pytest.approx(998.2, abs=0.1)


def test_the_defaults_are_l3ac_1k():
    assert L3ACConfig().to_diff_dict() == L3ACConfig.from_preset("l3ac-1k").to_diff_dict()


def test_a_config_comes_back_from_its_file_as_it_was(tmp_path):
    config = L3ACConfig.from_preset("sqcodec-12k-24khz", noise_probability=0.25)
    config.save_pretrained(tmp_path)
    assert L3ACConfig.from_pretrained(tmp_path).to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", [7, 6]),
        ("levels", []),
        ("feature_dim", 30),
        ("feature_dim", "wide"),
        ("compress_rate", 0),
        ("encoder_rates", [6, 5]),
        ("encoder_depths", [1, 1, 1]),
        ("encoder_layers", [1]),
        ("decoder_rates", [5, 3, 3, 3]),
        ("decoder_depths", [3, 3, 2, 1, 1]),
        ("quantizer", "vq"),
        ("noise_probability", 1.5),
        ("attention_window", 0),
    ],
)
def test_a_bad_value_is_refused_by_the_field_s_name(field, value):
    with pytest.raises(Exception, match=field):
        L3ACConfig(**{field: value})


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="l3ac-1k,"):
        L3ACConfig.from_preset("l3ac-2k")
