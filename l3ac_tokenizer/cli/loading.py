"""Loading of the model named by `--model`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..modeling import CodecModel


def load_model(name: str, device: str = "cpu") -> CodecModel:
    """Load a preset with bundled weights, or a checkpoint directory, for inference.

    Raises:
        ValueError: `name` is neither a preset nor a directory, the directory has no readable model, or the device
            cannot be used.
        OSError: The preset has no bundled weights.
    """
    from ..causes import with_causes
    from ..hub import resolve, suggest
    from ..presets import PRESETS

    if not os.path.isdir(name) and name not in PRESETS:
        nearest = suggest(name)
        hint = f"did you mean {nearest}?" if nearest else "`l3ac models` lists the presets."
        raise ValueError(f"{name!r} is neither a preset nor a checkpoint directory; {hint}")
    directory = resolve(name)

    from transformers.utils import logging

    from ..modeling import CodecModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = CodecModel.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # json, safetensors and torch each raise their own
        raise ValueError(
            f"{name} does not hold a model that can be loaded ({with_causes(error)}): give another directory."
        ) from error
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} cannot be used ({with_causes(error)}): choose cpu or cuda.") from error


def model_name(name: str) -> str:
    """Return the name of a model in `.l3ac` files: the preset, or the last part of the directory's path."""
    return os.path.basename(os.path.abspath(name))
