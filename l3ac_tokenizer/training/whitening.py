"""Whitening of the latents during training, folded into the published network at export.

With default initialization the six latents hardly vary and are nearly equal, a whole test set falls into a handful of
ids, and the decoder learns to ignore them. Whitening before tanh (unit variance, no correlation) prevents that. With
fixed statistics it is affine, so it folds exactly into the preceding projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Whitened(nn.Module):
    """Projection to the latents followed by whitening, both in float32: (..., D) -> (..., L).

    The whitening is z -> C^-1 (z - mean), where C is the Cholesky factor of the covariance. Training uses the
    statistics of the batch, with gradients; with running averages, which lag behind the weights, the latents collapsed
    to a fifth of a level. Evaluation uses the running averages. The mean drifts far from zero (10 and more at a
    standard deviation of 0.5), hence float32 even under autocast.

    Args:
        linear: The quantizer's projection, which stays trainable, or, if the quantizer has none, its conversion to
            float32.
        width: Number of latents L.
        momentum: Weight of a batch in the running averages; larger during the first batches.
        floor: Variance added in every direction, as a fraction of the mean variance, to bound the amplification.
    """

    running_mean: Tensor
    running_cov: Tensor
    num_batches: Tensor

    def __init__(self, linear: nn.Module, width: int, momentum: float = 0.05, floor: float = 1e-3):
        super().__init__()
        self.linear = linear
        self.momentum = momentum
        self.floor = floor
        self._collected: list[Tensor] | None = None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_cov", torch.eye(width))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Project (..., D) to whitened latents (..., L), float32."""
        with torch.autocast(features.device.type, enabled=False):
            latents = self.linear(features.float())
            if self._collected is not None:
                self._collected.append(latents.detach().flatten(0, -2))
            mean, cov = (
                self._of_batch(latents.flatten(0, -2)) if self.training else (self.running_mean, self.running_cov)
            )
            centered = latents - mean
            return centered @ self._whitening(cov).T

    def _of_batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the batch (rows, L), with gradients; updates the running averages."""
        mean = rows.mean(0)
        cov = (rows - mean).T @ (rows - mean) / rows.shape[0]
        with torch.no_grad():
            share = torch.clamp(1 / (self.num_batches + 1), min=self.momentum)
            self.running_mean.lerp_(mean, share)
            self.running_cov.lerp_(cov, share)
            self.num_batches.add_(1)
        return mean, cov

    def _whitening(self, cov: Tensor) -> Tensor:
        """C^-1 (L, L), lower triangular."""
        identity = torch.eye(cov.shape[0], dtype=cov.dtype, device=cov.device)
        factor, failed = torch.linalg.cholesky_ex(cov + identity * (self.floor * cov.diagonal().mean() + 1e-8))
        # NaN reaches the loss, which stops all processes; an error here would leave the others waiting.
        factor = factor.masked_fill(failed != 0, torch.nan)
        return torch.linalg.solve_triangular(factor, identity, upper=False)

    @contextmanager
    def reestimated(self) -> Iterator[None]:
        """Context manager: replace the running averages by the statistics of all latents computed inside it.

        Averaged weights need this, as their latents are distributed differently from those seen in training.
        """
        self._collected = []
        try:
            yield
            rows = torch.cat(self._collected).double()
            self.running_mean.copy_(rows.mean(0))
            self.running_cov.copy_(rows.T.cov(correction=0))
        finally:
            self._collected = None

    @torch.no_grad()
    def fold_into(self, layer: nn.Linear | nn.Conv1d) -> None:
        """Fold the whitening of evaluation into `layer`, whose outputs are the latents."""
        mean, cov = (statistic.to(layer.weight.device).double() for statistic in (self.running_mean, self.running_cov))
        whitening = self._whitening(cov)
        assert layer.bias is not None
        layer.weight.copy_(torch.tensordot(whitening, layer.weight.double(), 1))
        layer.bias.copy_(whitening @ (layer.bias.double() - mean))
