"""Embeddings of ids for recipes, by the names used in their YAML files.

Axes: B batch, N ids, C codebook size, D features of the recipe's network, H features of the codec.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from ..language_model import EMBEDDING_MODES, FSQEmbedding
from ..quantization import digits_to_ids, ids_to_digits
from .tokenizer import L3ACTokenizer


def levels_of(codec: str) -> list[int]:
    """Return the FSQ levels of a codec; in YAML `!apply:l3ac_tokenizer.speechbrain.levels_of [l3ac-1k]`."""
    return list(AutoConfig.from_pretrained(codec, trust_remote_code=False).frame_levels)


class CodecEmbedding(nn.Module):
    """Trainable embedding table, initialized with the features that the codec's decoder reads for each id.

    Args:
        codec: Preset, checkpoint directory, or name on the hub.
        dim: Number of features D.
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
    """Return a layer from ids (…) to features (…, D).

    Args:
        codec: Preset, checkpoint directory, or name on the hub.
        dim: Number of features D.
        mode: `"codes"`, `"digits"`, `"table"` and `"table_from_codes"` are those of `FSQEmbedding`; `"codec"` is
            `CodecEmbedding`.

    Raises:
        ValueError: `mode` is not one of these.
    """
    if mode == "codec":
        return CodecEmbedding(codec, dim)
    if mode not in EMBEDDING_MODES:
        raise ValueError(f"`embedding` is {mode!r}; it must be one of {', '.join(EMBEDDING_MODES)} or codec.")
    return FSQEmbedding(levels_of(codec), dim, mode)


class IdJitter(nn.Module):
    """Data augmentation of ids: moves some digits to an adjacent level in training.

    It imitates the effect that a slightly different recording has on a codec's rounding, not another voice, microphone
    or speed.

    Args:
        levels: Number of levels of each digit.
        probability: Probability that a digit moves up or down by one.
    """

    def __init__(self, levels: list[int], probability: float):
        super().__init__()
        self.levels = tuple(levels)
        self.probability = probability

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → ids (B, N); unchanged in evaluation mode."""
        if not self.training or self.probability == 0:
            return ids
        digits = ids_to_digits(ids, self.levels)
        moved = torch.rand(digits.shape, device=ids.device) < self.probability
        step = 2 * torch.randint(2, digits.shape, device=ids.device) - 1
        highest = torch.tensor(self.levels, device=ids.device) - 1
        return digits_to_ids((digits + moved * step).clamp(min=0).minimum(highest), self.levels)


class StackFrames(nn.Module):
    """Stacks adjacent frames along the feature axis, which gives a recurrent network fewer steps.

    Args:
        factor: Number of frames in a stack.
    """

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, D) → (B, ceil(N / factor), factor · D), padded with zeros at the end."""
        batch, frames, features = x.shape
        x = nn.functional.pad(x, (0, 0, 0, -frames % self.factor))
        return x.reshape(batch, -1, self.factor * features)


class Frontend(nn.Module):
    """Front end of a recognizer: jitter, embedding and stacking of ids.

    Args:
        codec: Preset, checkpoint directory, or name on the hub.
        dim: Number of features D of a frame.
        embedding: See `id_embedding`.
        stack: Number of frames in a stack.
        id_jitter: Probability that a digit moves by one level in training.
        input_size: Number of features F of input frames, which a linear map embeds; None: the input is ids.
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
        """Ids (B, N) or frames (B, N, F) → (B, ceil(N / stack), stack · D), each with relative lengths (B,).

        Features after the end of a clip are zero, also within its last stack, so that they do not depend on the batch.
        """
        counts = (lengths * x.shape[1]).round()
        features = self.embedding(self.jitter(x))
        padding = torch.arange(x.shape[1], device=x.device) >= counts[:, None]
        features = self.stack(features.masked_fill(padding[..., None], 0.0))
        return features, (counts / self.stack.factor).ceil() / features.shape[1]
