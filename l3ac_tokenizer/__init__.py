"""L3AC: audio to one stream of ids and back, as a Hugging Face audio tokenizer."""

from .configuration import L3ACConfig
from .modeling import L3ACDecoderOutput, L3ACEncoderOutput, L3ACModel, L3ACOutput
from .version import __version__

__all__ = [
    "L3ACConfig",
    "L3ACDecoderOutput",
    "L3ACEncoderOutput",
    "L3ACModel",
    "L3ACOutput",
    "__version__",
]
