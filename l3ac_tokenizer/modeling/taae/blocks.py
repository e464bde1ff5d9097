"""Encoder and decoder of TAAE: patches of samples, convolutions and transformer layers (arXiv 2411.19842, Section 3).

Axes: B batch, T time steps, N frames, C channels, D width, L latent dimensions.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...configuration_taae import TAAEConfig
from ...quantization import Float32Module
from ..layers import Layers, TimeConv, in_tiles
from ..span import Span, WholeSpan
from .attention import SlidingAttention

NORM_EPS = 1e-2
INITIAL_SCALE = 0.01


class LayerScale(nn.Module):
    """LayerScale: a learned factor for each channel of a residual branch, small at first (arXiv 2103.17239)."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) → (…, D)."""
        return x * self.scale


class GatedMLP(nn.Module):
    """Gated MLP a·SiLU(b) of width 4D (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, dim: int):
        super().__init__()
        self.expand = nn.Linear(dim, 8 * dim)
        self.reduce = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) → (…, D)."""
        a, b = self.expand(x).chunk(2, dim=-1)
        return self.reduce(a * F.silu(b))


class TAAELayer(GradientCheckpointingLayer):
    """Transformer layer: x + λ₁·attention(norm(x)), then x + λ₂·MLP(norm(x))."""

    def __init__(self, config: TAAEConfig):
        super().__init__()
        dim = config.hidden_size
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS, bias=False)
        self.attention = SlidingAttention(dim, config.num_attention_heads, *config.attention_window)
        self.attention_scale = LayerScale(dim)
        self.perceptron_norm = nn.LayerNorm(dim, eps=NORM_EPS, bias=False)
        self.perceptron = GatedMLP(dim)
        self.perceptron_scale = LayerScale(dim)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        center = span.delayed(x, self.attention.after, self)
        x = center + self.attention_scale(self.attention(self.attention_norm(x), span))
        layers = (self.perceptron_norm, self.perceptron, self.perceptron_scale)
        return x + in_tiles(self._mlp, x, through=layers)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.perceptron_scale(self.perceptron(self.perceptron_norm(x)))


class Stack(nn.Module):
    """Stack of transformer layers, on (B, T, D)."""

    def __init__(self, config: TAAEConfig, depth: int):
        super().__init__()
        self.layers: Layers[TAAELayer] = Layers(TAAELayer(config) for _ in range(depth))
        self.before, self.after = (depth * frames for frames in config.attention_window)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        # Gradient checkpointing runs a layer again in the backward pass, after `span` has changed; layers get a copy.
        here = copy.copy(span) if isinstance(span, WholeSpan) else span
        for layer in self.layers:
            x = layer(x, here)
        return x


class UpConv(nn.ConvTranspose1d):
    """Up-sampling by a transposed convolution with a kernel of two strides.

    Each output depends on two input time steps: the nearest ones on both sides or, if causal, the current and previous.
    """

    def __init__(self, channels: int, rate: int, causal: bool):
        super().__init__(channels, channels, 2 * rate, rate)
        self.rate = rate
        self.delay = 0 if causal else rate // 2

    def forward(self, x: Tensor, span: Span) -> Tensor:  # type: ignore[override]
        """x (B, T, C) → (B, T · rate, C)."""
        length = x.shape[1] * self.rate
        window, _, crop = span.around(x, 1, 0, self)
        span.up(self.rate, self.delay)
        output = F.conv_transpose1d(window.transpose(1, 2), self.weight, self.bias, self.rate).transpose(1, 2)
        # In a stream, outputs of the past time step alone were returned before.
        skip = self.rate if crop else self.delay
        return output[:, skip : skip + length]


