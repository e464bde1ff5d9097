"""Outputs of the methods of a codec.

Axes: B batch, T samples, K codebooks (`config.num_quantizers`), N frames, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class CodecEncoderOutput(ModelOutput):
    """Output of `encode`.

    Attributes:
        audio_codes: Ids (B, K, N), int64; 0 in padding.
        audio_codes_mask: Mask (B, 1, N), True for frames of a clip; clips are left-aligned.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor = None  # type: ignore[assignment]
    latents: Tensor = None  # type: ignore[assignment]


@dataclass
class CodecDecoderOutput(ModelOutput):
    """Output of `decode`.

    Attributes:
        audio_values: Waveform (B, 1, T) in [-1, 1]; 0 after the end of a clip.
    """

    audio_values: Tensor = None  # type: ignore[assignment]


@dataclass
class CodecOutput(ModelOutput):
    """Output of `forward`.

    Attributes:
        audio_values: Reconstructed waveform (B, 1, T), aligned with the input; 0 in padding.
        audio_codes: Ids (B, K, N), int64; 0 in padding.
        audio_codes_mask: Mask (B, 1, N), True for frames of a clip; None without a padding mask.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_values: Tensor = None  # type: ignore[assignment]
    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor | None = None
    latents: Tensor = None  # type: ignore[assignment]


__all__ = ["CodecDecoderOutput", "CodecEncoderOutput", "CodecOutput"]
