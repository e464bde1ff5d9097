"""Presets: values of the configurations of published networks, and of our own light and small ones."""

from __future__ import annotations

from typing import Any

_NARROW_LEVELS = [7, 7, 7, 7, 7, 7]
_WIDE_LEVELS = [9, 9, 9, 7, 7, 7]

_BASE: dict[str, Any] = {
    "sampling_rate": 16_000,
    "feature_dim": 128,
    "encoder_rates": [6, 5, 3],
    "encoder_dims": [24, 48, 96, 192],
    "encoder_depths": [1, 1, 1, 2],
    "encoder_layers": [1, 2],
    "compress_rate": 3,
    "decoder_rates": [5, 3, 3, 2],
    "decoder_dims": [512, 256, 96, 48, 24],
    "decoder_depths": [3, 3, 2, 1],
    "decoder_layers": [3, 2],
    "attention_window": 250,
    "quantizer": "super_fsq",
    "levels": _NARROW_LEVELS,
    "pad_to_window": False,
}

# SQCodec, the first version of the paper: wider features, FSQ of Mentzer et al., padding to whole windows.
_SQCODEC: dict[str, Any] = {
    "feature_dim": 256,
    "encoder_layers": [2, 3],
    "decoder_dims": [384, 192, 96, 48, 24],
    "decoder_depths": [3, 2, 2, 1],
    "quantizer": "fsq",
    "pad_to_window": True,
}
_SQCODEC_ONE_RATE: dict[str, Any] = {"compress_rate": 1, "encoder_layers": [3], "decoder_layers": [3]}
_SQCODEC_SHALLOW: dict[str, Any] = {
    "encoder_dims": [24, 96, 192],
    "encoder_depths": [1, 1, 2],
    "decoder_dims": [384, 192, 96, 48],
    "decoder_depths": [3, 2, 1],
}


def _sqcodec(**difference: Any) -> dict[str, Any]:
    return {**_BASE, **_SQCODEC, **difference}


# Light networks: spectral analysis and synthesis, and attention over a sliding window of about two seconds. The layers
# with one time step per id are cheap, so those with two rates have six of them on each side.
_LIGHT: dict[str, Any] = {
    "analysis": "spectral",
    "synthesis": "spectral",
    "attention": "sliding",
    "synthesis_lookahead_layers": 8,
}
_DEEP: dict[str, Any] = {"encoder_layers": [1, 6], "decoder_layers": [6, 2]}


def _light(name: str, **difference: Any) -> dict[str, Any]:
    return {**L3AC_PRESETS[name], **_LIGHT, **difference}


L3AC_PRESETS: dict[str, dict[str, Any]] = {
    "l3ac-0k75": {
        **_BASE,
        "encoder_rates": [6, 5, 4],
        "decoder_rates": [5, 4, 3, 2],
        "attention_window": 200,
    },
    "l3ac-1k": _BASE,
    "l3ac-1k5": {**_BASE, "compress_rate": 2, "attention_window": 300},
    "l3ac-3k": {
        **_BASE,
        "encoder_rates": [6, 4, 4],
        "encoder_layers": [1],
        "compress_rate": 1,
        "decoder_rates": [4, 4, 3, 2],
        "decoder_layers": [3],
        "attention_window": 400,
        "levels": _WIDE_LEVELS,
    },
    "sqcodec-0k75": _sqcodec(
        encoder_rates=[6, 5, 4],
        decoder_rates=[5, 4, 3, 2],
        attention_window=200,
    ),
    "sqcodec-1k5": _sqcodec(compress_rate=2, attention_window=300),
    "sqcodec-3k": _sqcodec(**_SQCODEC_ONE_RATE, attention_window=400),
    "sqcodec-6k": _sqcodec(
        **_SQCODEC_ONE_RATE,
        **_SQCODEC_SHALLOW,
        encoder_rates=[9, 5],
        decoder_rates=[5, 3, 3],
        attention_window=300,
    ),
    "sqcodec-12k": _sqcodec(
        **_SQCODEC_ONE_RATE,
        **_SQCODEC_SHALLOW,
        encoder_rates=[6, 4],
        decoder_rates=[4, 3, 2],
        attention_window=400,
        levels=_WIDE_LEVELS,
    ),
    "sqcodec-12k-24khz": _sqcodec(
        **_SQCODEC_ONE_RATE,
        **_SQCODEC_SHALLOW,
        sampling_rate=24_000,
        encoder_rates=[6, 6],
        decoder_rates=[4, 3, 3],
        attention_window=400,
        levels=_WIDE_LEVELS,
    ),
    "sqcodec-24k-24khz": _sqcodec(
        **_SQCODEC_ONE_RATE,
        **_SQCODEC_SHALLOW,
        sampling_rate=24_000,
        encoder_rates=[6, 3],
        decoder_rates=[3, 3, 2],
        attention_window=600,
        levels=_WIDE_LEVELS,
    ),
}
"""Networks of arXiv 2504.04949: name, with the nominal bit rate → values of `L3ACConfig`."""

