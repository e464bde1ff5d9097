"""Encoder of L3AC: samples → features at the frame rate, by a down-sampling front end and local transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configuration import L3ACConfig
from ...quantization import Float32Module
from ..cpu_kernels import is_hooked
from ..layers import (
    ChannelNorm,
    ConvNeXtBlock,
    DownConv,
    Layers,
    PointConv,
    TimeConv,
    crop_center,
    filtered_envelopes,
    in_tiles,
    is_short,
    pooled_filters,
    tpooling,
)
from ..span import Span
from .attention import LocalTransformer
from .spectral import SpectralAnalysis


class TConv(nn.Module):
    """TConv (arXiv 2504.04949, Section 3): features of the waveform and of its envelopes at several time scales."""

    kernels = (1, 5, 11, 21, 45)

    def __init__(self, channels: int):
        super().__init__()
        scales = len(self.kernels)
        # Four filters for each scale.
        self.conv = TimeConv(scales, 4 * scales, groups=scales)
        self.expand = PointConv(4 * scales, 16 * scales)
        self.project = PointConv(16 * scales + 1, channels)
        self.after = 2 * (max(self.kernels) // 2) + self.conv.after

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, 1) → (B, T, C)."""
        window, center, crop = span.around(x, self.after, self.after, self)
        inside = span.inside(window.shape[1], crop, window.device)
        if crop and inside is None and is_short(window) and not is_hooked(self.conv):
            filters, bias = span.prepared(self, x, self.filters)
            hidden = filtered_envelopes(window[..., 0], self.kernels, filters).flatten(2) + bias
        else:
            inside = None if inside is None else inside[:, None]
            wave = window.transpose(1, 2)
            scales = torch.cat([tpooling(wave, kernel, inside) for kernel in self.kernels], dim=1)
            # The convolution trims a window further, so only the rest of the context is cropped here.
            margin = crop - self.conv.after if crop else 0
            hidden = self.conv(crop_center(scales, margin).transpose(1, 2), crop=crop)

        def mix(hidden: Tensor, wave: Tensor) -> Tensor:
            return self.project(torch.cat([F.gelu(self.expand(hidden)), wave], dim=-1))

        return in_tiles(mix, hidden, center.to(hidden.dtype), through=(self.expand, self.project))

    def filters(self, time_steps: int) -> tuple[Tensor, Tensor]:
        """Filters (scales, taps, 4) for `filtered_envelopes`, and the biases (4 · scales,) of what they give."""
        radius = self.after - max(self.kernels) // 2
        weights = self.conv.weight[:, 0].unflatten(0, (len(self.kernels), -1))
        filters = [
            pooled_filters(weight, kernel, 1, radius) for weight, kernel in zip(weights, self.kernels, strict=True)
        ]
        assert self.conv.bias is not None
        return torch.stack(filters), self.conv.bias


class EncoderStage(nn.Module):
    """Encoder stage: ConvNeXt blocks, then a down-sampling convolution."""

    def __init__(self, channels: int, out_channels: int, depth: int, rate: int):
        super().__init__()
        self.units: Layers[ConvNeXtBlock] = Layers(ConvNeXtBlock(channels) for _ in range(depth))
        self.down = DownConv(channels, out_channels, rate)
        self.norm = ChannelNorm(out_channels)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T / rate, C')."""
        for unit in self.units:
            x = unit(x, span)
        return self.norm(self.down(x, span))


class ConvEncoder(nn.Module):
    """Convolutional front end: waveform (B, T, 1) → features (B, T / rate, D); rate = ∏ `encoder_rates`."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        dims, rates = config.encoder_dims, config.encoder_rates
        self.waveform = TConv(dims[0]) if config.tconv else TimeConv(1, dims[0])
        self.stages: Layers[EncoderStage] = Layers(
            EncoderStage(dims[i], dims[i + 1], config.encoder_depths[i], rate) for i, rate in enumerate(rates)
        )
        self.units: Layers[ConvNeXtBlock] = Layers(ConvNeXtBlock(dims[-1]) for _ in range(config.encoder_depths[-1]))
        self.project = TimeConv(dims[-1], config.feature_dim, kernel=3)

    @property
    def lookahead(self) -> int:
        """Number of samples after those of a feature that the feature depends on."""
        samples, step = self.waveform.after, 1
        for stage in self.stages:
            samples += step * sum(unit.depthwise.after for unit in stage.units)
            step *= stage.down.rate
        return samples + step * (sum(unit.depthwise.after for unit in self.units) + self.project.after)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, 1) → (B, T / rate, D)."""
        x = self.waveform(x, span)
        for stage in self.stages:
            x = stage(x, span)
        for unit in self.units:
            x = unit(x, span)
        return self.project(x, span)


class EncoderTransformer(nn.Module):
    """Transformers of the encoder: features (B, T, D) → (B, T / r, D), with down-sampling by r between two stacks."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        rate = config.compress_rate
        if rate > 1:
            self.fine = LocalTransformer(config, rate, config.encoder_layers[0])
            self.down = DownConv(config.feature_dim, config.feature_dim, rate)
        self.coarse = LocalTransformer(config, 1, config.encoder_layers[-1])
        self.rate = rate

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T / r, D)."""
        if self.rate > 1:
            x = self.down(self.fine(x, span), span)
        return self.coarse(x, span)


class Encoder(Float32Module):
    """Encoder of L3AC: waveform (B, T, 1), T a multiple of the hop → features (B, T / hop, D)."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        if config.analysis == "spectral":
            self.analysis = SpectralAnalysis(config)
        else:
            self.convolutions = ConvEncoder(config)
        self.transformer = EncoderTransformer(config)
        # L layers of blocks reach back to the start of the L-th block before a frame's own.
        self._attended = (sum(config.encoder_layers) + 1) * config.attention_window * config.hop_length

    @property
    def front_end(self) -> ConvEncoder | SpectralAnalysis:
        """Layers before the transformers; checkpoints name them by their kind."""
        return self.convolutions if hasattr(self, "convolutions") else self.analysis

    @property
    def lookahead(self) -> int:
        """Number of samples after the frame of an id that the id depends on."""
        return self.front_end.lookahead

    @property
    def lookback(self) -> int:
        """Upper bound of the number of samples before the frame of an id that the id depends on."""
        return self._attended + self.lookahead

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, 1) → (B, T / hop, D)."""
        return self.transformer(self.front_end(x, span), span)
