"""Perceptual loss on the features of a frozen Whisper encoder (paper Eq. 5). Axes: B batch, T samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .losses import hann_window

SAMPLING_RATE = 16_000
FFT_LENGTH = 400
HOP = 160
MEL_FLOOR = 1e-10
DYNAMIC_RANGE = 8.0


class WhisperFeatures(nn.Module):
    """Encoder features of audio, differentiable towards the audio; the encoder is frozen.

    Args:
        source: Directory or hub name of a Whisper encoder; `openai/whisper-tiny.en` was used by the paper's
        code.
        window_seconds: Length to which audio is zero-padded or cut. The published 30 s cost as much for a
        crop of
            half a second as for a whole window; None takes the audio as it is, with the first positions of
            the encoder's table.
    """

    mel_filters: Tensor

    def __init__(self, source: str, window_seconds: float | None = None):
        super().__init__()
        self.encoder = WhisperEncoder.from_pretrained(source, dtype=torch.float32).eval().requires_grad_(False)
        self.window = None if window_seconds is None else round(window_seconds * SAMPLING_RATE)
        filters = mel_filter_bank(
            1 + FFT_LENGTH // 2,
            self.encoder.config.num_mel_bins,
            0.0,
            SAMPLING_RATE / 2,
            SAMPLING_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mel_filters", torch.from_numpy(filters).float(), persistent=False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Whisper's input of (B, T) audio: (B, bands, frames), a frame each 10 ms.

        The floor lies 8 (in log10) below the loudest cell of the whole batch, and gradients of floored
        cells go
        there: as published.
        """
        if self.window is not None:
            audio = F.pad(audio[:, : self.window], (0, max(0, self.window - audio.shape[1])))
        window = hann_window(FFT_LENGTH, dtype=audio.dtype, device=audio.device)
        spectrum = torch.stft(audio, FFT_LENGTH, HOP, window=window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        mel = (self.mel_filters.to(audio.dtype).T @ power).clamp_min(MEL_FLOOR).log10()
        return (torch.maximum(mel, mel.max() - DYNAMIC_RANGE) + 4) / 4

    def forward(self, audio: Tensor) -> Tensor:
        """(B, T) audio at 16 kHz to features (B, positions, width), a position each 20 ms."""
        encoder = self.encoder
        hidden = F.gelu(encoder.conv1(self.log_mel(audio)))
        hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)  # (B, positions, width)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        return encoder.layer_norm(hidden)


def perceptual_loss(features: WhisperFeatures, y: Tensor, x: Tensor) -> Tensor:
    """Squared distance of the features of generated `y` and reference `x` (B, T).

    Summed over the width, averaged over batch and positions, those of padding included (as published; the
    paper's Eq. 5 has a norm).
    """
    with torch.no_grad():
        reference = features(x)
    return (features(y) - reference).square().sum(-1).mean()
