"""Encoders of a recognizer by name, for batches of clips of different lengths.

Axes: B batch, N steps, D features of the input, H half the features of the output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .recurrent import BiLSTM

ENCODERS = ("lstm", "branchformer")


def sequence_encoder(kind: str, input_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0) -> nn.Module:
    """Return a layer from features (B, N, D) and relative lengths (B,) to features (B, N, 2 · H), and None.

    Raises:
        ValueError: `kind` is not one of `ENCODERS`.
    """
    if kind not in ENCODERS:
        raise ValueError(f"`encoder_type` is {kind!r}; it must be one of {', '.join(ENCODERS)}.")
    encoder = BiLSTM if kind == "lstm" else Branchformer
    return encoder(input_size, hidden_size, num_layers, dropout)


class Branchformer(nn.Module):
    """SpeechBrain's Branchformer encoder, with outputs that do not depend on the padding.

    SpeechBrain's convolutions read the padding, and mirror the features at its end. Here they read zeros after the end
    of each clip, as in a batch without padding.

    Source: Peng et al., "Branchformer", ICML 2022.

    Args:
        input_size: Number of features D.
        hidden_size: Half the number of features of a layer, as in `BiLSTM`.
        num_layers: Number of layers.
        dropout: Dropout within the layers.
        num_heads: Number of attention heads.
        kernel_size: Steps that a convolution reads.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float = 0.0,
        num_heads: int = 4,
        kernel_size: int = 15,
    ):
        from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
        from speechbrain.nnet.attention import RelPosEncXL

        super().__init__()
        dim = 2 * hidden_size
        self.linear = nn.Linear(input_size, dim)
        self.positions = RelPosEncXL(dim)
        self.encoder = BranchformerEncoder(
            num_layers, dim, num_heads, kernel_size=kernel_size, dropout=dropout, csgu_linear_units=2 * dim
        )
        layer: Any
        for layer in self.encoder.layers:
            gate = layer.convolution_branch.csgu
            gate.conv.padding_mode = "constant"
            gate.norm = _ZeroPadded(gate.norm)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
        """x (B, N, D), relative lengths (B,) → (B, N, 2 · H), arbitrary after the end of a clip, and no state."""
        x = self.linear(x)
        padding = torch.arange(x.shape[1], device=x.device) >= (lengths * x.shape[1]).round()[:, None]
        layer: Any
        for layer in self.encoder.layers:
            layer.convolution_branch.csgu.norm.padding = padding
        return self.encoder(x, src_key_padding_mask=padding, pos_embs=self.positions(x))[0], None


class _ZeroPadded(nn.Module):
    """Layer whose output is zero where `padding` (B, N) is true; it stands before a convolution."""

    padding: Tensor

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, D) → (B, N, D)."""
        return self.layer(x).masked_fill(self.padding[..., None], 0.0)
