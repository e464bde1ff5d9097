"""Text-to-speech on ids: a character encoder and an autoregressive decoder of ids with an end-of-clip gate.

It follows Tokotron, the model of DASB's text-to-speech recipe (arXiv 2406.14294), with the embeddings and heads of
`language_model`, pre-norm layers (Xiong et al., 2020) and sinusoidal positions.

Axes: B batch, S characters, N ids, D features, A attention heads. The decoder has N + 1 steps: a start, then the ids;
step n predicts id n and whether the clip ends before it. As in SpeechBrain, lengths (B,) are relative to the longest
clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..language_model import FSQHead
from .embedding import IdJitter, id_embedding, levels_of

KeysValues = tuple[Tensor, Tensor]
"""Keys and values (B, A, N, D / A) of one attention layer."""


class Characters:
    """Numbers of the characters of an alphabet, from 1 on; 0 is padding.

    Args:
        alphabet: Known characters; all others are dropped.
        lower: Convert text to lower case first.
    """

    def __init__(self, alphabet: str, lower: bool = True):
        self.lower = lower
        self._number = {character: number for number, character in enumerate(alphabet, 1)}

    def __len__(self) -> int:
        return len(self._number) + 1

    def __call__(self, text: str) -> Tensor:
        """Return the numbers (S,), int64, of the known characters of a text."""
        return torch.tensor([self._number[each] for each in self.known(text)], dtype=torch.long)

    def known(self, text: str) -> str:
        """Return the known characters of a text."""
        return "".join(each for each in (text.lower() if self.lower else text) if each in self._number)


class TTSOutput(NamedTuple):
    """Result of `TokenTTS.forward`, for the training losses.

    Attributes:
        nats: −log p of each id (B, N), 0 at padding.
        gate: Logits (B, N + 1) that the clip ends at a step.
        alignments: Attention (B, N + 1, S) to the text, averaged over layers and heads.
    """

    nats: Tensor
    gate: Tensor
    alignments: Tensor


class GeneratedSpeech(NamedTuple):
    """Result of `TokenTTS.speak` for one text.

    Attributes:
        ids: Ids (N,), int64.
        finished: Whether the gate ended the clip, rather than the maximum length.
        alignment: Attention (N, S) to the text.
    """

    ids: Tensor
    finished: bool
    alignment: Tensor


class TokenTTS(nn.Module):
    """Transformer from characters to ids.

    Args:
        codec: Preset, checkpoint directory, or name on the hub, for the levels (and the rows of `embedding="codec"`).
        num_characters: `len(Characters(…))`.
        embedding: Embedding of the ids in the decoder, see `id_embedding`.
        head: Mode of the head that predicts ids, see `FSQHead`.
        d_model: Number of features D.
        nhead: Number of attention heads A.
        enc_layers: Number of encoder layers.
        dec_layers: Number of decoder layers.
        d_ffn: Number of hidden features of feed-forward layers.
        dropout: Dropout after each part of a layer.
        target_dropout: Dropout of the embedded ids.
        id_jitter: Probability that a digit of the ids read in training moves by one level.
        id_drop: Probability that an id read in training is dropped, so that the decoder has to rely on the text.
    """

    def __init__(
        self,
        codec: str,
        num_characters: int,
        embedding: str = "codes",
        head: str = "chained",
        d_model: int = 512,
        nhead: int = 4,
        enc_layers: int = 6,
        dec_layers: int = 12,
        d_ffn: int = 2048,
        dropout: float = 0.2,
        target_dropout: float = 0.2,
        id_jitter: float = 0.0,
        id_drop: float = 0.0,
    ):
        super().__init__()
        levels = levels_of(codec)
        self.text_embedding = nn.Embedding(num_characters, d_model, padding_idx=0)
        self.encoder: Sequence[EncoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            EncoderLayer(d_model, nhead, d_ffn, dropout) for _ in range(enc_layers)
        )
        self.encoder_norm = nn.LayerNorm(d_model)
        self.jitter = IdJitter(levels, id_jitter)
        self.id_embedding = id_embedding(codec, d_model, embedding)
        self.start = nn.Parameter(torch.randn(d_model))
        self.target_dropout = nn.Dropout(target_dropout)
        self.id_drop = id_drop
        self.decoder: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(d_model, nhead, d_ffn, dropout) for _ in range(dec_layers)
        )
        self.decoder_norm = nn.LayerNorm(d_model)
        self.head = FSQHead(d_model, levels, head)
        self.gate = nn.Linear(d_model, 1)

    def forward(self, text: Tensor, text_lengths: Tensor, ids: Tensor, id_lengths: Tensor) -> TTSOutput:
        """Compute the likelihood of ids (B, N) given characters (B, S)."""
        memory, readable = self.encode(text, text_lengths)
        x = self.target_dropout(self.id_embedding(self.jitter(ids)))
        if self.training and self.id_drop:
            x = x.masked_fill((torch.rand(ids.shape, device=ids.device) < self.id_drop)[..., None], 0.0)
        x = torch.cat([self.start.expand(len(ids), 1, -1), x], dim=1)
        x = x + sinusoids(torch.arange(x.shape[1], device=x.device), x.shape[2])
        alignments = []
        for layer in self.decoder:
            x, attention, _ = layer(x, layer.memory(memory), readable)
            alignments.append(attention)
        x = self.decoder_norm(x)
        counted = torch.arange(ids.shape[1], device=ids.device) < (id_lengths * ids.shape[1]).round()[:, None]
        nats = torch.zeros(ids.shape, device=ids.device)
        nats[counted] = -self.head.log_prob(x[:, :-1][counted], ids[counted])
        return TTSOutput(nats, self.gate(x)[..., 0].float(), torch.stack(alignments).mean(dim=0))

    def encode(self, text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Characters (B, S) → features (B, S, D), and a mask (B, 1, 1, S) that is True at text."""
        positions = torch.arange(text.shape[1], device=text.device)
        readable = (positions < (text_lengths * text.shape[1]).round()[:, None])[:, None, None]
        x = self.text_embedding(text)
        x = x + sinusoids(positions, x.shape[2])
        for layer in self.encoder:
            x = layer(x, readable)
        return self.encoder_norm(x), readable

    @torch.no_grad()
    def speak(
        self,
        text: Tensor,
        text_lengths: Tensor,
        max_ids: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        gate_threshold: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> list[GeneratedSpeech]:
        """Generate ids for characters (B, S), with cached keys and values.

        Args:
            text: Characters (B, S).
            text_lengths: Relative lengths (B,).
            max_ids: Largest number of ids in a clip.
            temperature: See `FSQHead.sample`; 0 takes the most probable digits.
            top_p: See `FSQHead.sample`.
            gate_threshold: Gate probability above which a clip ends.
            generator: Random number generator.

        Raises:
            ValueError: `max_ids` is not above 0, or `temperature` or `top_p` is out of range.
        """
        if max_ids < 1:
            raise ValueError(f"`max_ids` is {max_ids}; it must be at least 1.")
        memory, readable = self.encode(text, text_lengths)
        memories = [layer.memory(memory) for layer in self.decoder]
        caches: list[KeysValues | None] = [None] * len(self.decoder)
        ends = torch.full((len(text),), max_ids, device=text.device)
        running = torch.ones_like(ends, dtype=torch.bool)
        x = self.start.expand(len(text), 1, -1)
        drawn, alignments = [], []
        for step in range(max_ids + 1):
            x = x + sinusoids(torch.tensor([step], device=text.device), x.shape[2])
            weights = []
            for index, layer in enumerate(self.decoder):
                x, attention, caches[index] = layer(x, memories[index], readable, caches[index])
                weights.append(attention)
            x = self.decoder_norm(x)
            stops = running & (self.gate(x)[:, 0, 0].float().sigmoid() > gate_threshold) & (step > 0)
            ends[stops] = step
            running &= ~stops
            if step == max_ids or not running.any():
                break
            drawn.append(self.head.sample(x[:, 0], temperature, top_p, generator))
            alignments.append(torch.stack(weights).mean(dim=0)[:, 0])
            x = self.id_embedding(drawn[-1])[:, None]
        ids, alignment = torch.stack(drawn, dim=1), torch.stack(alignments, dim=1)
        rows = zip(ids, ends.tolist(), running.tolist(), alignment, strict=True)
        return [GeneratedSpeech(row[:end], not cut, weights[:end]) for row, end, cut, weights in rows]


class EncoderLayer(nn.Module):
    """Encoder layer: self-attention and feed-forward."""

    def __init__(self, d_model: int, nhead: int, d_ffn: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, nhead)
        self.feed_forward = FeedForward(d_model, d_ffn, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, readable: Tensor) -> Tensor:
        """x (B, S, D), mask (B, 1, 1, S) → (B, S, D)."""
        y = self.norm(x)
        attended = self.attention(y, self.attention.keys_values(y), mask=readable)
        return self.feed_forward(x + self.dropout(attended))


class DecoderLayer(nn.Module):
    """Decoder layer: attention to the previous ids, attention to the text, and feed-forward."""

    def __init__(self, d_model: int, nhead: int, d_ffn: int, dropout: float):
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = Attention(d_model, nhead)
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attention = Attention(d_model, nhead)
        self.feed_forward = FeedForward(d_model, d_ffn, dropout)
        self.dropout = nn.Dropout(dropout)

    def memory(self, memory: Tensor) -> KeysValues:
        """Return the keys and values of the text (B, S, D), which are the same at every step."""
        return self.cross_attention.keys_values(memory)

    def forward(
        self, x: Tensor, memory: KeysValues, readable: Tensor, cache: KeysValues | None = None
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """x (B, N, D) → (B, N, D), the mean attention (B, N, S) to the text, and the cache for the next step.

        With a cache, x is the single step that follows it.
        """
        y = self.self_norm(x)
        keys, values = self.self_attention.keys_values(y)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], dim=2), torch.cat([cache[1], values], dim=2)
        x = x + self.dropout(self.self_attention(y, (keys, values), causal=cache is None))
        attended, weights = self.cross_attention.with_weights(self.cross_norm(x), memory, readable)
        return self.feed_forward(x + self.dropout(attended)), weights, (keys, values)


