"""Steps: one push of a fixed number of frames as a function of explicit state, for exported graphs.

A step takes input, positions and state as tensors and returns output and state, so that one graph serves every push.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .chunked import DecoderStepper, EncoderStepper
from .span import FAR, StepSpan

if TYPE_CHECKING:
    from .codec import CodecModel
    from .encoding import CodecEncoding


class Step(nn.Module):
    """One push of `frames` frames: (input, end, position, *state) → (output, position, *state).

    `position` (B,) is the number of frames before this push, `end` (B,) that of the clip, or `FAR` while it is unknown.
    """

    def __init__(self, model: CodecEncoding, frames: int):
        super().__init__()
        self.model = model
        self.frames = frames
        self._layers: list[tuple[nn.Module, int]] = []

    @torch.no_grad()
    def start(self, batch: int) -> list[Tensor]:
        """State of new clips, all zeros."""
        state: dict[nn.Module, Any] = {}
        self._advance(self.example(batch), torch.full((batch,), FAR), torch.zeros(batch, dtype=torch.int64), state)
        self._layers = [(layer, len(past) if isinstance(past, tuple) else 0) for layer, past in state.items()]
        return [torch.zeros_like(tensor) for tensor in _flat(state)]

    def forward(self, values: Tensor, end: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        tensors = iter(state)
        past = {
            layer: tuple(next(tensors) for _ in range(count)) if count else next(tensors)
            for layer, count in self._layers
        }
        output = self._advance(values, end, position, past)
        return output, position + self.frames, *_flat(past)


class EncoderStep(Step):
    """Samples (B, frames · hop) → ids (B, frames), `delay` frames late."""

    def __init__(self, model: CodecEncoding, frames: int):
        super().__init__(model, frames)
        stepper = EncoderStepper(model.encoder, model.config.hop_length)
        self.lead, self.delay = stepper.lead, stepper.delay

    def example(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.frames * self.model.config.hop_length)

    def _advance(self, samples: Tensor, end: Tensor, position: Tensor, state: dict[nn.Module, Any]) -> Tensor:
        hop = self.model.config.hop_length
        ends = self.model.padded_frames(end) * hop
        span = StepSpan(position * hop - self.lead, ends, state)
        features = self.model.encoder(samples[..., None], span)
        return self.model.quantizer.latents_to_ids(self.model.quantizer.project_in(features))


class DecoderStep(Step):
    """Ids (B, frames) → samples (B, frames · hop), `delay` samples late."""

    model: CodecModel

    def __init__(self, model: CodecModel, frames: int):
        super().__init__(model, frames)
        self.delay = model.decoder.lookahead

    def example(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.frames, dtype=torch.int64)

    def _advance(self, ids: Tensor, end: Tensor, position: Tensor, state: dict[nn.Module, Any]) -> Tensor:
        span = StepSpan(position, end, state, time_norm="frozen")
        return self.model.decoder(self.model.to_features(ids), span)[..., 0]


def _flat(state: dict[nn.Module, Any]) -> list[Tensor]:
    return [tensor for past in state.values() for tensor in (past if isinstance(past, tuple) else (past,))]
