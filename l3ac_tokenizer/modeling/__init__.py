"""Networks: spans, layers, encoders, decoders, and the codec models that combine them."""

# Importing this registers our models. Layers of transformers import it, so it must come before our own modules.
import transformers.models.auto.modeling_auto  # noqa: F401

from .codec import CodecModel
from .l3ac.model import L3ACModel
from .outputs import CodecDecoderOutput, CodecEncoderOutput, CodecOutput
from .taae.model import TAAEModel

__all__ = ["CodecDecoderOutput", "CodecEncoderOutput", "CodecModel", "CodecOutput", "L3ACModel", "TAAEModel"]