class Attention(nn.Module):
    """Scaled dot-product attention with A heads."""

    def __init__(self, d_model: int, nhead: int):
        super().__init__()
        self.nhead = nhead
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def keys_values(self, x: Tensor) -> KeysValues:
        """x (B, N, D) → keys and values."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return self._heads(keys), self._heads(values)

    def forward(self, x: Tensor, keys_values: KeysValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (B, N, D) → (B, N, D); `mask` is True at keys that may be read."""
        out = F.scaled_dot_product_attention(self._heads(self.query(x)), *keys_values, attn_mask=mask, is_causal=causal)
        return self._joined(out)

    def with_weights(self, x: Tensor, keys_values: KeysValues, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Like `forward`, but also return the weights (B, N, S), averaged over heads."""
        queries = self._heads(self.query(x))
        keys, values = keys_values
        logits = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])
        weights = logits.float().masked_fill(~mask, -math.inf).softmax(dim=-1)
        return self._joined(weights.to(values.dtype) @ values), weights.mean(dim=1)

    def _heads(self, x: Tensor) -> Tensor:
        batch, steps, _ = x.shape
        return x.reshape(batch, steps, self.nhead, -1).transpose(1, 2)  # (B, A, N, D / A)

    def _joined(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Feed-forward layer: x + W₂ gelu(W₁ norm(x))."""

    def __init__(self, d_model: int, d_ffn: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, d_ffn),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_ffn, d_model),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, D) → (B, N, D)."""
        return x + self.layers(x)


def sinusoids(positions: Tensor, features: int) -> Tensor:
    """Positions (N,) → sinusoidal embeddings (N, D): sines, then cosines, with wavelengths from 2π to 20,000π."""
    steps = torch.arange(features // 2, device=positions.device)
    angles = positions[:, None] * torch.exp(-math.log(10_000) * steps / (features // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def gate_targets(lengths: Sequence[int] | Tensor, steps: int) -> Tensor:
    """Lengths (B,) in ids → (B, steps): 0 before the step that ends the clip, 1 there, NaN (ignored) after it."""
    ends = torch.as_tensor(lengths)[:, None]
    position = torch.arange(steps, device=ends.device)
    return torch.where(position > ends, math.nan, (position == ends).float())
