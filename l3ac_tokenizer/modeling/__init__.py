"""The network: spans, layers, attention, encoder, decoder, and the model that joins them."""

from .model import L3ACDecoderOutput, L3ACEncoderOutput, L3ACModel, L3ACOutput, L3ACPreTrainedModel

__all__ = ["L3ACDecoderOutput", "L3ACEncoderOutput", "L3ACModel", "L3ACOutput", "L3ACPreTrainedModel"]