class EncoderBlock(nn.Module):
    """Encoder block: down-sampling, then a stack of transformer layers."""

    def __init__(self, config: TAAEConfig, depth: int, rate: int):
        super().__init__()
        dim = config.hidden_size
        self.down = (
            TimeConv(dim, dim, 2 * rate, stride=rate, lookahead=0 if config.causal else None) if rate > 1 else None
        )
        self.stack = Stack(config, depth)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T / rate, D)."""
        return self.stack(x if self.down is None else self.down(x, span), span)


class DecoderBlock(nn.Module):
    """Decoder block: a stack of transformer layers, then up-sampling."""

    def __init__(self, config: TAAEConfig, depth: int, rate: int):
        super().__init__()
        self.stack = Stack(config, depth)
        self.up = UpConv(config.hidden_size, rate, config.causal) if rate > 1 else None

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T · rate, D)."""
        x = self.stack(x, span)
        return x if self.up is None else self.up(x, span)


class TAAEEncoder(Float32Module):
    """Encoder of TAAE: waveform (B, T, 1), T a multiple of the hop → latents (B, T / hop, L)."""

    def __init__(self, config: TAAEConfig):
        super().__init__()
        dim, lookahead = config.hidden_size, 0 if config.causal else None
        self.patch_size = config.patch_size
        self.from_patches = TimeConv(config.patch_size, dim, 7, lookahead=lookahead)
        self.blocks: Layers[EncoderBlock] = Layers(
            EncoderBlock(config, depth, rate) for depth, rate in zip(config.depths, config.strides, strict=True)
        )
        self.project = TimeConv(dim, len(config.levels), 3, lookahead=lookahead)

    @property
    def lookahead(self) -> int:
        """Number of samples after the frame of an id that the id depends on."""
        step = self.patch_size
        samples = step * self.from_patches.after
        for block in self.blocks:
            if block.down is not None:
                samples += step * block.down.after
                step *= block.down.stride[0]
            samples += step * block.stack.after
        return samples + step * self.project.after

    @property
    def lookback(self) -> int:
        """Number of samples before the frame of an id that the id depends on."""
        step = self.patch_size
        samples = step * self.from_patches.before
        for block in self.blocks:
            if block.down is not None:
                samples += step * block.down.before
                step *= block.down.stride[0]
            samples += step * block.stack.before
        return samples + step * self.project.before

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, 1) → (B, T / hop, L)."""
        x = x.reshape(x.shape[0], -1, self.patch_size)
        span.down(self.patch_size)
        x = self.from_patches(x, span)
        for block in self.blocks:
            x = block(x, span)
        return self.project(x, span)


class TAAEDecoder(nn.Module):
    """Decoder of TAAE: quantized values (B, N, L) → waveform (B, N · hop, 1), by mirrored encoder blocks."""

    def __init__(self, config: TAAEConfig):
        super().__init__()
        dim, lookahead = config.hidden_size, 0 if config.causal else None
        self.patch_size = config.patch_size
        self.project = TimeConv(len(config.levels), dim, 3, lookahead=lookahead)
        mirrored = zip(reversed(config.depths), reversed(config.strides), strict=True)
        self.blocks: Layers[DecoderBlock] = Layers(DecoderBlock(config, depth, rate) for depth, rate in mirrored)
        self.to_patches = TimeConv(dim, config.patch_size, 7, lookahead=lookahead, bias=False)

    @property
    def lookahead(self) -> int:
        """Delay of streamed decoding: a sample depends on frames up to this many samples after it."""
        steps = self.project.after
        for block in self.blocks:
            steps += block.stack.after
            if block.up is not None:
                steps = steps * block.up.rate + block.up.delay
        return self.patch_size * (steps + self.to_patches.after)

    @property
    def lookback(self) -> int:
        """Distance in samples from the start of a frame to the last sample that it affects."""
        steps = self.project.before
        for block in self.blocks:
            steps += block.stack.before
            if block.up is not None:
                # A time step affects outputs of two strides, `delay` of which lie before its own.
                steps = steps * block.up.rate + 2 * block.up.rate - 1 - block.up.delay
        return self.patch_size * (steps + self.to_patches.before + 1) - 1

    @property
    def output_layer(self) -> TimeConv:
        """Last layer; its weights set the output level of an untrained network."""
        return self.to_patches

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, N, L) → (B, N · hop, 1)."""
        x = self.project(x, span)
        for block in self.blocks:
            x = block(x, span)
        x = self.to_patches(x, span)
        span.up(self.patch_size, 0)
        return x.reshape(x.shape[0], -1, 1)
