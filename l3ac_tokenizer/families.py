"""Codec families: the configuration of any preset by its name."""

from __future__ import annotations

from typing import Any

from .configuration import CodecConfig, L3ACConfig
from .configuration_taae import TAAEConfig
from .presets import FAMILIES, PRESETS

CONFIGURATIONS: tuple[type[CodecConfig], ...] = (L3ACConfig, TAAEConfig)
"""The configuration class of each family."""


def preset_config(name: str, **overrides: Any) -> CodecConfig:
    """Configuration of a preset of any family; `overrides` replace its values.

    Raises:
        ValueError: No preset is named `name`.
    """
    for configuration in CONFIGURATIONS:
        if name in FAMILIES[configuration.model_type]:
            return configuration.from_preset(name, **overrides)
    raise ValueError(f"{name!r} is not a preset; choose one of {', '.join(PRESETS)}.")
