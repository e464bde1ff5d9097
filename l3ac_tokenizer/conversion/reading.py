"""Reading of published weight files as plain state dicts, without running any code in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..causes import with_causes
from ..configuration_taae import TAAEConfig
from ..families import published_config
from . import l3ac_names, taae_names
from .released_config import differences

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")


class ConversionError(ValueError):
    """The published files do not describe the network of the preset."""


def read_state_dicts(folder: Path, preset: str) -> dict[str, dict[str, Tensor]]:
    """Read the published files of a preset from a folder.

    Returns:
        File (without suffix) → name → tensor.

    Raises:
        ConversionError: The folder's `model_config.json` describes another network.
        ValueError: `preset` is not a preset with published weights.
        OSError: A file is missing or is not a plain state dict.
    """
    config = published_config(preset)
    if isinstance(config, TAAEConfig):
        path = folder / "model_config.json"
        different = differences(_read_json(path), config)
        if different:
            raise ConversionError(f"{path} does not describe {preset}: {'; '.join(different)}; give another preset.")
        modules: tuple[str, ...] = (taae_names.MODULE,)
    else:
        modules = l3ac_names.MODULES
    return {module: _read_tensors(folder, module) for module in modules}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{path} is not valid JSON ({error}); download it again.") from error


def _read_tensors(folder: Path, module: str) -> dict[str, Tensor]:
    found = [path for suffix in SUFFIXES if (path := folder / f"{module}{suffix}").is_file()]
    if not found:
        raise OSError(f"{folder} has no file {module} ({', '.join(SUFFIXES)}); give a folder with all published files.")
    try:
        if found[0].suffix == ".safetensors":
            return load_file(found[0])
        state = torch.load(found[0], map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except Exception as error:
        raise OSError(
            f"{found[0]} is not a plain file of tensors ({type(error).__name__}: {with_causes(error)}); no code "
            "in it was run. "
            "Download it again."
        ) from error
