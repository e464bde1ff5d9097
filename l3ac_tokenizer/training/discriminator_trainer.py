"""The discriminator in training: its own updates, and its part of the codec's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .config import DiscriminatorOptions
from .discriminator import Discriminator, FeatureMaps
from .losses import (
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    hinge_adversarial_loss,
    hinge_discriminator_loss,
    relative_feature_matching_loss,
)
from .network import load_companion
from .optimizer import Optimizer
from .schedule import RESOLUTION, CyclePoint, one_cycle
from .stft_discriminator import COMPRESSED, PUBLISHED, STFTDiscriminator

DISCRIMINATOR_FILE = "discriminator.safetensors"
"""The discriminator in a checkpoint directory, from which later runs continue."""

FEATURE_MATCHING = 2.0
"""Weight of L3AC's feature matching loss in its sum with the adversarial loss."""

SMALL_ADVERSARIAL, SMALL_FEATURE_MATCHING = 0.5, 5.0
"""Weights of both losses for `kind: small`."""

GeneratorLoss = tuple[Tensor, dict[str, Tensor]]
"""Weighted sum and unweighted terms."""


def _of_l3ac(fake: list[FeatureMaps], real: list[FeatureMaps]) -> GeneratorLoss:
    parts = {"adversarial": adversarial_loss(fake), "feature_matching": feature_matching_loss(fake, real)}
    return parts["adversarial"] + FEATURE_MATCHING * parts["feature_matching"], parts


def _of_taae(fake: list[FeatureMaps], real: list[FeatureMaps]) -> GeneratorLoss:
    matching = relative_feature_matching_loss(fake, real)
    return matching, {"feature_matching": matching}


def _of_small(fake: list[FeatureMaps], real: list[FeatureMaps]) -> GeneratorLoss:
    parts = {
        "adversarial": hinge_adversarial_loss(fake),
        "feature_matching": relative_feature_matching_loss(fake, real),
    }
    return SMALL_ADVERSARIAL * parts["adversarial"] + SMALL_FEATURE_MATCHING * parts["feature_matching"], parts


class DiscriminatorTrainer:
    """A discriminator with its optimizer.

    Args:
        options: Size and training of the discriminator.
        accelerator: Places the network and averages gradients over processes.
        seed: Seed of the initial weights.
        init_from: Bundled name or checkpoint directory; its discriminator is taken instead, if it has one that fits.
    """

    def __init__(
        self, options: DiscriminatorOptions, accelerator: Accelerator, seed: int, init_from: str | None = None
    ):
        self.options = options
        torch.manual_seed(seed)
        network: nn.Module
        if options.kind == "l3ac":
            network = Discriminator(options.periods, options.windows)
            self.loss, self._generator_loss = discriminator_loss, _of_l3ac
        else:
            published = options.kind == "taae"
            scaling = PUBLISHED if published else COMPRESSED
            network = STFTDiscriminator(options.fft_sizes, options.channels, scaling)
            self.loss, self._generator_loss = hinge_discriminator_loss, _of_taae if published else _of_small
        if init_from is not None:
            load_companion(network, init_from, DISCRIMINATOR_FILE)
        self.network = network.to(accelerator.device)
        self.optimizer = Optimizer(
            accelerator, self.network, weight_decay=options.weight_decay, clip_norm=options.clip_norm
        )
        self.wrapped = accelerator.prepare_model(self.network)

    def active(self, progress: float) -> bool:
        """Whether the discriminator takes part at this fraction of the run."""
        return progress >= self.options.start

    def update(
        self, references: Sequence[Tensor], generate: Callable[[Tensor], Tensor], progress: float
    ) -> dict[str, Tensor]:
        """One update over micro-batches (B, T); returns values to log.

        `generate` computes the codec's output (B, T) in evaluation mode, without gradient.
        """
        self.optimizer.begin(self._schedule(progress))
        losses, norms = [], []
        for x in references:
            y, x = self._crops(generate(x), x)
            # Items do not affect each other, so both can pass together.
            maps = self.wrapped(torch.cat([y, x]))
            fake = [[one[: len(y)] for one in of_one] for of_one in maps]
            real = [[one[len(y) :] for one in of_one] for of_one in maps]
            loss = self.loss(fake, real)
            norms.append(self.optimizer.add(loss / len(references)))
            losses.append(loss.detach())
        self.optimizer.step()
        return {"discriminator": torch.stack(losses).mean(), "discriminator_gradient_norm": torch.stack(norms).mean()}

    def generator_loss(self, y: Tensor, x: Tensor) -> GeneratorLoss:
        """Part of the codec's loss for generated `y` and reference `x` (B, T); the discriminator gets no gradient."""
        y, x = self._crops(y, x)
        self.network.requires_grad_(False)
        with torch.no_grad():
            real = self.network(x)
        fake = self.network(y)
        self.network.requires_grad_(True)
        return self._generator_loss(fake, real)

    def _crops(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same random excerpt of both (B, T), of the configured length."""
        length = self.options.samples
        if length is None or x.shape[1] <= length:
            return y, x
        first = int(torch.randint(x.shape[1] - length + 1, ()))
        return y[:, first : first + length], x[:, first : first + length]

    def _schedule(self, progress: float) -> CyclePoint:
        if self.options.schedule == "constant":
            return CyclePoint(self.options.lr, 0.95)
        share = (progress - self.options.start) / (1 - self.options.start)
        return one_cycle(share * (RESOLUTION - 1), peak=self.options.lr)

    def state_dict(self) -> dict[str, Any]:
        """State of the network and its optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
