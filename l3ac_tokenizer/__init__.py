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
    from .audio import read_audio
    from .configuration import L3ACConfig
    from .configuration_taae import TAAEConfig
    from .container import read_l3ac
    from .conversion.download import download
    from .evaluation.evaluate import EvaluationResult, evaluate
    from .extended_lm import ExtendedCausalLM, extend_causal_lm
    from .families import preset_config
    from .feature_extraction import CodecFeatureExtractor
    from .generation import AudioLogitsProcessor, AudioStreamer
    from .inference import EncodedClip, decode_clips, encode_clips, encode_files
    from .language_model import FSQEmbedding, FSQHead
    from .modeling import (
        CodecDecoderOutput,
        CodecEncoderModel,
        CodecEncoderOutput,
        CodecModel,
        CodecOutput,
        L3ACEncoderModel,
        L3ACModel,
        TAAEEncoderModel,
        TAAEModel,
    )
    from .processing import L3ACProcessor
    from .quantization import join_ids, split_ids
    from .streaming import StreamingDecoder, StreamingEncoder
    from .tokenization.encoding import ClipEncoder
    from .tokenization.packing import PackedCorpus
    from .training.train import train

_HOME = {
    "AcousticBPE": "acoustic_bpe",
    "AudioLogitsProcessor": "generation",
    "AudioStreamer": "generation",
    "ClipEncoder": "tokenization.encoding",
    "CodecDecoderOutput": "modeling",
    "CodecEncoderModel": "modeling",
    "CodecEncoderOutput": "modeling",
    "CodecFeatureExtractor": "feature_extraction",
    "CodecModel": "modeling",
    "CodecOutput": "modeling",
    "EncodedClip": "inference",
    "EvaluationResult": "evaluation.evaluate",
    "ExtendedCausalLM": "extended_lm",
    "FSQEmbedding": "language_model",
    "FSQHead": "language_model",
    "L3ACConfig": "configuration",
    "L3ACEncoderModel": "modeling",
    "L3ACModel": "modeling",
    "L3ACProcessor": "processing",
    "PackedCorpus": "tokenization.packing",
    "StreamingDecoder": "streaming",
    "StreamingEncoder": "streaming",
    "TAAEConfig": "configuration_taae",
    "TAAEEncoderModel": "modeling",
    "TAAEModel": "modeling",
    "decode_clips": "inference",
    "download": "conversion.download",
    "encode_clips": "inference",
    "encode_files": "inference",
    "evaluate": "evaluation.evaluate",
    "extend_causal_lm": "extended_lm",
    "join_ids": "quantization",
    "preset_config": "families",
    "read_audio": "audio",
    "read_l3ac": "container",
    "split_ids": "quantization",
    "train": "training.train",
}

__all__ = [
    "AcousticBPE",
    "AudioLogitsProcessor",
    "AudioStreamer",
    "ClipEncoder",
    "CodecDecoderOutput",
    "CodecEncoderModel",
    "CodecEncoderOutput",
    "CodecFeatureExtractor",
    "CodecModel",
    "CodecOutput",
    "EncodedClip",
    "EvaluationResult",
    "ExtendedCausalLM",
    "FSQEmbedding",
    "FSQHead",
    "L3ACConfig",
    "L3ACEncoderModel",
    "L3ACModel",
    "L3ACProcessor",
    "PackedCorpus",
    "StreamingDecoder",
    "StreamingEncoder",
    "TAAEConfig",
    "TAAEEncoderModel",
    "TAAEModel",
    "__version__",
    "decode_clips",
    "download",
    "encode_clips",
    "encode_files",
    "evaluate",
    "extend_causal_lm",
    "join_ids",
    "preset_config",
    "read_audio",
    "read_l3ac",
    "split_ids",
    "train",
]


__getattr__ = lazy_names(__name__, _HOME)


auto_classes.install()
