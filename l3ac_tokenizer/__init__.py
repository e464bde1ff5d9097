"""L3AC and TAAE, neural audio codecs as Hugging Face audio tokenizers: audio to ids and back.

Importing this package registers both with transformers' Auto classes. Names are imported on first use, because
importing transformers' model code takes a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import auto_classes
from .lazy import lazy_names
from .version import __version__

if TYPE_CHECKING:
    from .acoustic_bpe import AcousticBPE
    from .configuration import L3ACConfig
    from .configuration_taae import TAAEConfig
    from .extended_lm import ExtendedCausalLM, extend_causal_lm
    from .families import preset_config
    from .feature_extraction import CodecFeatureExtractor
    from .generation import AudioLogitsProcessor, AudioStreamer
    from .language_model import FSQEmbedding, FSQHead
    from .modeling import CodecDecoderOutput, CodecEncoderOutput, CodecModel, CodecOutput, L3ACModel, TAAEModel
    from .processing import L3ACProcessor
    from .quantization import join_ids, split_ids
    from .streaming import StreamingDecoder, StreamingEncoder

_HOME = {
    "AcousticBPE": "acoustic_bpe",
    "AudioLogitsProcessor": "generation",
    "AudioStreamer": "generation",
    "CodecModel": "modeling",
    "ExtendedCausalLM": "extended_lm",
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
    "extend_causal_lm": "extended_lm",
    "join_ids": "quantization",
    "preset_config": "families",
    "split_ids": "quantization",
}

__all__ = [
    "AcousticBPE",
    "AudioLogitsProcessor",
    "AudioStreamer",
    "CodecDecoderOutput",
    "CodecEncoderOutput",
    "CodecFeatureExtractor",
    "CodecModel",
    "CodecOutput",
    "ExtendedCausalLM",
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
    "extend_causal_lm",
    "join_ids",
    "preset_config",
    "split_ids",
]


__getattr__ = lazy_names(__name__, _HOME)


auto_classes.install()
