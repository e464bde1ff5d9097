"""Published state dicts → our model: the files, which tensor goes where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from l3ac_tokenizer import CodecModel, L3ACConfig, TAAEConfig, preset_config
from l3ac_tokenizer.configuration import CodecConfig
from l3ac_tokenizer.conversion import l3ac_names as published_names
from l3ac_tokenizer.conversion import taae_names as published_names_taae
from l3ac_tokenizer.conversion.entries import Published, StateDicts
from l3ac_tokenizer.conversion.released_config import differences

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")


class ConversionError(ValueError):
    """The given state is not that of the preset's network."""


def published_state(config: CodecConfig, model: nn.Module) -> Published:
    """The tensors that a network was published as, and where they belong in our model."""
    if isinstance(config, TAAEConfig):
        return published_names_taae.published(config, model)
    assert isinstance(config, L3ACConfig)
    return published_names.published(config, model)


def convert_state_dicts(preset: str, state_dicts: StateDicts) -> CodecModel:
    """Build our model from the published state.

    Args:
        preset: Name of a published network, e.g. `"l3ac-1k"`.
        state_dicts: File → name → tensor: the five published files, or for TAAE the one, `model`.

    Raises:
        ConversionError: A key is missing, unknown, of another shape or not the constant it must be; all such keys are
            named.
        ValueError: There is no such preset.
    """
    config = preset_config(preset)
    model = AutoModel.from_config(config).eval()
    published = published_state(config, model)
    problems = published.problems(state_dicts)
    if problems:
        raise ConversionError(f"These weights are not those of {preset}: {'; '.join(problems)}.")
    published.load(model, state_dicts)
    return model


def read_state_dicts(folder: Path, preset: str) -> dict[str, dict[str, Tensor]]:
    """Read the published files of a preset from a folder without running any code in them.

    Raises:
        ConversionError: The folder's `model_config.json` describes another network.
        OSError: A file is missing or not a plain state dict.
    """
    config = preset_config(preset)
    if isinstance(config, TAAEConfig):
        different = differences(_read_json(folder / "model_config.json"), config)
        if different:
            raise ConversionError(f"{folder / 'model_config.json'} is not that of {preset}: {'; '.join(different)}.")
        modules: tuple[str, ...] = (published_names_taae.MODULE,)
    else:
        modules = published_names.MODULES
    return {module: _read_tensors(folder, module) for module in modules}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise OSError(f"{path} is no JSON ({error}); fetch it again.") from error


def _read_tensors(folder: Path, module: str) -> dict[str, Tensor]:
    found = [path for suffix in SUFFIXES if (path := folder / f"{module}{suffix}").is_file()]
    if not found:
        raise OSError(f"There is no {module} ({', '.join(SUFFIXES)}) in {folder}; all published files are needed.")
    try:
        if found[0].suffix == ".safetensors":
            return load_file(found[0])
        state = torch.load(found[0], map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except Exception as error:
        raise OSError(
            f"{found[0]} is not a plain file of tensors ({type(error).__name__}); nothing was run."
        ) from error
