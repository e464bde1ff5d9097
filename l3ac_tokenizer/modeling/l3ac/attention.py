"""Local transformer: causal attention within absolute blocks of time, with a learned bias by distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..span import Span, StreamSpan

STEP = 128
"""Queries that share a copy of their keys in an exported graph."""


class PositionBias(nn.Module):
    """A small network from distance (in columns) to one bias for each head."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(1, dim // 2),
            nn.SiLU(),
            nn.Linear(dim // 2, dim // 2),
            nn.SiLU(),
            nn.Linear(dim // 2, heads),
        )

    def forward(self, distances: int) -> Tensor:
        """Biases (heads, distances) for 0, 1, …, distances − 1."""
        weight = next(self.parameters())
        # Distances are raw numbers up to 2·window: float32, or bfloat16 would merge neighbouring ones.
        with torch.autocast(weight.device.type, enabled=False):
            hidden = torch.arange(distances, device=weight.device, dtype=torch.float32)[:, None]
            for layer in self.mlp:
                if isinstance(layer, nn.Linear):
                    hidden = F.linear(hidden, layer.weight.float(), layer.bias.float())
                else:
                    hidden = layer(hidden)
        return hidden.T


def reversed_bands(bias: Tensor, queries: int, keys: int) -> Tensor:
    """Bias by distance (H, D) → (H, queries, keys), last query first, of queries that stand at the end of the keys.

    −inf for later keys. A view of one row for each head: no matrix is stored.
    """
    future = bias.new_full((bias.shape[0], queries - 1), float("-inf"))
    return torch.cat([bias[:, :keys].flip(1), future], dim=1).unfold(1, keys, 1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of queries (B, H, Q, d) that stand at the end of the keys (B, H, K, d), with a bias by distance."""
    biases = reversed_bands(bias, q.shape[2], k.shape[2])[None]
    return F.scaled_dot_product_attention(q.flip(2), k, v, biases).flip(2)


def attend_in_graph(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window: int) -> Tensor:
    """Attention of a whole clip, q, k, v (B, H, T, d), in a graph whose length T is free: memory grows with T, not T².

    Blocks of `STEP` queries look at copies of all keys that one of them sees. An exporter takes a number of blocks for
    a constant if it could be 1, or if a view or a slice depends on it: so there is a block too many, and columns are
    taken by their numbers.
    """
    batch, heads, length, width = q.shape
    blocks = (length - 1) // STEP + 2
    keys = torch.sym_min(2 * window + STEP - 1, blocks * STEP)
    at_query = STEP * torch.arange(blocks, device=q.device)[:, None] + torch.arange(STEP, device=q.device)
    at_key = at_query[:, -1:] - torch.arange(keys, device=q.device)
    first_seen = (torch.div(at_query, window, rounding_mode="floor") - 1).clamp(min=0) * window
    distances = at_query[0][:, None] - at_key[0]  # the same in each block
    biases = bias[:, distances.clamp(0, 2 * window - 1)].masked_fill(distances < 0, float("-inf"))
    unseen = first_seen[..., None] > at_key[:, None]  # (blocks, STEP, keys)

    def columns(x: Tensor, at: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 2 * STEP))[:, :, at.clamp(min=0)].flatten(0, 2)

    scores = torch.bmm(columns(q * width**-0.5, at_query), columns(k, at_key).transpose(1, 2))
    scores = (scores.unflatten(0, (batch, heads, blocks)) + biases[:, None]).masked_fill(unseen, float("-inf"))
    attended = torch.bmm(scores.softmax(dim=-1).flatten(0, 2), columns(v, at_key))
    attended = attended.unflatten(0, (batch, heads, blocks)).flatten(2, 3)
    return attended.index_select(2, torch.arange(length, device=q.device))


class LocalAttention(nn.Module):
    """A query sees the keys of its own block of `window` columns and of the block before, none after it.

    Blocks stand at multiples of `window` from the clip's first column, so the look-back is between `window` and
    2·window − 1 columns and the look-ahead none.
    """

    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.heads = heads
        self.window = window
        inner = heads * (dim // 4)
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor, span: Span) -> Tensor:
        """x (B, T, D), bias by distance (H, 2·window) → (B, T, D)."""
        batch, length, _ = x.shape
        qkv = self.to_qkv(self.norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = bias.to(q.dtype)
        if isinstance(span, StreamSpan):
            attended = self._attend_stream(q, k, v, bias, span)
        else:
            attended = self._attend_whole(q, k, v, bias)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _attend_whole(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """q, k, v (B, H, T, d) from the clip's first column on."""
        length, window = q.shape[2], self.window
        if torch.compiler.is_exporting():
            return attend_in_graph(q, k, v, bias, window)
        blocks = []
        for first in range(0, length, window):
            seen = slice(max(0, first - window), first + window)
            blocks.append(attend(q[:, :, first : first + window], k[:, :, seen], v[:, :, seen], bias))
        return torch.cat(blocks, dim=2)

    def _attend_stream(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, span: StreamSpan) -> Tensor:
        """q, k, v (B, H, T, d) of the next columns; past keys and values come from the stream's state."""
        batch, heads, length, width = q.shape
        past = 2 * self.window - 1
        zeros = q.new_zeros(batch, heads, past, width)
        past_k, past_v = span.state.get(self, (zeros, zeros))
        k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        span.state[self] = (k[:, :, length:], v[:, :, length:])
        together = len(set(span.starts)) == 1
        attended = torch.zeros_like(q)  # columns before the clip stay so; nobody sees them
        for row in [slice(None)] if together else [slice(index, index + 1) for index in range(batch)]:
            start = span.starts[row.start or 0]
            first = max(0, -start)
            while first < length:
                block = (start + first) // self.window
                last = min(length, (block + 1) * self.window - start)
                seen = slice(past + max(0, block - 1) * self.window - start, past + last)
                attended[row, :, first:last] = attend(q[row, :, first:last], k[row, :, seen], v[row, :, seen], bias)
                first = last
        return attended


class FeedForward(nn.Module):
    """Gated perceptron: a·GELU(b) of width ⌊8D/3⌋."""

    def __init__(self, dim: int):
        super().__init__()
        width = int(8 * dim / 3)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * width, bias=False)
        self.reduce = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        a, b = self.expand(self.norm(x)).chunk(2, dim=-1)
        return self.reduce(a * F.gelu(b))


class TransformerLayer(nn.Module):
    """x + attention(x), then x + feed-forward(x)."""

    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.attention = LocalAttention(dim, heads, window)
        self.feed_forward = FeedForward(dim)

    def forward(self, x: Tensor, bias: Tensor, span: Span) -> Tensor:
        """x (B, T, D), bias by distance (H, 2·window) → (B, T, D)."""
        x = x + self.attention(x, bias, span)
        return x + self.feed_forward(x)


class LocalTransformer(nn.Module):
    """Layers that share one position bias, on (B, T, D)."""

    def __init__(self, dim: int, heads: int, window: int, layers: int):
        super().__init__()
        self.window = window
        self.position_bias = PositionBias(dim, heads)
        self.layers = nn.ModuleList(TransformerLayer(dim, heads, window) for _ in range(layers))

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        bias = span.prepared(self, x, lambda columns: self.position_bias(2 * self.window))
        for layer in self.layers:
            x = layer(x, bias, span)
        return x
