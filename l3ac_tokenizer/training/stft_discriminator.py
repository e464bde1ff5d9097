"""STFT discriminator of TAAE: complex STFTs of eight lengths in the golden ratio (arXiv 2411.19842, App. B.5).

Axes: B batch, T samples, N frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .discriminator import FeatureMaps, normed_conv
from .losses import hann_window

FFT_SIZES = (78, 126, 206, 334, 542, 876, 1418, 2296)
CHANNELS = 256
SLOPE = 0.2


class Scaling(NamedTuple):
    """Scaling of the spectrum X by its modulus: X · (|X| + `floor`)^`power`."""

    power: float
    floor: float


PUBLISHED = Scaling(0.5, 1e-6)
"""Eq. 13: bins enter with the power 1.5 of their modulus, so loud ones count most."""
COMPRESSED = Scaling(-0.5, 1e-3)
"""Bins enter with the square root of their modulus. Without it, a small discriminator sees little but the loudest bins
and tells original and decoded audio apart no better than by chance (hinge loss 1.97 of 2 after 600 updates; so, 1.90
after 300)."""


class SpectrumDiscriminator(nn.Module):
    """Sub-discriminator on the complex STFT of one length, hop half a window, scaled by its modulus."""

    def __init__(self, fft_size: int, channels: int, scaling: Scaling):
        super().__init__()
        self.fft_size = fft_size
        self.scaling = scaling
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

    def scaled(self, spectrum: Tensor) -> Tensor:
        """Real and imaginary part (B, 2, N, F) → the same, scaled by `scaling`."""
        # The gradient of a complex number's modulus is zero at zero.
        modulus = torch.complex(spectrum[:, 0], spectrum[:, 1]).abs()[:, None]
        return spectrum * (modulus + self.scaling.floor) ** self.scaling.power

    def forward(self, audio: Tensor) -> FeatureMaps:
        """(B, T) → 5 activations and the output (B, 1, N, F')."""
        with torch.autocast(audio.device.type, enabled=False):  # FFTs need float32
            x = self.scaled(self.spectrum(audio))
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            maps.append(x)
        return [*maps, self.conv_post(x)]


class STFTDiscriminator(nn.Module):
    """One sub-discriminator per FFT size; 47 million parameters with the published ones."""

    def __init__(self, fft_sizes: Sequence[int] = FFT_SIZES, channels: int = CHANNELS, scaling: Scaling = PUBLISHED):
        super().__init__()
        self.discriminators = nn.ModuleList(SpectrumDiscriminator(size, channels, scaling) for size in fft_sizes)

    def forward(self, audio: Tensor) -> list[FeatureMaps]:
        """(B, T) → feature maps of every sub-discriminator."""
        return [discriminator(audio) for discriminator in self.discriminators]
