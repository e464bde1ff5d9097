"""Loading of the model named by `--model`: a bundled name, a checkpoint directory, or a hub name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..modeling import CodecEncoderModel, CodecModel

    _Model = TypeVar("_Model", CodecModel, CodecEncoderModel)


def level_of(model: str, lufs: float | str | None) -> float | None:
    """The loudness to which clips are leveled: that of `--lufs` or, without it, of the model's feature extractor.

    Raises:
        ValueError: `preprocessor_config.json` of the model cannot be read; or see `load_model`.
    """
    if not isinstance(lufs, str):
        return lufs
    from ..causes import with_causes
    from ..feature_extraction import stored_level
    from ..hub import checkpoint_folder

    folder = checkpoint_folder(model)
    try:
        return stored_level(folder)
    except Exception as error:  # json and the classes of transformers each raise their own
        raise ValueError(
            f"{model} has a preprocessor_config.json that cannot be read ({with_causes(error)}): give --lufs."
        ) from error


def load_model(name: str, device: str = "cpu") -> CodecModel:
    """Load the codec of a preset with bundled weights, a checkpoint directory, or the hub, for inference.

    Raises:
        ValueError: `name` is none of these, the directory has no readable model, or the device cannot be used.
        OSError: The preset has no bundled weights.
    """
    from ..modeling import CodecModel

    return _load(CodecModel, name, device)


def load_encoder(name: str, device: str = "cpu") -> CodecEncoderModel:
    """Load the encoder alone, see `load_model`."""
    from ..modeling import CodecEncoderModel

    return _load(CodecEncoderModel, name, device)


def _load(kind: type[_Model], name: str, device: str) -> _Model:
    from ..causes import with_causes
    from ..hub import checkpoint_folder, is_hub_name

    directory = checkpoint_folder(name)

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        load: Any = kind.from_pretrained
        model = load(directory, local_files_only=True)
    except Exception as error:  # json, safetensors and torch each raise their own
        raise ValueError(
            f"{name} does not hold a model that can be loaded ({with_causes(error)}): give another directory."
        ) from error
    if is_hub_name(name):
        model.name_or_path = name  # not the folder of the cache
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} cannot be used ({with_causes(error)}): choose cpu or cuda.") from error
