"""Bare preset names: `"l3ac-1k"` becomes the checkpoint directory inside this package.

The name becomes that directory before transformers sees it, so what loads is an ordinary local folder: no request,
with or without a network. Every other name is passed on untouched; so is a file or folder of that name in the working
directory, which wins, as it does in transformers.
"""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .presets import FAMILIES, PRESETS

if TYPE_CHECKING:
    from .configuration import CodecConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"

_Class = TypeVar("_Class", bound=type)


def bundled_presets() -> list[str]:
    """Presets whose weights come with this package, in the order of `PRESETS`."""
    return [name for name in PRESETS if (CHECKPOINTS / name / "model.safetensors").is_file()]


def resolve(name: Any) -> Any:
    """The bundled directory of a bare preset name; anything else unchanged.

    Args:
        name: what was given to `from_pretrained`.

    Raises:
        OSError: `name` is a preset without bundled weights.
    """
    if not isinstance(name, str) or name not in PRESETS or os.path.exists(name):
        return name
    if name not in bundled_presets():
        raise OSError(
            f"The preset {name!r} has no bundled weights ({', '.join(bundled_presets()) or 'none'} has): "
            "train it with recipes/train_codec.py or convert the published weights with "
            "hf_integration/convert_checkpoint.py, then load the folder made; "
            f"`l3ac_tokenizer.preset_config({name!r})` gives the configuration alone."
        )
    return str(CHECKPOINTS / name)


def preset_config(name: str, **overrides: Any) -> CodecConfig:
    """The configuration of a preset of any family; `overrides` replace its values.

    Raises:
        ValueError: there is no such preset.
    """
    from transformers import AutoConfig

    for model_type, presets in FAMILIES.items():
        if name in presets:
            return AutoConfig.for_model(model_type, **{**presets[name], **overrides})  # type: ignore[return-value]
    raise ValueError(f"There is no preset {name!r}; the presets are {', '.join(PRESETS)}.")


def suggest(name: str) -> str | None:
    """The preset whose name is nearest to a mistyped one, or None where none is near."""
    return next(iter(difflib.get_close_matches(name, PRESETS, n=1)), None)


def takes_bundled_names(cls: _Class) -> _Class:
    """Class decorator: `cls.from_pretrained` also takes bare preset names (see [`resolve`])."""
    original = cls.from_pretrained.__func__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def from_pretrained(cls: type, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        return original(cls, resolve(pretrained_model_name_or_path), *args, **kwargs)

    cls.from_pretrained = classmethod(from_pretrained)  # type: ignore[attr-defined]
    return cls
