"""Muon: momentum with orthogonalized update matrices (https://kellerjordan.github.io/posts/muon/)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration, as in torch.optim.Muon."""

STEPS = 5


def orthogonalization_type(device: torch.device) -> torch.dtype:
    """bfloat16 if the device supports it natively; otherwise float32, as emulation is a hundred times slower."""
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    )
    return torch.bfloat16 if native else torch.float32


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix (M, N) with singular values near 1, by five Newton-Schulz steps in `dtype`."""
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype).contiguous()  # as it is broadcast


class Muon(torch.optim.Muon):
    """torch's Muon with orthogonalization in a dtype that the device supports, divided among the processes.

    Each of P processes orthogonalizes every P-th matrix and broadcasts it; momentum and weights are the same in all.
    Updates are scaled by 0.2 times the square root of the larger dimension, so that learning rates for AdamW fit (Liu
    et al., arXiv 2502.16982).

    Args:
        parameters: Matrices (M, N).
        lr: Learning rate.
        weight_decay: Decoupled, as in AdamW.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient."""
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        process = distributed.get_rank() if processes > 1 else 0
        for group in self.param_groups:
            updates = []
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            for index, matrix in enumerate(matrices):
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                if index % processes == process:
                    update = matrix.grad.lerp(momentum, group["momentum"])
                    updates.append(orthogonalized(update, orthogonalization_type(matrix.device)))
                else:
                    updates.append(torch.empty_like(matrix))
            if processes > 1:
                for index, update in enumerate(updates):
                    distributed.broadcast(update, index % processes)
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)
