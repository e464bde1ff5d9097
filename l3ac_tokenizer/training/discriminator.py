"""Multi-period and multi-band, multi-scale STFT discriminator on the waveform (paper Eq. 6).

The parts are those of HiFi-GAN (Kong et al., arXiv 2010.05646: multi-period) and of the Descript audio codec
(Kumar et al., arXiv 2306.06546: multi-band STFT), with the sizes of the published L3AC code.
Axes: B batch, T samples, N frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .losses import hann_window

PERIODS = (2, 3, 5, 7, 11)
WINDOWS = (126, 542, 1418, 2296)
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SLOPE = 0.1

FeatureMaps = list[Tensor]
"""Feature maps of one sub-discriminator: activations in order, then the output."""


def normalized(audio: Tensor) -> Tensor:
    """Each item (B, T) without its mean and scaled to a peak of 0.8, so that level and offset do not count."""
    centered = audio - audio.mean(-1, keepdim=True)
    return 0.8 * centered / (centered.abs().amax(-1, keepdim=True) + 1e-9)


def normed_conv(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Module:
    """Weight-normed 2-D convolution, padded so that stride 1 keeps the size."""
    padding = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
    return weight_norm(BandConv(inputs, outputs, kernel, stride, padding, dilation))


class BandConv(nn.Conv2d):
    """2-D convolution whose outputs of width 1 are computed in float32.

    Down-sampling to width 1 in bfloat16, oneDNN's kernels for AMX (torch 2.13) read memory that nothing has written.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, N, F) → (B, C', N, F')."""
        if self.stride[1] == 1 or x.shape[-1] > self.stride[1]:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def _activated(conv: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, nn.LeakyReLU(SLOPE))


class PeriodDiscriminator(nn.Module):
    """Sub-discriminator on the waveform folded into rows of one period."""

    channels = (1, 32, 128, 512, 1024)

    def __init__(self, period: int):
        super().__init__()
        self.period = period
        layers = [
            _activated(normed_conv(inputs, outputs, (5, 1), (3, 1))) for inputs, outputs in pairwise(self.channels)
        ]
        layers.append(_activated(normed_conv(self.channels[-1], self.channels[-1], (5, 1))))
        self.convs = nn.ModuleList(layers)
        self.conv_post = normed_conv(self.channels[-1], 1, (3, 1))

    def forward(self, audio: Tensor) -> FeatureMaps:
        """(B, T) → 5 activations and the output (B, 1, rows, period)."""
        missing = (
            self.period - audio.shape[-1] % self.period
        )  # a whole period if the length is a multiple of it, as published
        padded = F.pad(audio[:, None], (0, missing), mode="reflect")
        x = padded.unflatten(-1, (-1, self.period))  # (B, 1, rows, period)
        maps = []
        for layer in self.convs:
            x = layer(x)
            maps.append(x)
        return [*maps, self.conv_post(x)]


class BandDiscriminator(nn.Module):
    """Sub-discriminator on the complex STFT of one window length, with separate layers for each of five bands."""

    channels = 32

    def __init__(self, window: int):
        super().__init__()
        self.window = window
        self.hop = window // 4
        bins = window // 2 + 1
        edges = [int(edge * bins) for edge in BAND_EDGES]
        self.bands = list(pairwise(edges))
        self.band_convs = nn.ModuleList(self._band() for _ in self.bands)
        self.conv_post = normed_conv(self.channels, 1, (3, 3))

    def _band(self) -> nn.ModuleList:
        width = self.channels
        return nn.ModuleList(
            [
                _activated(normed_conv(2, width, (3, 9))),
                *(_activated(normed_conv(width, width, (3, 9), (1, 2))) for _ in range(3)),
                _activated(normed_conv(width, width, (3, 3))),
            ]
        )

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, T) → real and imaginary part (B, 2, N, F), N = ceil(T / hop)."""
        side = (self.window - self.hop) // 2
        right = -audio.shape[-1] % self.hop
        padded = F.pad(audio[:, None], (side, side + right), mode="reflect")[:, 0]
        window = hann_window(self.window, dtype=audio.dtype, device=audio.device)
        spectrum = torch.stft(padded, self.window, self.hop, window=window, return_complex=True)[..., 2:-2]
        return torch.view_as_real(spectrum).permute(0, 3, 2, 1)

    def forward(self, audio: Tensor) -> FeatureMaps:
        """(B, T) → 5 activations of each band, low bands first, and the output (B, 1, N, F')."""
        with torch.autocast(audio.device.type, enabled=False):  # FFTs need float32
            spectrum = self.spectrum(audio)
        maps, ends = [], []
        for (low, high), layers in zip(self.bands, self.band_convs, strict=True):
            x = spectrum[..., low:high]
            for layer in layers:  # type: ignore[attr-defined]  # a ModuleList of its own
                x = layer(x)
                maps.append(x)
            ends.append(x)
        return [*maps, self.conv_post(torch.cat(ends, dim=-1))]


class Discriminator(nn.Module):
    """All sub-discriminators; 43 million parameters with the published periods and windows."""

    def __init__(self, periods: Sequence[int] = PERIODS, windows: Sequence[int] = WINDOWS):
        super().__init__()
        self.discriminators = nn.ModuleList(
            [*(PeriodDiscriminator(period) for period in periods), *(BandDiscriminator(window) for window in windows)]
        )

    def forward(self, audio: Tensor) -> list[FeatureMaps]:
        """(B, T) → feature maps of every sub-discriminator; the items of a batch do not affect each other."""
        audio = normalized(audio)
        return [discriminator(audio) for discriminator in self.discriminators]
