"""The halves of TAAE: patches of samples, convolutions and stacks of transformer layers (arXiv 2411.19842, Section 3).

Axes: B batch, T columns, N ids, C channels, D width, L latent dimensions.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...configuration_taae import TAAEConfig
from ..layers import Layers, TimeConv, in_tiles
from ..span import Span, WholeSpan
from .attention import SlidingAttention

NORM_EPS = 1e-2
INITIAL_SCALE = 0.01


class LayerScale(nn.Module):
    """One factor for each channel of a branch, small at first (arXiv 2103.17239)."""

    def __init__(self, dim: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) → (…, D)."""
        return x * self.scale


class GatedMLP(nn.Module):
    """a·SiLU(b) of width 4D."""

    def __init__(self, dim: int):
        super().__init__()
        self.expand = nn.Linear(dim, 8 * dim)
        self.reduce = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, D) → (…, D)."""
        a, b = self.expand(x).chunk(2, dim=-1)
        return self.reduce(a * F.silu(b))


class TAAELayer(GradientCheckpointingLayer):
    """x + λ₁·attention(norm(x)), then x + λ₂·perceptron(norm(x))."""

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
        centre = span.delayed(x, self.attention.after, self)
        x = centre + self.attention_scale(self.attention(self.attention_norm(x), span))
        return x + in_tiles(self._perceive, x)

    def _perceive(self, x: Tensor) -> Tensor:
        return self.perceptron_scale(self.perceptron(self.perceptron_norm(x)))


class Stack(nn.Module):
    """Transformer layers at one rate, on (B, T, D)."""

    def __init__(self, config: TAAEConfig, depth: int):
        super().__init__()
        self.layers: Layers[TAAELayer] = Layers(TAAELayer(config) for _ in range(depth))
        self.before, self.after = (depth * frames for frames in config.attention_window)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        # A checkpointed layer runs again in the backward pass, when the span of the whole has long moved on.
        here = copy.copy(span) if isinstance(span, WholeSpan) else span
        for layer in self.layers:
            x = layer(x, here)
        return x


class UpConv(nn.ConvTranspose1d):
    """Transposed convolution with a kernel of two strides: an answer's column sees two columns, (B, T, C).

    They lie around it, or, where it is causal, at it and before it.
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
        answer = F.conv_transpose1d(window.transpose(1, 2), self.weight, self.bias, self.rate).transpose(1, 2)
        # The answers to a stream's past column are given, but for those that it shares with the first new one.
        skip = self.rate if crop else self.delay
        return answer[:, skip : skip + length]


class EncoderBlock(nn.Module):
    """Down-sampling, then a stack of transformer layers."""

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
    """A stack of transformer layers, then up-sampling."""

    def __init__(self, config: TAAEConfig, depth: int, rate: int):
        super().__init__()
        self.stack = Stack(config, depth)
        self.up = UpConv(config.hidden_size, rate, config.causal) if rate > 1 else None

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T · rate, D)."""
        x = self.stack(x, span)
        return x if self.up is None else self.up(x, span)


class TAAEEncoder(nn.Module):
    """Waveform (B, T, 1), T a multiple of the hop → latents (B, T / hop, L)."""

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
        """Samples after an id's own that it depends on."""
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
        """Samples before an id's own that it depends on."""
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
    """Codes (B, N, L) → waveform (B, N · hop, 1); the encoder's blocks in reverse."""

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
        """Samples that decoding runs behind: a sample depends on codes up to this many samples after it."""
        columns = self.project.after
        for block in self.blocks:
            columns += block.stack.after
            if block.up is not None:
                columns = columns * block.up.rate + block.up.delay
        return self.patch_size * (columns + self.to_patches.after)

    @property
    def lookback(self) -> int:
        """Samples from a frame's first to the last that it can change."""
        columns = self.project.before
        for block in self.blocks:
            columns += block.stack.before
            if block.up is not None:
                # Of the two strides that a column is answered with, `delay` columns lie before its own.
                columns = columns * block.up.rate + 2 * block.up.rate - 1 - block.up.delay
        return self.patch_size * (columns + self.to_patches.before + 1) - 1

    @property
    def output_layer(self) -> TimeConv:
        """The last layer, whose weights set the level of an untrained network."""
        return self.to_patches

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, N, L) → (B, N · hop, 1)."""
        x = self.project(x, span)
        for block in self.blocks:
            x = block(x, span)
        x = self.to_patches(x, span)
        span.up(self.patch_size, 0)
        return x.reshape(x.shape[0], -1, 1)
