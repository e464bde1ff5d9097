"""Outputs of the methods of a codec.

Axes: B batch, T samples, K codebooks (`config.num_quantizers`), N frames, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class CodecEncoderOutput(ModelOutput):
    """Output of `encode`.

    Attributes:
        audio_codes: Ids (B, K, N), int64; 0 in padding.
        audio_codes_mask: Mask (B, 1, N), True for frames of a clip; clips are left-aligned.
        latents: Latents (B, N, L) before tanh and rounding, float32.
        audio_scales: Scales (B, 1) of the levels, float32, as they were given; else None.
    """

    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor = None  # type: ignore[assignment]
    latents: Tensor = None  # type: ignore[assignment]
    audio_scales: Tensor | None = None

    def to_list(self) -> list[list[Any]]:
        """The ids of each clip without padding: B lists of N integers, or of K lists of N integers where K > 1."""
        return ids_to_list(self.audio_codes, self.audio_codes_mask)


@dataclass
class CodecDecoderOutput(ModelOutput):
    """Output of `decode`.

    Attributes:
        audio_values: Waveform (B, 1, T) in [-1, 1], times the scale where `audio_scales` are given; 0 after the end of
            a clip.
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
        audio_scales: Scales (B, 1) of the levels, float32, as they were given; else None.
    """

    audio_values: Tensor = None  # type: ignore[assignment]
    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor | None = None
    latents: Tensor = None  # type: ignore[assignment]
    audio_scales: Tensor | None = None

    def to_list(self) -> list[list[Any]]:
        """The ids of each clip, as `CodecEncoderOutput.to_list` gives them."""
        return ids_to_list(self.audio_codes, self.audio_codes_mask)


def ids_to_list(audio_codes: Tensor, audio_codes_mask: Tensor | None) -> list[list[Any]]:
    """Ids (B, K, N) and their mask (B, 1, N), None: no padding → lists, see `CodecEncoderOutput.to_list`."""
    if audio_codes_mask is None:
        audio_codes_mask = torch.ones_like(audio_codes[:, :1], dtype=torch.bool)
    clips = [codes[:, mask[0]].tolist() for codes, mask in zip(audio_codes, audio_codes_mask, strict=True)]
    return [clip[0] if len(clip) == 1 else clip for clip in clips]


__all__ = ["CodecDecoderOutput", "CodecEncoderOutput", "CodecOutput"]
