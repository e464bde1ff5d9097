"""STFT discriminator of TAAE: complex STFTs of eight lengths in the golden ratio (arXiv 2411.19842, App. B.5).

Axes: B batch, T samples, N frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .discriminator import FeatureMaps, normed_conv
from .losses import hann_window

FFT_SIZES = (78, 126, 206, 334, 542, 876, 1418, 2296)
CHANNELS = 256
POWER = 0.5
"""Exponent of the magnitudes in Eq. 13, which evens out the influence of loud and quiet bins."""
SLOPE = 0.2
MAGNITUDE_FLOOR = 1e-6


class SpectrumDiscriminator(nn.Module):
    """Sub-discriminator on the complex STFT of one length, hop half a window, with power-law magnitudes."""

    def __init__(self, fft_size: int, channels: int, power: float):
        super().__init__()
        self.fft_size = fft_size
        self.power = power
        self.convs = nn.ModuleList(
            [
                normed_conv(2, channels, (3, 9)),
                *(normed_conv(channels, channels, (3, 9), (1, 2), (dilation, 1)) for dilation in (1, 2, 4)),
                normed_conv(channels, channels, (3, 3)),
            ]
        )
        self.conv_post = normed_conv(channels, 1, (3, 3))

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, T) → real and imaginary part (B, 2, N, F), N = 1 + (T − n) // (n / 2), before the scaling."""
        window = hann_window(self.fft_size, dtype=audio.dtype, device=audio.device)
        spectrum = torch.stft(
            audio, self.fft_size, self.fft_size // 2, window=window, center=False, return_complex=True
        )
        return torch.view_as_real(spectrum).permute(0, 3, 2, 1) / window.square().sum().sqrt()

    def forward(self, audio: Tensor) -> FeatureMaps:
        """(B, T) → 5 activations and the output (B, 1, N, F')."""
        with torch.autocast(audio.device.type, enabled=False):  # FFTs need float32
            x = self.spectrum(audio)
            # The gradient of a complex number's modulus is zero at zero.
            modulus = torch.complex(x[:, 0], x[:, 1]).abs()[:, None]
            x = x * (modulus + MAGNITUDE_FLOOR) ** self.power
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            maps.append(x)
        return [*maps, self.conv_post(x)]


class STFTDiscriminator(nn.Module):
    """One sub-discriminator per FFT size; 47 million parameters with the published ones."""

    def __init__(self, fft_sizes: Sequence[int] = FFT_SIZES, channels: int = CHANNELS, power: float = POWER):
        super().__init__()
        self.discriminators = nn.ModuleList(SpectrumDiscriminator(size, channels, power) for size in fft_sizes)

    def forward(self, audio: Tensor) -> list[FeatureMaps]:
        """(B, T) → feature maps of every sub-discriminator."""
        return [discriminator(audio) for discriminator in self.discriminators]
