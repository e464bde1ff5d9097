"""The codecs in transformers' Auto classes: registered, and their `from_pretrained` takes bare preset names.

Nothing of transformers is imported here: its Auto modules are prepared when the user's code first imports them. That
keeps `import l3ac_tokenizer` as light as `import transformers` itself.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from .hub import takes_bundled_names

if TYPE_CHECKING:
    from .configuration import CodecConfig

_AUTO = "transformers.models.auto."
_LAYERS = "transformers.modeling_layers"
_MODULES = {_LAYERS} | {
    _AUTO + module
    for module in (
        "configuration_auto",
        "feature_extraction_auto",
        "modeling_auto",
        "processing_auto",
        "tokenization_auto",
    )
}

_waiting: list[ModuleType] = []
"""The module of the Auto models, where it is imported by the layers of transformers, which our models need first."""


def install() -> None:
    """Register the codecs with transformers' Auto classes and let them take bare names.

    Auto modules that are loaded already are prepared now, the others right after their import. Calling it
    again changes nothing.
    """
    if any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AutoModuleFinder())
    for name in sorted(_MODULES & sys.modules.keys()):
        _prepare(sys.modules[name])


class _AutoModuleFinder(importlib.abc.MetaPathFinder):
    """Finds the Auto modules where they are, and has each prepared once its own code has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _prepare(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _configurations() -> list[type[CodecConfig]]:
    """That of each family."""
    from .configuration import L3ACConfig
    from .configuration_taae import TAAEConfig

    return [L3ACConfig, TAAEConfig]


def _register_models(module: ModuleType) -> None:
    from .modeling.l3ac.model import L3ACModel
    from .modeling.taae.model import TAAEModel

    for model in (L3ACModel, TAAEModel):
        module.AutoModel.register(model.config_class, model)
        module.AutoModelForAudioTokenization.register(model.config_class, model)


def _prepare(module: ModuleType) -> None:
    """Register our classes in an Auto module, and wrap the `from_pretrained` of each Auto class in it."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__ and "from_pretrained" in vars(value):
            takes_bundled_names(value)
    if module.__name__ == _AUTO + "configuration_auto":
        for config in _configurations():
            module.AutoConfig.register(config.model_type, config)
    elif module.__name__ == _AUTO + "feature_extraction_auto":
        from .feature_extraction import CodecFeatureExtractor

        for config in _configurations():
            module.AutoFeatureExtractor.register(config, CodecFeatureExtractor)
    elif module.__name__ == _AUTO + "modeling_auto":
        if _LAYERS in sys.modules and not hasattr(sys.modules[_LAYERS], "GradientCheckpointingLayer"):
            _waiting.append(module)
        else:
            _register_models(module)
    elif module.__name__ == _LAYERS:
        while _waiting:
            _register_models(_waiting.pop())
    elif module.__name__ == _AUTO + "processing_auto":
        from .processing import L3ACProcessor

        # Found by its name in processor_config.json. Not registered for `L3ACConfig`: the folder of a codec alone has
        # no tokenizer, and `AutoProcessor` gives its feature extractor.
        module.AutoProcessor.register(L3ACProcessor, L3ACProcessor)
