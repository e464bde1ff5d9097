"""Local transformer: causal attention over blocks or a sliding window, with a learned distance bias."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...configuration import L3ACConfig
from ...quantization import Float32Linear
from ..cpu_kernels import apply_linear
from ..layers import Layers
from ..span import Span, StepSpan, StreamSpan

STEP = 128
"""Queries in a group with common keys, for sliding windows and in exported graphs."""


class PositionBias(nn.Module):
    """Dynamic position bias: a small network from the distance in time steps to a bias for each head."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.mlp = nn.Sequential(
            Float32Linear(1, dim // 2),
            nn.SiLU(),
            Float32Linear(dim // 2, dim // 2),
            nn.SiLU(),
            Float32Linear(dim // 2, heads),
        )

    def forward(self, distances: int, device: torch.device) -> Tensor:
        """Return the biases (H, distances) for the distances 0, 1, …, `distances` − 1."""
        # In float32: bfloat16 cannot tell integers up to 2·window apart.
        return self.mlp(torch.from_numpy(np.arange(distances, dtype=np.float32)[:, None]).to(device)).T


def reversed_bands(bias: Tensor, queries: int, keys: int) -> Tensor:
    """Bias by distance (H, D) → (H, queries, keys), last query first, for queries aligned with the last keys.

    It is −inf for keys after the query. The result is a view of one row for each head; no matrix is stored.
    """
    future = bias.new_full((bias.shape[0], queries - 1), float("-inf"))
    return torch.cat([bias[:, :keys].flip(1), future], dim=1).unfold(1, keys, 1)


def banded(bias: Tensor, queries: int, keys: int) -> Tensor:
    """`reversed_bands` (1, H, queries, keys) in which keys at distances of D and more are masked as well."""
    masked = keys - bias.shape[1]
    if masked > 0:
        bias = F.pad(bias, (0, masked), value=float("-inf"))
    return reversed_bands(bias, queries, keys)[None]


def attend(q: Tensor, k: Tensor, v: Tensor, biases: Tensor) -> Tensor:
    """Causal attention of queries (B, H, Q, d) that are aligned with the last of the keys and values (B, H, K, d).

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        biases: `banded` (1, H, Q, K), last query first.

    Returns:
        (B, H, Q, d).
    """
    if biases.requires_grad:  # torch's fallback for such masks takes longer, and returns NaN when compiled in bfloat16
        scores = q.flip(2) * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + biases
        return (scores.softmax(-1) @ v).flip(2)
    return F.scaled_dot_product_attention(q.flip(2), k, v, biases).flip(2)


class Group(NamedTuple):
    """Queries of a chunk with common keys.

    Attributes:
        rows: Their rows of the batch.
        queries: Their time steps in the chunk.
        keys: The time steps of their keys in the past followed by the chunk.
        biases: `banded` for them.
    """

    rows: slice
    queries: slice
    keys: slice
    biases: Tensor


def attend_in_graph(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, block: int | None) -> Tensor:
    """Attention of whole clips for exported graphs of dynamic length T, in memory proportional to T, not T².

    Each group of `STEP` queries attends to copies of all keys that one of them sees. Exporters specialize the number of
    groups to a constant if it may be 1, or if the shape of a view or slice depends on it. Therefore there is an extra
    group, and time steps are gathered by index.

    Args:
        q: Queries (B, H, T, d).
        k: Keys (B, H, T, d).
        v: Values (B, H, T, d).
        bias: Bias by distance (H, D); keys at distances of D and more are masked.
        block: Block length in time steps: a query sees its own block and the previous one; None: the last D time steps.

    Returns:
        (B, H, T, d).
    """
    batch, heads, length, width = q.shape
    reach = bias.shape[1]
    groups = (length - 1) // STEP + 2
    keys = torch.sym_min(reach + STEP - 1, groups * STEP)
    at_query = STEP * torch.arange(groups, device=q.device)[:, None] + torch.arange(STEP, device=q.device)
    at_key = at_query[:, -1:] - torch.arange(keys, device=q.device)
    if block is None:
        first_seen = (at_query - (reach - 1)).clamp(min=0)
    else:
        first_seen = (torch.div(at_query, block, rounding_mode="floor") - 1).clamp(min=0) * block
    distances = at_query[0][:, None] - at_key[0]  # the same in each group
    biases = bias[:, distances.clamp(0, reach - 1)].masked_fill(distances < 0, float("-inf"))
    masked = first_seen[..., None] > at_key[:, None]  # (groups, STEP, keys)

    def gather(x: Tensor, at: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 2 * STEP))[:, :, at.clamp(min=0)].flatten(0, 2)

    scores = torch.bmm(gather(q * width**-0.5, at_query), gather(k, at_key).transpose(1, 2))
    scores = (scores.unflatten(0, (batch, heads, groups)) + biases[:, None]).masked_fill(masked, float("-inf"))
    attended = torch.bmm(scores.softmax(dim=-1).flatten(0, 2), gather(v, at_key))
    attended = attended.unflatten(0, (batch, heads, groups)).flatten(2, 3)
    return attended.index_select(2, torch.arange(length, device=q.device))


def written(ring: Tensor, x: Tensor, span: Span) -> Tensor:
    """Ring (B, slots, …) with the next time steps x (B, T, …), each in the slot of its position modulo `slots`.

    Compilers write to the ring in place.
    """
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    slots = span.positions(x.shape[1], 0, x.device).remainder(ring.shape[1])
    return torch.index_put(ring, (rows, slots), x)


class LocalAttention(nn.Module):
    """Causal multi-head attention with limited reach, on (B, T, D).

    With blocks, as published, a query sees its own block of `window` time steps and the previous block; blocks start at
    multiples of `window`. With a sliding window, it sees its own time step and the `window` − 1 before it.
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
        """Maximum number of time steps that a query sees, including its own."""
        return self.window if self.sliding else 2 * self.window

    def forward(self, x: Tensor, bias: Tensor | list[Group], span: Span) -> Tensor:
        """x (B, T, D), bias as of `LocalTransformer.seen` → (B, T, D)."""
        batch, length, _ = x.shape
        qkv = apply_linear(self.to_qkv, self.norm(x)).view(batch, length, 3, self.heads, -1)
        if isinstance(bias, list):
            assert isinstance(span, StreamSpan)
            attended = self._attend_stream(qkv.permute(0, 2, 3, 1, 4), bias, span)
        else:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            bias = bias.to(q.dtype)
            if isinstance(span, StepSpan):
                attended = self._attend_step(q, k, v, bias, span)
            else:
                attended = self._attend_whole(q, k, v, bias)
        return apply_linear(self.to_out, attended.transpose(1, 2).flatten(2))

    def _group(self, first: int) -> tuple[int, int]:
        """First time step seen by a group of queries that starts at time step `first`, and the end of the group."""
        if self.sliding:
            return max(0, first - self.window + 1), first + STEP
        block = first // self.window
        return max(0, block - 1) * self.window, (block + 1) * self.window

    def _attend_whole(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention of whole clips, q, k, v (B, H, T, d)."""
        length = q.shape[2]
        if torch.compiler.is_exporting():
            return attend_in_graph(q, k, v, bias, None if self.sliding else self.window)
        groups = []
        for first in range(0, length, STEP if self.sliding else self.window):
            seen, end = self._group(first)
            end = min(end, length)
            biases = banded(bias, end - first, end - seen)
            groups.append(attend(q[:, :, first:end], k[:, :, seen:end], v[:, :, seen:end], biases))
        return torch.cat(groups, dim=2)

    def groups(self, bias: Tensor, length: int, batch: int, span: StreamSpan) -> list[Group]:
        """Groups of the queries of the next chunk (batch, `length`); none before the start of a clip."""
        past = self.reach - 1
        groups = []
        aligned = len(set(span.starts)) == 1
        for row in [slice(None)] if aligned else [slice(index, index + 1) for index in range(batch)]:
            start = span.starts[row.start or 0]
            first = max(0, -start)
            while first < length:
                seen, end = self._group(start + first)
                last = min(length, end - start)
                keys = slice(past + seen - start, past + last)
                biases = banded(bias, last - first, keys.stop - keys.start)
                groups.append(Group(row, slice(first, last), keys, biases))
                first = last
        return groups

    def _attend_stream(self, qkv: Tensor, groups: list[Group], span: StreamSpan) -> Tensor:
        """Attention of the next chunk, qkv (B, 3, H, T, d), with past keys and values in the span's state."""
        q = qkv[:, 0]
        k, v = span.with_long_past(qkv[:, 1:], self.reach - 1, self).unbind(1)
        parts = [
            attend(q[rows, :, queries], k[rows, :, keys], v[rows, :, keys], biases.to(q.dtype))
            for rows, queries, keys, biases in groups
        ]
        if len(groups) == 1 and parts[0].shape == q.shape:
            return parts[0]
        attended = torch.zeros_like(q)  # remains zero before the start of a clip
        for part, (rows, queries, _, _) in zip(parts, groups, strict=True):
            attended[rows, :, queries] = part
        return attended

    def _attend_step(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, span: StepSpan) -> Tensor:
        """Attention of the next chunk in exported graphs, with rings of past keys and values in the span's state."""
        heads, slots = self.heads, bias.shape[-1]
        rings = span.state.get(self) or [q.new_zeros(q.shape[0], slots, heads * q.shape[3]) for _ in (k, v)]
        rings = tuple(written(ring, x.transpose(1, 2).flatten(2), span) for ring, x in zip(rings, (k, v), strict=True))
        span.state[self] = rings
        k, v = (ring.unflatten(2, (heads, -1)).transpose(1, 2) for ring in rings)
        return F.scaled_dot_product_attention(q, k, v, bias)


class FeedForward(nn.Module):
    """Gated MLP a·GELU(b) of width ⌊8D/3⌋ (GEGLU, arXiv 2002.05202)."""

    def __init__(self, dim: int):
        super().__init__()
        width = int(8 * dim / 3)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * width, bias=False)
        self.reduce = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        a, b = apply_linear(self.expand, self.norm(x)).chunk(2, dim=-1)
        return apply_linear(self.reduce, a * F.gelu(b))


