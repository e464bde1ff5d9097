"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AveragedWeights:
    """w <- decay * w + (1 - decay) * parameter after every update, in float32.

    At first the decay is (1 + n) / (10 + n), so that the random start does not linger. With decay 0 the averages equal
    the weights.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.weights = {name: p.detach().clone().float() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the averages towards the module's parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = dict(module.named_parameters())
        targets = [current[name].detach().float() for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), targets, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Copy the averages into a module of the same structure."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.weights[name])

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        """The averages and the number of updates."""
        return {"updates": self.updates, "weights": self.weights}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Load a state from `state_dict`."""
        self.updates = state["updates"]
        for name, weight in self.weights.items():
            weight.copy_(state["weights"][name])
