"""The networks: spans, layers, encoders, decoders, and the models that join them."""

from .codec import CodecModel
from .model import L3ACModel
from .outputs import L3ACDecoderOutput, L3ACEncoderOutput, L3ACOutput
from .taae_model import TAAEModel

__all__ = ["CodecModel", "L3ACDecoderOutput", "L3ACEncoderOutput", "L3ACModel", "L3ACOutput", "TAAEModel"]
