"""Optimizers of one network: Adam and optionally Muon, with clipping inside the accumulation."""

from __future__ import annotations

import re
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .muon import Muon
from .schedule import CyclePoint

HIDDEN_LAYER = re.compile(r"\.(layers|blocks|units)\.\d+\.(?!.*parametrizations)")
"""Matches the names of parameters of transformer layers and ConvNeXt blocks without weight norm; Muon trains their
matrices."""


class Optimizer:
    """Accumulates gradients over the micro-batches of an update, then steps.

    As published, the gradient is clipped after every micro-batch, G <- clip(G + dL_i / m), so early micro-batches may
    be scaled several times. With several processes dL_i is their mean.

    Args:
        accelerator: Scales losses when training in float16.
        network: Module whose parameters with `requires_grad` are trained.
        weight_decay: Decoupled weight decay (AdamW); with 0 this is Adam.
        clip_norm: Largest global L2 norm of the gradient.
        muon: Muon trains the matrices of hidden layers with `muon` times the learning rate of Adam, which trains the
            rest; None: Adam trains everything.

    `skipped` counts successive updates that were skipped because float16 gradients overflowed.
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
            if muon is not None and parameter.ndim == 2 and HIDDEN_LAYER.search(name)
        }
        others = [parameter for name, parameter in named.items() if name not in matrices]
        self.adam = torch.optim.AdamW(others, eps=1e-8, weight_decay=weight_decay, fused=True)
        self.muon = Muon(matrices.values(), weight_decay=weight_decay) if matrices else None
        self._muon_factor = muon or 0.0

    def begin(self, point: CyclePoint) -> None:
        """Clear the gradients, and set the learning rate and beta1 of the next step."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        for group in self.adam.param_groups:
            group["lr"], group["betas"] = point.lr, (point.beta1, group["betas"][1])
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = point.lr * self._muon_factor

    def add(self, loss: Tensor) -> Tensor:
        """Add the gradient of `loss`, clip the sum so far, and return its norm before clipping."""
        self.accelerator.backward(loss)
        scaler = self.accelerator.scaler
        scale = 1.0 if scaler is None else scaler.get_scale()
        return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm * scale) / scale

    def step(self) -> None:
        """Update the parameters; in float16, skip the update if gradients overflowed."""
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

    @property
    def has_stepped(self) -> bool:
        """Whether there has been an update, in this session or before a resume."""
        return any(optimizer.state for optimizer in self._optimizers)

    def state_dict(self) -> dict[str, Any]:
        """States of Adam and Muon."""
        return {name: optimizer.state_dict() for name, optimizer in self._named.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        for name, optimizer in self._named.items():
            optimizer.load_state_dict(state[name])

    @property
    def _named(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam": self.adam} | ({"muon": self.muon} if self.muon is not None else {})

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return list(self._named.values())
