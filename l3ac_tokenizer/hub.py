"""Checkpoints by name: a bare preset name such as `"l3ac-1k-light"` stands for a checkpoint directory in this package.

A name such as `"l3ac-1k-published"` stands for the directory into which `l3ac download l3ac-1k` converted the published
weights. The name is replaced by that directory before transformers sees it, so loading it sends no request, with or
without a network. All other names pass unchanged. As in transformers, a checkpoint of the same name in the working
directory takes precedence, which is logged once; a folder without a configuration, e.g. of output files, hides nothing.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from pathlib import Path
from typing import Any, TypeVar

from .causes import shortened, with_causes
from .parsing import parse_json
from .presets import PRESETS
from .published import PUBLISHED, SUFFIX, downloaded_folder, preset_of

CHECKPOINTS = Path(__file__).parent / "checkpoints"

DEFAULT_MODEL = "l3ac-1k-light"
"""Model of commands and of the page where none is named."""

_CONFIGURATIONS = {"AutoProcessor": "processor_config.json", "AutoTokenizer": "tokenizer_config.json"}
"""Auto class → the configuration that it loads from a folder, where it is not that of a model."""

_CHECKED = ("config.json", "preprocessor_config.json", "processor_config.json")

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_Class = TypeVar("_Class", bound=type)


def bundled_presets() -> list[str]:
    """Presets whose weights come with this package, in the order of `PRESETS`."""
    return [name for name in PRESETS if (CHECKPOINTS / name / "model.safetensors").is_file()]


def resolve(name: Any, configuration: str = "config.json") -> Any:
    """Replace the name of bundled or downloaded weights by their directory; return anything else unchanged.

    Args:
        name: The argument of `from_pretrained`.
        configuration: File that makes a folder of that name in the working directory a checkpoint.

    Raises:
        OSError: `name` is a preset without bundled weights, or of published weights that were not downloaded.
    """
    if not is_name(name):
        return name
    if os.path.isfile(os.path.join(name, configuration)):
        from transformers.utils import logging

        logging.get_logger(__name__).warning_once(
            f"{os.path.abspath(name)} holds a checkpoint and is used instead of the {_origin(name)} {name}; load "
            "another directory, or rename this one, to use that."
        )
        return name
    if preset := preset_of(name):
        return downloaded_folder(preset)
    if name not in bundled_presets():
        published = (
            f"download the published weights (`l3ac download {name}`, then load {name + SUFFIX!r}), or "
            if name in PUBLISHED
            else ""
        )
        raise OSError(
            f"The preset {name!r} has no bundled weights (bundled: {', '.join(bundled_presets()) or 'none'}): "
            f"{published}train it (`l3ac train --config {name}`) and load the resulting directory; "
            f"`l3ac_tokenizer.preset_config({name!r})` gives the configuration alone."
        )
    return str(CHECKPOINTS / name)


def is_name(name: Any) -> bool:
    """Whether `name` is a preset, or the name of its published weights."""
    return isinstance(name, str) and (name in PRESETS or preset_of(name) is not None)


def _origin(name: str) -> str:
    return "bundled" if preset_of(name) is None else "downloaded"


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of the hub's, `owner/name`, and is not a path."""
    return _HUB_NAME.fullmatch(name) is not None and not os.path.exists(name)


def model_name(name: str) -> str:
    """Name of a model in its ids' metadata: the preset, the hub name, or the last part of a directory's path."""
    return name if is_hub_name(name) else os.path.basename(os.path.abspath(name))


def checkpoint_folder(name: str) -> str:
    """The checkpoint directory of a name (see `resolve`), a directory, or a hub name, whose files are fetched.

    Raises:
        ValueError: `name` has none of these forms, or the hub does not give it.
        OSError: See `resolve`.
    """
    if os.path.isdir(name) or is_name(name):
        return str(resolve(name))
    if not is_hub_name(name):
        nearest = suggest(name)
        hint = f"did you mean {nearest}?" if nearest else "`l3ac models` lists the presets."
        raise ValueError(f"{name!r} is neither a preset nor a checkpoint directory nor a hub name (owner/name); {hint}")
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "README.md"]))
    except Exception as error:  # the HTTP library, and so its errors, depend on the version
        raise ValueError(
            f"{name!r} is not a directory, and the hub did not give it ({with_causes(error)}): check the name, the "
            "network and HF_HUB_OFFLINE, and log in with `hf auth login` where it is private."
        ) from error


def refuse_remote_code(cls: type) -> None:
    """Refuse `register_for_auto_class`, which would upload the file of a class without those that it imports.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"{cls.__name__} is not uploaded as code of a repository: save and push it as it is, and whoever loads it "
        "writes `import l3ac_tokenizer` (pip install l3ac-tokenizer) before `from_pretrained` of an Auto class."
    )


def suggest(name: str) -> str | None:
    """Return the preset or published name closest to a mistyped one, or None if none is close."""
    names = [*PRESETS, *(preset + SUFFIX for preset in PUBLISHED)]
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def takes_bundled_names(cls: _Class) -> _Class:
    """Class decorator: `cls.from_pretrained` also accepts bare preset names (see [`resolve`]).

    Configurations of a folder that are no JSON objects are a ValueError, whatever transformers makes of them.
    """
    original = cls.from_pretrained.__func__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def from_pretrained(cls: type, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        configuration = _CONFIGURATIONS.get(cls.__name__, "config.json")
        name = resolve(pretrained_model_name_or_path, configuration)
        _check_configurations(name)
        return original(cls, name, *args, **kwargs)

    cls.from_pretrained = classmethod(from_pretrained)  # type: ignore[attr-defined]
    return cls


def _check_configurations(name: Any) -> None:
    import torch

    if not isinstance(name, (str, os.PathLike)):
        return
    for path in (Path(name) / configuration for configuration in _CHECKED):
        if path.is_file():
            try:
                values = parse_json(path.read_bytes())
                wrong = None if isinstance(values, dict) else "it is not a JSON object"
                for key in ("dtype", "torch_dtype"):
                    dtype = values.get(key) if wrong is None else None
                    if isinstance(dtype, str) and not isinstance(getattr(torch, dtype, None), torch.dtype):
                        wrong = f"its {key} is {shortened(dtype, 80)!r}"
            except ValueError as error:
                wrong = shortened(str(error), 200).rstrip(".")
            if wrong:
                raise ValueError(f"{path} is not a configuration ({wrong}): copy or make it again.")
