"""The ways in which recipes turn ids into features, by the names that their YAML files use.

Axes: B batch, N ids, D features of the recipe's network, H features of the codec.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from ..language_model import EMBEDDING_MODES, FSQEmbedding
from ..quantization import digits_to_ids, ids_to_digits
from .tokenizer import L3ACTokenizer


def levels_of(codec: str) -> list[int]:
    """FSQ levels of a codec's ids, from its configuration: `!apply:l3ac_tokenizer.speechbrain.levels_of [l3ac-1k]`."""
    return list(AutoConfig.from_pretrained(codec).frame_levels)


class CodecEmbedding(nn.Module):
    """Ids → features through a trainable table that starts as the features of the codec's own decoder.

    Args:
        codec: Preset, folder, or name on the hub.
        dim: Features D.
    """

    def __init__(self, codec: str, dim: int):
        super().__init__()
        rows = L3ACTokenizer(codec).get_pretrained_embeddings()  # (C, H)
        self.table = nn.Embedding.from_pretrained(rows, freeze=False)
        self.linear = nn.Linear(rows.shape[1], dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (…) → features (…, D)."""
        return self.linear(self.table(ids))


def id_embedding(codec: str, dim: int, mode: str) -> nn.Module:
    """The layer from ids (…) to features (…, D).

    Args:
        codec: Preset, folder, or name on the hub.
        dim: Features D.
        mode: `"codes"`, `"digits"`, `"table"` and `"table_from_codes"` are those of `FSQEmbedding`; `"codec"` is
            `CodecEmbedding`.

    Raises:
        ValueError: `mode` is none of these.
    """
    if mode == "codec":
        return CodecEmbedding(codec, dim)
    if mode not in EMBEDDING_MODES:
        raise ValueError(f"`embedding` is {mode!r}; it must be one of {', '.join(EMBEDDING_MODES)} or codec.")
    return FSQEmbedding(levels_of(codec), dim, mode)


class IdJitter(nn.Module):
    """Augments ids in training: some digits move to a neighbouring level.

    What a codec's rounding does to a slightly different recording, done to ids: another voice, microphone or speed is
    out of its reach.

    Args:
        levels: Levels of the digits.
        probability: Share of digits that move, up or down by one.
    """

    def __init__(self, levels: list[int], probability: float):
        super().__init__()
        self.levels = tuple(levels)
        self.probability = probability

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → ids (B, N); unchanged in evaluation."""
        if not self.training or self.probability == 0:
            return ids
        digits = ids_to_digits(ids, self.levels)
        moved = torch.rand(digits.shape, device=ids.device) < self.probability
        step = 2 * torch.randint(2, digits.shape, device=ids.device) - 1
        highest = torch.tensor(self.levels, device=ids.device) - 1
        return digits_to_ids((digits + moved * step).clamp(min=0).minimum(highest), self.levels)


class StackFrames(nn.Module):
    """Neighbouring frames become one of several times the features: fewer steps for a recurrent network.

    Args:
        factor: Frames put together.
    """

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, D) → (B, ceil(N / factor), factor · D), zeros after the end."""
        batch, frames, features = x.shape
        x = nn.functional.pad(x, (0, 0, 0, -frames % self.factor))
        return x.reshape(batch, -1, self.factor * features)


class Frontend(nn.Module):
    """What a recogniser does with ids before its encoder: jitter, embedding, stacked frames.

    Args:
        codec: Preset, folder, or name on the hub.
        dim: Features D of a frame.
        embedding: See `id_embedding`.
        stack: Frames put together.
        id_jitter: Share of digits that move by one level in training.
        input_size: Features of a frame, where the input is no ids but frames; a linear map embeds them.
    """

    def __init__(
        self,
        codec: str,
        dim: int,
        embedding: str = "codes",
        stack: int = 1,
        id_jitter: float = 0.0,
        input_size: int | None = None,
    ):
        super().__init__()
        ids = input_size is None
        self.jitter = IdJitter(levels_of(codec), id_jitter) if ids else nn.Identity()
        self.embedding = id_embedding(codec, dim, embedding) if ids else nn.Linear(input_size or 0, dim)
        self.stack = StackFrames(stack)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (B, N), or frames (B, N, F) → (B, ceil(N / stack), stack · D); relative lengths (B,) of both.

        Zeros follow the end of each clip, as where it is alone: the last step of one may have frames of padding.
        """
        counts = (lengths * x.shape[1]).round()
        features = self.embedding(self.jitter(x))
        padding = torch.arange(x.shape[1], device=x.device) >= counts[:, None]
        features = self.stack(features.masked_fill(padding[..., None], 0.0))
        return features, (counts / self.stack.factor).ceil() / features.shape[1]
