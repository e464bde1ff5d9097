"""Codec families: their configuration classes, and configurations of presets by name."""

from __future__ import annotations

from typing import Any

from .configuration import CodecConfig, L3ACConfig
from .configuration_taae import TAAEConfig
from .presets import FAMILIES, OWN_PRESETS, PRESETS

CONFIGURATIONS: tuple[type[CodecConfig], ...] = (L3ACConfig, TAAEConfig)
"""Configuration class of each family."""


def preset_config(name: str, **overrides: Any) -> CodecConfig:
    """Return the configuration of a preset of any family; `overrides` replace its values.

    Raises:
        ValueError: No preset is named `name`.
    """
    for configuration in CONFIGURATIONS:
        if name in FAMILIES[configuration.model_type]:
            return configuration.from_preset(name, **overrides)
    raise ValueError(f"{name!r} is not a preset; choose one of {', '.join(PRESETS)}.")


def published_config(name: str) -> CodecConfig:
    """Return the configuration of a preset whose weights were published with a paper.

    Raises:
        ValueError: No preset is named `name`, or it is of a network of this package only.
    """
    if name in OWN_PRESETS:
        raise ValueError(
            f"{name!r} is a network of this package without published weights; choose one of "
            f"{', '.join(preset for preset in PRESETS if preset not in OWN_PRESETS)}."
        )
    return preset_config(name)
