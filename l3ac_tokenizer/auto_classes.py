"""Registration of the codecs with transformers' Auto classes, which then also accept bare preset names.

This module imports nothing from transformers: each Auto module is prepared when user code first imports it. That keeps
`import l3ac_tokenizer` as light as `import transformers` itself.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from .hub import takes_bundled_names

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
"""The module of AutoModel while transformers' layers, which our models need, are still being imported."""


def install() -> None:
    """Register the codecs with transformers' Auto classes and let these accept bare preset names.

    Auto modules that are already loaded are prepared now, the others right after their import. Calling this function
    again has no effect.
    """
    if any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AutoModuleFinder())
    for name in sorted(_MODULES & sys.modules.keys()):
        _prepare(sys.modules[name])


class _AutoModuleFinder(importlib.abc.MetaPathFinder):
    """Import hook that prepares each Auto module once its own code has run."""

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


def _register_models(module: ModuleType) -> None:
    from .extended_lm import ExtendedCausalLM
    from .modeling.l3ac.model import L3ACModel
    from .modeling.taae.model import TAAEModel

    for model in (L3ACModel, TAAEModel):
        module.AutoModel.register(model.config_class, model)
        module.AutoModelForAudioTokenization.register(model.config_class, model)
    module.AutoModelForCausalLM.register(ExtendedCausalLM.config_class, ExtendedCausalLM)


def _prepare(module: ModuleType) -> None:
    """Register our classes in an Auto module, and wrap the `from_pretrained` of each Auto class in it."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__ and "from_pretrained" in vars(value):
            takes_bundled_names(value)
    if module.__name__ == _AUTO + "configuration_auto":
        from .configuration_extended_lm import ExtendedCausalLMConfig
        from .families import CONFIGURATIONS

        for config in CONFIGURATIONS:
            module.AutoConfig.register(config.model_type, config)
        module.AutoConfig.register(ExtendedCausalLMConfig.model_type, ExtendedCausalLMConfig)
    elif module.__name__ == _AUTO + "feature_extraction_auto":
        from .families import CONFIGURATIONS
        from .feature_extraction import CodecFeatureExtractor

        for config in CONFIGURATIONS:
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

        # Found by its name in processor_config.json. Not registered for `L3ACConfig`: the directory of a codec alone
        # has no tokenizer, and `AutoProcessor` returns its feature extractor.
        module.AutoProcessor.register(L3ACProcessor, L3ACProcessor)
