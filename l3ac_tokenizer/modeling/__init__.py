"""Networks: spans, layers, encoders, decoders, and the codec models that combine them."""

# Importing this registers our models. Layers of transformers import it, so it must come before our own modules.
import transformers.models.auto.modeling_auto  # noqa: F401

from .codec import CodecModel
from .encoder_model import CodecEncoderModel
from .encoding import CodecEncoding
from .l3ac.model import L3ACEncoderModel, L3ACModel
from .outputs import CodecDecoderOutput, CodecEncoderOutput, CodecOutput
from .taae.model import TAAEEncoderModel, TAAEModel

__all__ = [
    "CodecDecoderOutput",
    "CodecEncoderModel",
    "CodecEncoderOutput",
    "CodecEncoding",
    "CodecModel",
    "CodecOutput",
    "L3ACEncoderModel",
    "L3ACModel",
    "TAAEEncoderModel",
    "TAAEModel",
]
