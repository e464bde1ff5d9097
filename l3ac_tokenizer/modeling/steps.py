"""Steps: a push of a fixed number of frames as a function of explicit state, for exported graphs.

A step takes input, position and state as tensors and returns output and new state, so that one graph serves every push
of a stream. `StreamingEncoder` compiles it, `export_streaming` writes it as ONNX.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .chunked import EncoderStepper
from .span import FAR, StepSpan

if TYPE_CHECKING:
    from .codec import CodecModel
    from .encoding import CodecEncoding


class Step(nn.Module, ABC):
    """One push: (input, end, position, *state) → (output, *state).

    `position` (B,) is the number of frames that came before, `end` (B,) the number of frames of the clip, or `FAR`
    while it is unknown. The state of new clips is `self.zeros(B)`.

    Args:
        model: The codec, in evaluation mode.
        frames: Frames of a push.
    """

    delay: int
    """Values of the output that lie before the clip: the first output of a clip begins that many values early."""

    def __init__(self, model: CodecEncoding, frames: int):
        super().__init__()
        self.model = model
        self.frames = frames
        self._layout = self._find_layout()

    @abstractmethod
    def example(self, batch: int) -> Tensor:
        """Zeros of the shape and type of the input."""

    @abstractmethod
    def _advance(self, values: Tensor, end: Tensor, position: Tensor, state: dict[nn.Module, Any]) -> Tensor:
        """Output for the next input; `state` has the past of each layer and gets the new one."""

    @torch.no_grad()
    def _find_layout(self) -> list[tuple[nn.Module, tuple[Tensor, ...] | Tensor]]:
        """The layers that keep a past, and what they keep for a single clip."""
        state: dict[nn.Module, Any] = {}
        self._advance(self.example(1), torch.tensor([FAR]), torch.tensor([0]), state)
        return list(state.items())

    def zeros(self, batch: int) -> list[Tensor]:
        """State of `batch` new clips."""
        return [tensor.new_zeros(batch, *tensor.shape[1:]) for tensor in _tensors(past for _, past in self._layout)]

    def forward(self, values: Tensor, end: Tensor, position: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next input of each clip → output, and the tensors of the new state."""
        given = iter(state)
        past = {
            layer: tuple(next(given) for _ in kept) if isinstance(kept, tuple) else next(given)
            for layer, kept in self._layout
        }
        output = self._advance(values, end, position, past)
        return output, *_tensors(past.values())


def _tensors(pasts: Any) -> list[Tensor]:
    return [tensor for past in pasts for tensor in (past if isinstance(past, tuple) else (past,))]


class EncoderStep(Step):
    """Samples (B, frames · hop) → ids (B, frames); the first hop of a clip begins with `lead` zeros."""

    def __init__(self, model: CodecEncoding, frames: int):
        stepper = EncoderStepper(model.encoder, model.config.hop_length)
        self.lead, self.delay = stepper.lead, stepper.delay
        super().__init__(model, frames)

    def example(self, batch: int) -> Tensor:
        """Zeros (B, frames · hop)."""
        return torch.zeros(batch, self.frames * self.model.config.hop_length, dtype=self.model.encoder_dtype)

    def _advance(self, values: Tensor, end: Tensor, position: Tensor, state: dict[nn.Module, Any]) -> Tensor:
        hop = self.model.config.hop_length
        span = StepSpan(position * hop - self.lead, self.model.padded_frames(end) * hop, state)
        features = self.model.encoder(values[..., None], span)
        return self.model.quantizer.latents_to_ids(self.model.quantizer.project_in(features))


class DecoderStep(Step):
    """Ids of whole frames (B, frames) → samples (B, frames · hop), with frozen time normalization."""

    model: CodecModel

    def __init__(self, model: CodecModel, frames: int):
        self.delay = model.decoder.lookahead
        super().__init__(model, frames)

    def example(self, batch: int) -> Tensor:
        """Zeros (B, frames), int64."""
        return torch.zeros(batch, self.frames, dtype=torch.int64)

    def _advance(self, values: Tensor, end: Tensor, position: Tensor, state: dict[nn.Module, Any]) -> Tensor:
        span = StepSpan(position, end, state, time_norm="frozen")
        return self.model.decoder(self.model.to_features(values), span)[..., 0]
