"""What the calls of a codec return.

Axes: B batch, T samples, K streams of ids (`config.num_quantizers`), N ids of a stream, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class CodecEncoderOutput(ModelOutput):
    """What `encode` returns.

    Attributes:
        audio_codes: Ids (B, K, N), int64; 0 at padded places.
        audio_codes_mask: True (B, 1, N) where an id belongs to the clip; clips are left-aligned.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor = None  # type: ignore[assignment]
    latents: Tensor = None  # type: ignore[assignment]


@dataclass
class CodecDecoderOutput(ModelOutput):
    """What `decode` returns.

    Attributes:
        audio_values: Waveform (B, 1, T) in [-1, 1]; 0 after a clip's end.
    """

    audio_values: Tensor = None  # type: ignore[assignment]


@dataclass
class CodecOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        audio_values: Reconstruction (B, 1, T) of the input's length, in the input's places.
        audio_codes: Ids (B, K, N), int64; 0 at padded places.
        audio_codes_mask: True (B, 1, N) where an id belongs to the clip; None without a padding mask.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_values: Tensor = None  # type: ignore[assignment]
    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor | None = None
    latents: Tensor = None  # type: ignore[assignment]


__all__ = ["CodecDecoderOutput", "CodecEncoderOutput", "CodecOutput"]
