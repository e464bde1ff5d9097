"""Decoder of L3AC: features at the frame rate → samples, by local transformers and an up-sampling back end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...configuration import L3ACConfig
from ..cpu_kernels import is_hooked
from ..layers import (
    ChannelNorm,
    ConvNeXtBlock,
    Interpolate,
    Layers,
    PointConv,
    ResidualUnit,
    Snake,
    TimeConv,
    crop_center,
    filtered_envelopes,
    in_tiles,
    is_short,
    pooled_filters,
    tpooling,
)
from ..span import Span
from ..time_norm import TimeNorm
from .attention import LocalTransformer
from .spectral import SpectralSynthesis


class TEConv(nn.Module):
    """TEConv (arXiv 2504.04949, Section 3): envelopes of channel 0, normalized over time, modulate all channels."""

    kernels = (1, 3, 5, 9)
    dilations = (1, 2, 3, 5)

    def __init__(self, channels: int):
        super().__init__()
        self.convs: Layers[TimeConv] = Layers(TimeConv(1, 1, dilation=dilation) for dilation in self.dilations)
        self.norm = TimeNorm(len(self.kernels))
        self.merge = nn.Linear(len(self.kernels), channels)  # has no weight norm, unlike convolutions
        self.radius = 2 * (max(self.kernels) // 2) + max(conv.after for conv in self.convs)

    def envelopes(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """x (B, T, C) → envelopes (B, T, 4) before normalization, and the time steps of x (B, T, C) they belong to."""
        window, center, crop = span.around(x, self.radius, self.radius, self)
        inside = span.inside(window.shape[1], crop, window.device)
        if crop and inside is None and is_short(window) and not any(map(is_hooked, self.convs)):
            filters, biases = span.prepared(self, x, self.filters)
            return filtered_envelopes(window[..., 0], self.kernels, filters)[..., 0] + biases, center
        inside = None if inside is None else inside[:, None]
        channel = window[..., :1].transpose(1, 2)
        filtered = []
        for kernel, conv in zip(self.kernels, self.convs, strict=True):
            pooled = tpooling(channel, kernel, inside)
            margin = crop - conv.after if crop else 0
            filtered.append(conv(crop_center(pooled, margin).transpose(1, 2), crop=crop))
        return torch.cat(filtered, dim=-1), center

    def filters(self, time_steps: int) -> tuple[Tensor, Tensor]:
        """Filters (4, taps, 1) for `filtered_envelopes`, and the biases (4,) of the convolutions."""
        radius = self.radius - max(self.kernels) // 2
        filters = [
            pooled_filters(conv.weight[:, 0], kernel, conv.dilation[0], radius)
            for kernel, conv in zip(self.kernels, self.convs, strict=True)
        ]
        return torch.stack(filters), torch.cat([conv.bias for conv in self.convs if conv.bias is not None])

    def forward(self, x: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """x (B, T, C) → normalized envelopes (B, T, 4), and the time steps of x (B, T, C) they belong to."""
        envelopes, center = self.envelopes(x, span)
        return self.norm(envelopes, span), center

    def modulate(self, envelopes: Tensor, center: Tensor) -> Tensor:
        """Normalized envelopes (…, 4), x (…, C) → modulated x (…, C)."""
        return torch.addcmul(center, self.merge(envelopes), center)


class DecoderStage(nn.Module):
    """Decoder stage: ConvNeXt blocks, TEConv, then a convolution with kernel 1 and up-sampling."""

    def __init__(self, channels: int, out_channels: int, depth: int, rate: int):
        super().__init__()
        self.units: Layers[ConvNeXtBlock] = Layers(ConvNeXtBlock(channels) for _ in range(depth))
        self.enhance = TEConv(channels)
        self.point = PointConv(channels, out_channels)
        self.up = Interpolate(rate)
        self.norm = ChannelNorm(out_channels)

    def before_norm(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → input (B, T, 4) of the time normalization of the stage."""
        for unit in self.units:
            x = unit(x, span)
        return self.enhance.envelopes(x, span)[0]

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T · rate, C')."""
        for unit in self.units:
            x = unit(x, span)
        envelopes, center = self.enhance(x, span)

        def point(envelopes: Tensor, center: Tensor) -> Tensor:
            return self.point(self.enhance.modulate(envelopes, center))

        hidden = in_tiles(point, envelopes, center, through=(self.enhance.merge, self.point))
        return self.norm(self.up(hidden, span))


