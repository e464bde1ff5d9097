"""Comparison of the `model_config.json` released with TAAE weights with our configuration.

It catches options that change the network but not the names or shapes of its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..configuration_taae import TAAEConfig


def differences(released: Mapping[str, Any], config: TAAEConfig) -> list[str]:
    """Return a message for each value of the released file that describes another network than `config`."""
    rate = released.get("sample_rate")
    found = [] if rate == config.sampling_rate else [f"sample_rate is {rate!r} instead of {config.sampling_rate}"]
    for place, wanted, default in _wanted(config):
        value = _at(released, f"model.{place}", default)
        if value != wanted:
            found.append(f"model.{place} is {value!r} instead of {wanted!r}")
    for half in ("encoder", "decoder"):
        channels = _at(released, f"model.{half}.config.channels", None)
        for index, factor in enumerate(_at(released, f"model.{half}.config.c_mults", None) or [None]):
            if channels is None or factor is None or channels * factor != config.hidden_size:
                found.append(
                    f"model.{half}.config.c_mults[{index}] is {factor!r}, which with {channels!r} channels does not "
                    f"give the width {config.hidden_size}"
                )
    return found


def _wanted(config: TAAEConfig) -> list[tuple[str, Any, Any]]:
    """Path below `model`, value of our network, and default of an absent entry."""
    missing = None
    both: list[tuple[str, Any, Any]] = [
        ("strides", list(config.strides), missing),
        ("transformer_depths", list(config.depths), missing),
        ("latent_dim", len(config.levels), missing),
        ("use_snake", False, False),
        ("conformer", False, False),
        ("use_dilated_conv", False, False),
        ("layer_scale", True, True),
        ("sliding_window", list(config.attention_window), [63, 64]),
    ]
    halves = [
        (f"{half}.config.{name}", value, absent) for half in ("encoder", "decoder") for name, value, absent in both
    ]
    return [
        *halves,
        ("encoder.config.in_channels", config.patch_size, missing),
        ("decoder.config.out_channels", config.patch_size, missing),
        ("decoder.config.soft_clip", False, False),
        ("decoder.soft_clip", False, False),
        ("pretransform.type", "patched", missing),
        ("pretransform.config.patch_size", config.patch_size, missing),
        ("bottleneck.type", "dithered_fsq", missing),
        ("bottleneck.config.dim", len(config.levels), missing),
        ("downsampling_ratio", config.hop_length, missing),
    ]


def _at(tree: Any, place: str, default: Any) -> Any:
    for name in place.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return default
        tree = tree[name]
    return tree