class TransformerLayer(nn.Module):
    """Transformer layer: x + attention(x), then x + feed-forward(x)."""

    def __init__(self, dim: int, heads: int, window: int, sliding: bool):
        super().__init__()
        self.attention = LocalAttention(dim, heads, window, sliding)
        self.feed_forward = FeedForward(dim)

    def forward(self, x: Tensor, bias: Tensor | list[Group], span: Span) -> Tensor:
        """x (B, T, D), bias as of `LocalTransformer.seen` → (B, T, D)."""
        x = x + self.attention(x, bias, span)
        return x + self.feed_forward(x)


class LocalTransformer(nn.Module):
    """Stack of transformer layers with a common position bias, on (B, T, D).

    Args:
        config: Width, number of heads, and window and kind of attention.
        rate: Time steps in a frame.
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
        bias = self.seen(x, span)
        for layer in self.layers:
            x = layer(x, bias, span)
        return x

    def seen(self, x: Tensor, span: Span) -> Tensor | list[Group]:
        """Bias of the queries x (B, T, D) for what they see, the same for all layers.

        Returns:
            The bias by distance (H, reach) for whole clips, groups of queries with theirs in streams, and in their
            exported graphs the bias of each query for each key.
        """
        attention = next(iter(self.layers)).attention
        bias = span.prepared(self, x, lambda time_steps: self.position_bias(attention.reach, x.device))
        if isinstance(span, StepSpan):
            return self._step_bias(bias, x.shape[1], span)
        if isinstance(span, StreamSpan):
            return attention.groups(bias.to(x.dtype), x.shape[1], x.shape[0], span)
        return bias

    def _step_bias(self, bias: Tensor, length: int, span: StepSpan) -> Tensor:
        """Bias by distance (H, reach) → bias (B, H, T, slots) of the next T queries for the keys in a ring.

        The state is the position of the key in each slot plus one, so that zero is an empty slot.
        """
        attention = next(iter(self.layers)).attention
        slots = attention.reach - 1 + length
        at_query = span.positions(length, 0, bias.device) + 1
        at_key = span.state.get(self, at_query.new_zeros(at_query.shape[0], slots))
        span.state[self] = at_key = written(at_key, at_query, span)
        at_query, at_key = at_query[:, :, None], at_key[:, None]
        distance = at_query - at_key
        if attention.sliding:
            unseen = distance >= attention.window
        else:
            window = attention.window
            unseen = at_key - 1 < (torch.div(at_query - 1, window, rounding_mode="floor") - 1) * window
        # Queries before the start of a clip see what is there, so that their output is finite.
        unseen = unseen | (distance < 0) | ((at_key <= 0) & (at_query > 0))
        biases = bias[:, distance.clamp(0, attention.reach - 1)].transpose(0, 1)
        return biases.masked_fill(unseen[:, None], float("-inf"))