LIGHT_PRESETS: dict[str, dict[str, Any]] = {
    "l3ac-0k75-light": _light(
        "l3ac-0k75", **_DEEP, attention_window=96, analysis_depth=2, synthesis_lookahead_layers=5
    ),
    "l3ac-1k-light": _light("l3ac-1k", **_DEEP, attention_window=128),
    "l3ac-1k5-light": _light("l3ac-1k5", **_DEEP, attention_window=192),
    "l3ac-3k-light": _light("l3ac-3k", attention_window=360),
}
"""Our light networks, with the token rates of L3AC: name → values of `L3ACConfig`."""

# TAAE (arXiv 2411.19842), at 400 bit/s.
_TAAE: dict[str, Any] = {
    "sampling_rate": 16_000,
    "patch_size": 320,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "depths": [8, 20],
    "strides": [1, 2],
    "attention_window": [63, 64],
    "levels": [6, 6, 6, 6, 6, 6],
    "training_levels": [5, 9, 17],
}
_TAAE_12HZ5: dict[str, Any] = {"strides": [1, 2, 2], "levels": [4, 4, 4, 4, 4, 4, 4, 4]}
# Our own, small enough to train and to run on a CPU core.
_TAAE_SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "depths": [6],
    "strides": [1],
    "attention_window": [15, 16],
    "levels": [9, 9, 9, 9, 9, 9],
}
_TAAE_TINY: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 2, "attention_window": [7, 8]}

TAAE_PRESETS: dict[str, dict[str, Any]] = {
    "taae-950m": _TAAE,
    "taae-540m": {**_TAAE, "hidden_size": 768, "num_attention_heads": 6},
    "taae-240m": {**_TAAE, "hidden_size": 512, "num_attention_heads": 4},
    "taae-950m-12hz5": {**_TAAE, **_TAAE_12HZ5, "depths": [8, 10, 10]},
    "taae-small": {**_TAAE, **_TAAE_SMALL},
    "taae-tiny": {**_TAAE, **_TAAE_TINY, "depths": [2, 3]},
    "taae-tiny-12hz5": {**_TAAE, **_TAAE_12HZ5, **_TAAE_TINY, "depths": [1, 1, 1]},
}
"""Networks of TAAE: name → values of `TAAEConfig`. `taae-small` is our own; the tiny ones serve to compare results with
the published code."""

FAMILIES = {"l3ac": L3AC_PRESETS | LIGHT_PRESETS, "taae": TAAE_PRESETS}
"""Presets of each family, by `model_type`."""

PRESETS = {**L3AC_PRESETS, **LIGHT_PRESETS, **TAAE_PRESETS}
"""Presets of all families."""

OWN_PRESETS = (*LIGHT_PRESETS, "taae-small")
"""Presets of networks that exist in this package only, so that no published weights can be converted to them."""
