"""Bidirectional LSTM for batches of clips of different lengths, fast on a CPU.

PyTorch's fused CPU kernels only accept whole batches: on a packed batch, `nn.LSTM` runs step by step, which takes twice
the time. Here each direction reads the padded batch, the backward one starting from the end of each clip, so the
outputs equal those for a packed batch.

Axes: B batch, N steps, D features, H features of a direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BiLSTM(nn.Module):
    """Bidirectional LSTM on padded batches.

    Args:
        input_size: Number of features D.
        hidden_size: Number of features H of a direction.
        num_layers: Number of layers.
        dropout: Dropout between layers.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0):
        super().__init__()
        sizes = [input_size, *[2 * hidden_size] * (num_layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:  # as SpeechBrain does
                nn.init.orthogonal_(parameter)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
        """x (B, N, D), relative lengths (B,) → (B, N, 2 · H), arbitrary after the end of a clip, and no state."""
        rows = _mirrored(lengths, x.shape[1])
        for index, (onward, backward) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            x = self.dropout(x) if index else x
            from_end = backward(_picked(x, rows))[0]
            x = torch.cat([onward(x)[0], _picked(from_end, rows)], dim=-1)
        return x, None


def _mirrored(lengths: Tensor, steps: int) -> Tensor:
    """Relative lengths (B,) → row indices (B · N,) of a flat batch, with the steps of each clip reversed."""
    positions = torch.arange(steps, device=lengths.device)
    ends = (lengths * steps).round().long()[:, None]
    order = torch.where(positions < ends, ends - 1 - positions, positions)
    return (order + steps * torch.arange(len(lengths), device=lengths.device)[:, None]).flatten()


def _picked(x: Tensor, rows: Tensor) -> Tensor:
    return x.flatten(0, 1).index_select(0, rows).view_as(x)
