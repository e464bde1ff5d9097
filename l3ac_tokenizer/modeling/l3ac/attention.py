"""Local transformer: causal attention over blocks or a sliding window, with a learned bias by distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configuration import L3ACConfig
from ..layers import Layers
from ..span import Span, StreamSpan

STEP = 128
"""Queries that share their keys over a sliding window, and in an exported graph."""


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
    """Attention of queries (B, H, Q, d) that stand at the end of the keys (B, H, K, d), with a bias by distance (H, D).

    Keys at distances of D and more are not seen.
    """
    unseen = k.shape[2] - bias.shape[1]
    if unseen > 0:
        bias = F.pad(bias, (0, unseen), value=float("-inf"))
    biases = reversed_bands(bias, q.shape[2], k.shape[2])[None]
    return F.scaled_dot_product_attention(q.flip(2), k, v, biases).flip(2)


def attend_in_graph(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, block: int | None) -> Tensor:
    """Attention of a whole clip, q, k, v (B, H, T, d), in a graph whose length T is free: memory grows with T, not T².

    Blocks of `STEP` queries look at copies of all keys that one of them sees. An exporter takes a number of blocks for
    a constant if it could be 1, or if a view or a slice depends on it: so there is a block too many, and columns are
    taken by their numbers.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        bias: By distance (H, D); keys at distances of D and more are not seen.
        block: A query sees its own block of this many columns and the one before it; None: the last D columns.
    """
    batch, heads, length, width = q.shape
    reach = bias.shape[1]
    blocks = (length - 1) // STEP + 2
    keys = torch.sym_min(reach + STEP - 1, blocks * STEP)
    at_query = STEP * torch.arange(blocks, device=q.device)[:, None] + torch.arange(STEP, device=q.device)
    at_key = at_query[:, -1:] - torch.arange(keys, device=q.device)
    if block is None:
        first_seen = (at_query - (reach - 1)).clamp(min=0)
    else:
        first_seen = (torch.div(at_query, block, rounding_mode="floor") - 1).clamp(min=0) * block
    distances = at_query[0][:, None] - at_key[0]  # the same in each block
    biases = bias[:, distances.clamp(0, reach - 1)].masked_fill(distances < 0, float("-inf"))
    unseen = first_seen[..., None] > at_key[:, None]  # (blocks, STEP, keys)

    def columns(x: Tensor, at: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 2 * STEP))[:, :, at.clamp(min=0)].flatten(0, 2)

    scores = torch.bmm(columns(q * width**-0.5, at_query), columns(k, at_key).transpose(1, 2))
    scores = (scores.unflatten(0, (batch, heads, blocks)) + biases[:, None]).masked_fill(unseen, float("-inf"))
    attended = torch.bmm(scores.softmax(dim=-1).flatten(0, 2), columns(v, at_key))
    attended = attended.unflatten(0, (batch, heads, blocks)).flatten(2, 3)
    return attended.index_select(2, torch.arange(length, device=q.device))


class LocalAttention(nn.Module):
    """Causal attention to the columns near a query.

    In blocks, a query sees the keys of its own block of `window` columns and of the block before; blocks stand at
    multiples of `window` from the clip's first column. Sliding, it sees its own column and the `window` − 1 before it.
    """

    def __init__(self, dim: int, heads: int, window: int, sliding: bool):
        super().__init__()
        self.heads = heads
        self.window = window
        self.sliding = sliding
        inner = heads * (dim // 4)
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    @property
    def reach(self) -> int:
        """Columns that a query sees at most, its own among them."""
        return self.window if self.sliding else 2 * self.window

    def forward(self, x: Tensor, bias: Tensor, span: Span) -> Tensor:
        """x (B, T, D), bias by distance (H, reach) → (B, T, D)."""
        batch, length, _ = x.shape
        qkv = self.to_qkv(self.norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = bias.to(q.dtype)
        if isinstance(span, StreamSpan):
            attended = self._attend_stream(q, k, v, bias, span)
        else:
            attended = self._attend_whole(q, k, v, bias)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _together(self, first: int) -> tuple[int, int]:
        """First column that the query at column `first` of a clip sees, and the end of the queries attended with it."""
        if self.sliding:
            return max(0, first - self.window + 1), first + STEP
        block = first // self.window
        return max(0, block - 1) * self.window, (block + 1) * self.window

    def _attend_whole(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """q, k, v (B, H, T, d) from the clip's first column on."""
        length = q.shape[2]
        if torch.compiler.is_exporting():
            return attend_in_graph(q, k, v, bias, None if self.sliding else self.window)
        blocks = []
        for first in range(0, length, STEP if self.sliding else self.window):
            seen, end = self._together(first)
            blocks.append(attend(q[:, :, first:end], k[:, :, seen:end], v[:, :, seen:end], bias))
        return torch.cat(blocks, dim=2)

    def _attend_stream(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, span: StreamSpan) -> Tensor:
        """q, k, v (B, H, T, d) of the next columns; past keys and values come from the stream's state."""
        batch, heads, length, width = q.shape
        past = self.reach - 1
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
                seen, end = self._together(start + first)
                last = min(length, end - start)
                keys = slice(past + seen - start, past + last)
                attended[row, :, first:last] = attend(q[row, :, first:last], k[row, :, keys], v[row, :, keys], bias)
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

    def __init__(self, dim: int, heads: int, window: int, sliding: bool):
        super().__init__()
        self.attention = LocalAttention(dim, heads, window, sliding)
        self.feed_forward = FeedForward(dim)

    def forward(self, x: Tensor, bias: Tensor, span: Span) -> Tensor:
        """x (B, T, D), bias by distance (H, reach) → (B, T, D)."""
        x = x + self.attention(x, bias, span)
        return x + self.feed_forward(x)


class LocalTransformer(nn.Module):
    """Layers that share one position bias, on (B, T, D).

    Args:
        config: Width, heads and kind of attention.
        rate: Columns for each id.
        depth: Number of layers.
    """

    def __init__(self, config: L3ACConfig, rate: int, depth: int):
        super().__init__()
        dim, heads, window = config.feature_dim, config.num_attention_heads, config.attention_window * rate
        self.position_bias = PositionBias(dim, heads)
        self.layers: Layers[TransformerLayer] = Layers(
            TransformerLayer(dim, heads, window, config.attention == "sliding") for _ in range(depth)
        )

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        reach = next(iter(self.layers)).attention.reach
        bias = span.prepared(self, x, lambda columns: self.position_bias(reach))
        for layer in self.layers:
            x = layer(x, bias, span)
        return x