class ConvDecoder(nn.Module):
    """Convolutional back end: features (B, T, D) → waveform (B, T · rate, 1) in [-1, 1]; rate = ∏ `decoder_rates`."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        dims, rates = config.decoder_dims, config.decoder_rates
        self.project = TimeConv(config.feature_dim, dims[0], kernel=3)
        self.stages: Layers[DecoderStage] = Layers(
            DecoderStage(dims[i], dims[i + 1], config.decoder_depths[i], rate) for i, rate in enumerate(rates)
        )
        self.residuals: Layers[ResidualUnit] = Layers(ResidualUnit(dims[-1], dilation) for dilation in (1, 3, 9))
        self.activation = Snake(dims[-1])
        self.to_wave = TimeConv(dims[-1], 1)

    @property
    def output_layer(self) -> TimeConv:
        """Last layer with weights."""
        return self.to_wave

    @property
    def lookahead(self) -> int:
        """Delay of streamed decoding: a sample depends on features up to this many samples after it."""
        samples = self.project.after
        for stage in self.stages:
            samples += sum(unit.depthwise.after for unit in stage.units) + stage.enhance.radius
            samples = samples * stage.up.rate + stage.up.delay
        return samples + sum(unit.conv.after for unit in self.residuals) + self.to_wave.after

    def statistics_input(self, x: Tensor, span: Span, index: int) -> Tensor:
        """Input (B, T', 4) of the time normalization of stage `index`, for features x."""
        x = self.project(x, span)
        stages = list(self.stages)
        for stage in stages[:index]:
            x = stage(x, span)
        return stages[index].before_norm(x, span)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T · rate, 1)."""
        x = self.project(x, span)
        for stage in self.stages:
            x = stage(x, span)
        for unit in self.residuals:
            x = unit(x, span)
        # Outside the clips, zeros remain zeros: Snake(0) = 0.
        return torch.tanh(self.to_wave(self.activation(x), span))


class DecoderTransformer(nn.Module):
    """Transformers of the decoder: features (B, N, D) → (B, N · r, D), with interpolation by r between two stacks."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        rate = config.compress_rate
        self.coarse = LocalTransformer(config, 1, config.decoder_layers[0])
        if rate > 1:
            self.up = Interpolate(rate)
            self.fine = LocalTransformer(config, rate, config.decoder_layers[-1])
        self.rate = rate

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, N, D) → (B, N · r, D)."""
        x = self.coarse(x, span)
        return self.fine(self.up(x, span), span) if self.rate > 1 else x


class Decoder(nn.Module):
    """Decoder of L3AC: features (B, N, D) → waveform (B, N · hop, 1)."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        self.transformer = DecoderTransformer(config)
        if config.synthesis == "spectral":
            self.synthesis = SpectralSynthesis(config)
        else:
            self.convolutions = ConvDecoder(config)
        self._fine_hop = config.fine_hop
        # L layers of blocks reach the end of the L-th block after a frame's own; interpolation may add another block.
        self._attended = (sum(config.decoder_layers) + 2) * config.attention_window * config.hop_length

    @property
    def back_end(self) -> ConvDecoder | SpectralSynthesis:
        """Layers after the transformers; checkpoints name them by their kind."""
        return self.convolutions if hasattr(self, "convolutions") else self.synthesis

    @property
    def lookahead(self) -> int:
        """Delay of streamed decoding: a sample depends on features up to this many samples after it."""
        delay = self.transformer.up.delay if self.transformer.rate > 1 else 0
        return self.back_end.lookahead + delay * self._fine_hop

    @property
    def lookback(self) -> int:
        """Upper bound of the distance in samples from the start of a feature to the last sample that it affects."""
        return self._attended + self.lookahead

    @property
    def output_layer(self) -> TimeConv | nn.Linear:
        """Last layer; its weights set the output level of an untrained network."""
        return self.back_end.output_layer

    def statistics_input(self, x: Tensor, span: Span, index: int) -> Tensor:
        """Input (B, T', 4) of the time normalization of stage `index`, for features x."""
        return self.convolutions.statistics_input(self.transformer(x, span), span, index)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, N, D) → (B, N · hop, 1)."""
        return self.back_end(self.transformer(x, span), span)
