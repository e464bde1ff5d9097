"""Sliding-window attention with rotary position embeddings, in memory proportional to the length.

Axes: B batch, T time steps, H heads, E channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..span import Span

BLOCK = 128
"""Queries in a group, which share a copy of all keys that one of them sees."""

STEP = 64
"""Queries in a group in exported graphs."""

ROTARY_BASE = 10_000.0
MIN_ROTATED = 32
"""Minimum number of rotated channels of a head; otherwise, half of its channels are rotated."""


def rotary_frequencies(width: int, device: torch.device) -> Tensor:
    """Rotary frequencies 10000^(−2j/R) (R/2,) of the channels j and j + R/2, in radians per time step, float64.

    R = max(width/2, 32) channels of a head of `width` channels are rotated.
    """
    half = max(width // 2, MIN_ROTATED) // 2
    return ROTARY_BASE ** (-torch.arange(half, device=device, dtype=torch.float64) / half)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) of x (B, T, H, E) at `positions` (B or 1, T), in float32."""
    frequencies = rotary_frequencies(x.shape[-1], x.device)
    half = len(frequencies)
    wide = torch.promote_types(x.dtype, torch.float32)
    # In float64, because positions in a stream, and with them the angles, are unbounded.
    angle = positions[..., None, None] * frequencies  # (B or 1, T, 1, R/2)
    cos, sin = angle.cos().to(wide), angle.sin().to(wide)
    a, b, others = x.to(wide).split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, others], dim=-1).to(x.dtype)


def attend_in_window(q: Tensor, k: Tensor, v: Tensor, inside: Tensor, before: int, after: int) -> Tensor:
    """Attention in which each query sees `before` keys before its own time step, its own, and `after` keys after it.

    Args:
        q: Queries (B, T, H, E).
        k: Keys (B, before + T + after, H, E), starting `before` time steps before the first query.
        v: Values, of the shape of the keys.
        inside: Mask (B or 1, before + T + after) of keys within the clips. A query always sees its own time step, so
            that the output outside the clips is finite.
        before: Number of time steps.
        after: Number of time steps.

    Returns:
        (B, T, H, E).
    """
    batch, length = q.shape[:2]
    # Exporters specialize a number of blocks that may be 1 to a constant; therefore, there is an extra block.
    exporting = torch.compiler.is_exporting()
    block = STEP if exporting else min(BLOCK, length)
    blocks = (length - 1) // block + (2 if exporting else 1)
    firsts = block * torch.arange(blocks, device=q.device)[:, None]
    # Queries after the last time step repeat it and are removed at the end.
    at_query = (firsts + torch.arange(block, device=q.device)).clamp(max=length - 1)
    at_key = (firsts + torch.arange(before + block + after, device=q.device)).clamp(max=k.shape[1] - 1)

    def by_block(x: Tensor, at: Tensor) -> Tensor:
        gathered = x.index_select(1, at.flatten())
        return gathered.view(batch * blocks, -1, *x.shape[2:]).transpose(1, 2)  # (B · blocks, H, time steps, E)

    offset = torch.arange(before + block + after, device=q.device) - torch.arange(block, device=q.device)[:, None]
    near = (offset >= 0) & (offset <= before + after)
    seen = near & (inside[:, at_key][:, :, None] | (offset == before))  # (B or 1, blocks, queries, keys)
    seen = seen.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    attended = F.scaled_dot_product_attention(by_block(q, at_query), by_block(k, at_key), by_block(v, at_key), seen)
    attended = attended.transpose(1, 2).unflatten(0, (batch, blocks)).flatten(1, 2)
    return attended.index_select(1, torch.arange(length, device=q.device)) if exporting else attended[:, :length]


class SlidingAttention(nn.Module):
    """Multi-head attention over `before` time steps before a query's own, its own, and `after` time steps after it.

    Queries and keys are normalized for each head, then rotated. In a stream, the output is delayed by `after` steps.
    """

    def __init__(self, dim: int, heads: int, before: int, after: int):
        super().__init__()
        self.heads = heads
        self.before = before
        self.after = after
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-6)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, D) → (B, T, D)."""
        batch, length, _ = x.shape
        q, k, v = self.to_qkv(x).view(batch, length, 3, self.heads, -1).unbind(2)
        q = span.delayed(self.q_norm(q).flatten(2), self.after, self.to_qkv).unflatten(2, (self.heads, -1))
        k = rotate(self.k_norm(k), span.positions(length, 0, x.device))
        window, _, crop = span.around(torch.cat([k, v], dim=-1).flatten(2), self.before, self.after, self)
        inside = span.inside(window.shape[1], crop, x.device)
        if inside is None:
            inside = torch.ones(1, window.shape[1], dtype=torch.bool, device=x.device)
        if not crop:
            window = F.pad(window, (0, 0, self.before, self.after))
            inside = F.pad(inside, (self.before, self.after))
        k, v = window.unflatten(2, (self.heads, -1)).chunk(2, dim=-1)
        q = rotate(q, span.positions(length, 0, x.device))
        return self.to_out(attend_in_window(q, k, v, inside, self.before, self.after).flatten(2))
