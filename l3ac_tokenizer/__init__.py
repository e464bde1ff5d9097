"""L3AC and TAAE: audio to one stream of ids and back, as a Hugging Face audio tokenizer.

Importing this package registers both with transformers' Auto classes. Names are imported when they are first used:
the model code of transformers takes a second, which `import l3ac_tokenizer` does not cost.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import auto_classes
from .version import __version__

if TYPE_CHECKING:
    from .acoustic_bpe import AcousticBPE
    from .configuration import L3ACConfig
    from .configuration_taae import TAAEConfig
    from .feature_extraction import CodecFeatureExtractor
    from .hub import preset_config
    from .language_model import FSQEmbedding, FSQHead
    from .modeling import CodecDecoderOutput, CodecEncoderOutput, CodecModel, CodecOutput, L3ACModel, TAAEModel
    from .processing import L3ACProcessor
    from .quantization import join_ids, split_ids
    from .streaming import StreamingDecoder, StreamingEncoder

_HOME = {
    "AcousticBPE": "acoustic_bpe",
    "CodecModel": "modeling",
    "FSQEmbedding": "language_model",
    "FSQHead": "language_model",
    "L3ACConfig": "configuration",
    "CodecDecoderOutput": "modeling",
    "CodecEncoderOutput": "modeling",
    "CodecFeatureExtractor": "feature_extraction",
    "L3ACModel": "modeling",
    "CodecOutput": "modeling",
    "L3ACProcessor": "processing",
    "StreamingDecoder": "streaming",
    "StreamingEncoder": "streaming",
    "TAAEConfig": "configuration_taae",
    "TAAEModel": "modeling",
    "join_ids": "quantization",
    "preset_config": "hub",
    "split_ids": "quantization",
}

__all__ = [
    "AcousticBPE",
    "CodecDecoderOutput",
    "CodecEncoderOutput",
    "CodecFeatureExtractor",
    "CodecModel",
    "CodecOutput",
    "FSQEmbedding",
    "FSQHead",
    "L3ACConfig",
    "L3ACModel",
    "L3ACProcessor",
    "StreamingDecoder",
    "StreamingEncoder",
    "TAAEConfig",
    "TAAEModel",
    "__version__",
    "join_ids",
    "preset_config",
    "split_ids",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


auto_classes.install()
