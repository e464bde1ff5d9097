"""Adam on one network as Accelerate runs it: scaled gradients, clipping inside the accumulation."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .schedule import CyclePoint


class Optimiser:
    """Collects gradients over the micro-batches of an update, then steps.

    As published, the gradient is clipped after every micro-batch: G <- clip(G + dL_i / m), so that early
    micro-batches can be scaled several times. With several processes dL_i is their mean.

    Args:
        accelerator: Scales losses where it trains in float16.
        network: Whose parameters are trained, but for those that are frozen.
        weight_decay: Decoupled (AdamW); with 0 this is Adam.
        clip_norm: Largest global L2 norm of the gradient.

    `skipped` counts the updates in a row that were left out because their float16 gradients overflowed.
    """

    def __init__(self, accelerator: Accelerator, network: nn.Module, *, weight_decay: float, clip_norm: float):
        self.accelerator = accelerator
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.clip_norm = clip_norm
        self.skipped = 0
        self.adam = torch.optim.AdamW(self.parameters, eps=1e-8, weight_decay=weight_decay, fused=True)

    def begin(self, point: CyclePoint) -> None:
        """Forget the gradients; the next step uses the learning rate and beta1 of `point`."""
        self.adam.zero_grad()
        for group in self.adam.param_groups:
            group["lr"], group["betas"] = point.lr, (point.beta1, group["betas"][1])

    def add(self, loss: Tensor) -> Tensor:
        """Add the gradient of `loss`, clip what has come together, and return its norm before the clip."""
        self.accelerator.backward(loss)
        scaler = self.accelerator.scaler
        scale = 1.0 if scaler is None else scaler.get_scale()
        return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm * scale) / scale

    def step(self) -> None:
        """Update the parameters; in float16 an update whose gradients overflowed is left out."""
        scaler = self.accelerator.scaler
        if scaler is None:
            self.adam.step()
            return
        scale = scaler.get_scale()
        scaler.step(self.adam)
        scaler.update()
        self.skipped = self.skipped + 1 if scaler.get_scale() < scale else 0

    def state_dict(self) -> dict[str, Any]:
        """Adam's moments."""
        return self.adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state of `state_dict`."""
        self.adam.load_state_dict(state)
