"""The optimizers of one network as Accelerate runs them: scaled gradients, clipping inside the accumulation."""

from __future__ import annotations

import re
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .muon import Muon
from .schedule import CyclePoint

HIDDEN_MATRIX = re.compile(r"\.(layers|blocks|units)\.\d+\.")
"""In the names of parameters of transformer layers and ConvNeXt blocks, whose matrices Muon trains."""


class Optimizer:
    """Collects gradients over the micro-batches of an update, then steps.

    As published, the gradient is clipped after every micro-batch: G <- clip(G + dL_i / m), so that early
    micro-batches can be scaled several times. With several processes dL_i is their mean.

    Args:
        accelerator: Scales losses where it trains in float16.
        network: Whose parameters are trained, but for those that are frozen.
        weight_decay: Decoupled (AdamW); with 0 this is Adam.
        clip_norm: Largest global L2 norm of the gradient.
        muon: Learning rate of Muon on the matrices of hidden layers, as a factor on that of Adam on all others; None:
            Adam on all.

    `skipped` counts the updates in a row that were left out because their float16 gradients overflowed.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        *,
        weight_decay: float,
        clip_norm: float,
        muon: float | None = None,
    ):
        self.accelerator = accelerator
        named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.parameters = list(named.values())
        self.clip_norm = clip_norm
        self.skipped = 0
        matrices = {
            name: parameter
            for name, parameter in named.items()
            if muon is not None and parameter.ndim == 2 and HIDDEN_MATRIX.search(name)
        }
        others = [parameter for name, parameter in named.items() if name not in matrices]
        self.adam = torch.optim.AdamW(others, eps=1e-8, weight_decay=weight_decay, fused=True)
        self.muon = Muon(matrices.values(), weight_decay=weight_decay) if matrices else None
        self._muon_factor = muon or 0.0

    def begin(self, point: CyclePoint) -> None:
        """Forget the gradients; the next step uses the learning rate and beta1 of `point`."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        for group in self.adam.param_groups:
            group["lr"], group["betas"] = point.lr, (point.beta1, group["betas"][1])
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = point.lr * self._muon_factor

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
            for optimizer in self._optimizers:
                optimizer.step()
            return
        scale = scaler.get_scale()
        for optimizer in self._optimizers:
            scaler.step(optimizer)
        scaler.update()
        self.skipped = self.skipped + 1 if scaler.get_scale() < scale else 0

    def state_dict(self) -> dict[str, Any]:
        """Adam's moments, and Muon's."""
        return {name: optimizer.state_dict() for name, optimizer in self._named.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state of `state_dict`."""
        for name, optimizer in self._named.items():
            optimizer.load_state_dict(state[name])

    @property
    def _named(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.adam} | ({"muon": self.muon} if self.muon is not None else {})

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return list(self._named.values())
