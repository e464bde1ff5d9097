"""Configurations: the presets, and values that describe no network."""

from __future__ import annotations

import pytest

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.presets import L3AC_PRESETS, LIGHT_PRESETS

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


LIGHT_PARAMETERS = {
    "l3ac-0k75-light": 8_412_160,
    "l3ac-1k-light": 8_515_848,
    "l3ac-1k5-light": 8_499_464,
    "l3ac-3k-light": 5_936_020,
}


@pytest.mark.parametrize("preset", LIGHT_PRESETS)
def test_a_light_preset_has_the_ids_of_its_published_one_and_fewer_parameters(preset):
    published, light = L3ACConfig.from_preset(preset.removesuffix("-light")), L3ACConfig.from_preset(preset)
    for field in ("hop_length", "sampling_rate", "levels", "compress_rate", "bits_per_second"):
        assert getattr(light, field) == getattr(published, field)
    assert light.attention_window / light.frame_rate == pytest.approx(2.16, abs=0.001)
    assert L3ACModel(light).num_parameters() == LIGHT_PARAMETERS[preset]


def test_the_bit_rate_is_the_token_rate_times_log2_of_the_codebook_size():
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
        ("attention", "full"),
        ("analysis", "mel"),
        ("synthesis", "vocoder"),
        ("analysis_depth", -1),
        ("synthesis_depth", -1),
        ("synthesis_dim", 0),
        ("synthesis_lookahead", 4),
        ("synthesis_lookahead_layers", -1),
    ],
)
def test_a_bad_value_is_refused_by_the_field_s_name(field, value):
    with pytest.raises(Exception, match=field):
        L3ACConfig(**{field: value})


@pytest.mark.parametrize("end", ["analysis", "synthesis"])
@pytest.mark.parametrize("rates", [[3, 3], [21, 20]])
def test_a_spectral_end_needs_an_even_fine_step_within_its_shorter_window(end, rates):
    sizes = {"encoder_rates": rates, "encoder_dims": [4, 4, 4], "encoder_depths": [1, 1, 1]}
    sizes |= {"decoder_rates": rates, "decoder_dims": [4, 4, 4], "decoder_depths": [1, 1]}
    L3ACConfig(**sizes)
    with pytest.raises(Exception, match="must be even and at most 400 samples"):
        L3ACConfig(**sizes, **{end: "spectral"})


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="l3ac-1k,"):
        L3ACConfig.from_preset("l3ac-2k")
