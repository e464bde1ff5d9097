"""Loading the model that `--model` names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..modeling import CodecModel


def load_model(name: str, device: str = "cpu") -> CodecModel:
    """Load a preset with bundled weights, or a checkpoint directory, for inference.

    Raises:
        ValueError: there is no such preset, directory or device, or the directory has no model that can be loaded.
        OSError: the preset has no bundled weights.
    """
    from ..hub import resolve, suggest
    from ..presets import PRESETS

    if not os.path.isdir(name) and name not in PRESETS:
        nearest = suggest(name)
        hint = f"did you mean {nearest}?" if nearest else "`l3ac models` lists the presets."
        raise ValueError(f"there is no preset or model directory named {name!r}; {hint}")
    directory = resolve(name)

    from transformers.utils import logging

    from ..modeling import CodecModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = CodecModel.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # json, safetensors and torch each raise their own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{name} holds no model that can be loaded ({reason}): give another directory.") from error
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the device {device!r} cannot be used ({reason}): choose cpu or cuda.") from error


def model_name(name: str) -> str:
    """Name of a model in `.l3ac` files: the preset, or the last part of the directory's path."""
    return os.path.basename(os.path.abspath(name))
