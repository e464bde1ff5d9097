"""The networks: spans, layers, encoders, decoders, and the models that join them."""

# The layers of transformers import it, and importing it registers our models: it must not find them half made.
import transformers.models.auto.modeling_auto  # noqa: F401

from .codec import CodecModel
from .l3ac.model import L3ACModel
from .outputs import CodecDecoderOutput, CodecEncoderOutput, CodecOutput
from .taae.model import TAAEModel

__all__ = ["CodecDecoderOutput", "CodecEncoderOutput", "CodecModel", "CodecOutput", "L3ACModel", "TAAEModel"]
