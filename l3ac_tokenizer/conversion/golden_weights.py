"""Deterministic weights behind the golden files: normal numbers seeded by the name of each published tensor."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from ..families import preset_config
from ..presets import TAAE_PRESETS
from .convert import published_state


def deterministic_tensor(name: str, shape: tuple[int, ...], gamma_mean: float = 0.0) -> Tensor:
    """Return the values of a published tensor, seeded by the CRC-32 of its name.

    Args:
        name: `preset/module.name`, or `preset/name` for TAAE.
        shape: Shape of the tensor.
        gamma_mean: Mean of tensors called `gamma`: 0 in L3AC, where gamma is a small deviation, and 1 in TAAE, where it
            is the scale of a norm.
    """
    seed = zlib.crc32(name.encode())
    u = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    part = name.rsplit(".", 1)[-1]
    if part in ("original0", "weight_g") or (part == "weight" and len(shape) == 1):
        values = 1 + 0.1 * u
    elif part in ("original1", "weight_v"):
        values = u
    elif part == "scale":
        values = 0.3 + 0.1 * u
    elif part == "alpha":
        values = np.exp(0.3 * u)
    elif part == "gamma":
        values = 1 + 0.1 * u if gamma_mean else 0.2 * u
    elif part in ("beta", "bias"):
        values = 0.05 * u
    elif name.endswith("dynamic_pos_bias.mlp.0.weight"):
        values = 0.02 * u
    else:
        values = u / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values)).float()


def deterministic_state(preset: str, golden: dict[str, Tensor] | None = None) -> dict[str, dict[str, Tensor]]:
    """Return a complete published state, file → name → tensor, with the `override.*` tensors of a golden file."""
    config = preset_config(preset)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    published = published_state(config, model)
    of_taae = preset in TAAE_PRESETS
    state = {
        module: {
            name: deterministic_tensor(f"{preset}/{name}" if of_taae else f"{preset}/{module}.{name}", shape, of_taae)
            for name, shape in names.items()
        }
        | published.constants.get(module, {})
        for module, names in published.shapes.items()
    }
    for key, value in (golden or {}).items():
        if key.startswith("override."):
            place = key.removeprefix("override.")
            module, name = ("model", place) if of_taae else place.split(".", 1)
            state[module][name] = value
    return state
