"""Bare preset names: the one place that touches how transformers finds and loads a model.

`import l3ac_tokenizer` calls [`install`], after which the Auto classes know L3AC and every `from_pretrained`
takes `"l3ac-1k"` for the checkpoint inside this package. The name becomes that directory before transformers
sees it, so what loads is an ordinary local folder: no request, with or without a network. Every other name is
passed on untouched; so is a file or folder of that name in the working directory, which wins, as it does in
transformers.

Nothing of transformers is imported here: its Auto modules are prepared when the user's code first imports
them. That keeps `import l3ac_tokenizer` as light as `import transformers` itself.
"""

from __future__ import annotations

import difflib
import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .presets import PRESETS

CHECKPOINTS = Path(__file__).parent / "checkpoints"

_AUTO = "transformers.models.auto."
_AUTO_MODULES = {
    _AUTO + module
    for module in (
        "configuration_auto",
        "feature_extraction_auto",
        "modeling_auto",
        "processing_auto",
        "tokenization_auto",
    )
}

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
            f"`L3ACConfig.from_preset({name!r})` gives the configuration alone."
        )
    return str(CHECKPOINTS / name)


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


def install() -> None:
    """Register L3AC with transformers' Auto classes and let them take bare names.

    Auto modules that are loaded already are prepared now, the others right after their import. Calling it
    again changes nothing.
    """
    if any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AutoModuleFinder())
    for name in sorted(_AUTO_MODULES & sys.modules.keys()):
        _prepare(sys.modules[name])


class _AutoModuleFinder(importlib.abc.MetaPathFinder):
    """Finds the Auto modules where they are, and has each prepared once its own code has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _AUTO_MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _prepare(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _prepare(module: ModuleType) -> None:
    """Register our class in an Auto module, and wrap the `from_pretrained` of each Auto class in it."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__ and "from_pretrained" in vars(value):
            takes_bundled_names(value)
    if module.__name__ == _AUTO + "configuration_auto":
        from .configuration import L3ACConfig

        module.AutoConfig.register(L3ACConfig.model_type, L3ACConfig)
    elif module.__name__ == _AUTO + "feature_extraction_auto":
        from .configuration import L3ACConfig
        from .feature_extraction import L3ACFeatureExtractor

        module.AutoFeatureExtractor.register(L3ACConfig, L3ACFeatureExtractor)
    elif module.__name__ == _AUTO + "modeling_auto":
        from .configuration import L3ACConfig
        from .modeling import L3ACModel

        module.AutoModel.register(L3ACConfig, L3ACModel)
        module.AutoModelForAudioTokenization.register(L3ACConfig, L3ACModel)
    elif module.__name__ == _AUTO + "processing_auto":
        from .processing import L3ACProcessor

        # Found by its name in processor_config.json. Not registered for `L3ACConfig`: the folder of a codec alone has
        # no tokenizer, and `AutoProcessor` gives its feature extractor.
        module.AutoProcessor.register(L3ACProcessor, L3ACProcessor)
