"""Steppers: chunk-by-chunk encoding and decoding, shared by `chunk_seconds` and streaming.

The encoder takes whole hops of samples and returns features with a delay of `delay` frames. The decoder takes features
and returns samples with a delay of `delay` samples. The returned positions tell which outputs lie within the clips. The
state of a batch of clips stays with the caller.

A stepper caches values that layers derive from their weights; the weights must not change while it is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .span import Past, Span, Statistics, StreamSpan, TimeNormMode


class CodecEncoder(Protocol):
    """Interface of encoders: samples (B, T, 1), T a multiple of the hop → features (B, T / hop, D)."""

    @property
    def lookahead(self) -> int:
        """Number of samples after the frame of an id that the id depends on."""

    @property
    def lookback(self) -> int:
        """Upper bound of the number of samples before the frame of an id that the id depends on."""

    def __call__(self, x: Tensor, span: Span) -> Tensor:
        """Process whole clips, or the next chunk of each."""


class CodecDecoder(Protocol):
    """Interface of decoders: features (B, N, D) → samples (B, N · hop, 1)."""

    @property
    def lookahead(self) -> int:
        """Delay of streamed decoding: a sample depends on features up to this many samples after it."""

    @property
    def lookback(self) -> int:
        """Upper bound of the distance in samples from the start of a feature to the last sample that it affects."""

    def __call__(self, x: Tensor, span: Span) -> Tensor:
        """Process whole clips, or the next chunk of each."""

    @property
    def output_layer(self) -> nn.Conv1d | nn.Linear:
        """Last layer; its weights set the output level of an untrained network."""

    def modules(self) -> Iterator[nn.Module]:
        """All layers."""


@dataclass
class StreamState:
    """State of a batch of clips between two steps.

    Attributes:
        positions: Position of each row in its clip: samples for encoders, frames for decoders.
        past: Past inputs by layer (or number): a tensor, a tuple of tensors or a `Past`, with the batch as the first
            axis.
    """

    positions: list[int]
    past: dict[Any, Any] = field(default_factory=dict)

    def select(self, rows: Sequence[int]) -> StreamState:
        """Return a copy of these rows."""
        index = list(rows)
        past = {layer: _map(value, lambda x: x[index]) for layer, value in self.past.items()}
        return StreamState([self.positions[row] for row in index], past)

    def assign(self, rows: Sequence[int], other: StreamState) -> None:
        """Replace these rows by those of `other`, the inverse of `select`."""
        index = list(rows)
        for row, position in zip(index, other.positions, strict=True):
            self.positions[row] = position
        for layer, new in other.past.items():
            old = self.past.get(layer)
            pairs = zip(_leaves(old), _leaves(new), strict=True) if old is not None else ()
            for into, source in pairs:
                into[index] = source
            if old is None:
                self.past[layer] = _map(new, lambda x: _scatter(x, index, len(self.positions)))

    def clear(self, row: int, position: int) -> None:
        """Reset a row to `position`, with zeros as its past."""
        self.positions[row] = position
        for value in self.past.values():
            for tensor in _leaves(value):
                tensor[row] = 0


def _leaves(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Past):
        return (value.values,)
    return value if isinstance(value, tuple) else (value,)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Past):
        return Past(function(value.values))
    return tuple(map(function, value)) if isinstance(value, tuple) else function(value)


def _scatter(rows: Tensor, index: list[int], batch: int) -> Tensor:
    whole = rows.new_zeros(batch, *rows.shape[1:])
    whole[index] = rows
    return whole


class EncoderStepper:
    """Chunk-by-chunk encoder: samples → features at the frame rate, whole hops at a time.

    A feature depends on `lookahead` samples after its own. The first hop starts `lead` samples before the clip, so that
    later hops end exactly where a feature is complete; features are returned `delay` frames late.
    """

    def __init__(self, encoder: CodecEncoder, hop_length: int):
        self.encoder = encoder
        self.hop_length = hop_length
        self.lead = -encoder.lookahead % hop_length
        self.delay = (encoder.lookahead + self.lead) // hop_length
        self._kept: dict[nn.Module, Any] = {}

    def start(self, batch: int) -> StreamState:
        """Return the state of new clips, whose first sample must be preceded by `lead` zeros."""
        return StreamState([-self.lead] * batch)

    def step(self, samples: Tensor, state: StreamState, ends: Sequence[int | None]) -> tuple[Tensor, list[int]]:
        """Samples (B, M · hop, 1) → features (B, M, D) and the first frame number of each row, which may be negative.

        Args:
            samples: The next samples; values before the start and after the end of a clip are ignored.
            state: State of the clips, advanced by this call.
            ends: Number of samples of each clip, a multiple of the hop; None while it is unknown.
        """
        span = StreamSpan(list(state.positions), list(ends), state.past, self._kept)
        features = self.encoder(samples, span)
        state.positions = [position + samples.shape[1] for position in state.positions]
        return features, span.starts


class DecoderStepper:
    """Chunk-by-chunk decoder: features at the frame rate → samples, returned `delay` samples late."""

    def __init__(self, decoder: CodecDecoder, hop_length: int):
        self.decoder = decoder
        self.hop_length = hop_length
        self.delay = decoder.lookahead
        self._kept: dict[nn.Module, Any] = {}

    def start(self, batch: int) -> StreamState:
        """Return the state of new clips."""
        return StreamState([0] * batch)

    def step(
        self,
        features: Tensor,
        state: StreamState,
        ends: Sequence[int | None],
        time_norm: TimeNormMode,
        statistics: Statistics | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Features (B, M, D) → samples (B, M · hop, 1) and the first sample number of each row, which may be negative.

        Args:
            features: The next features; values after the end of a clip are ignored.
            state: State of the clips, advanced by this call.
            ends: Number of frames of each clip; None while it is unknown.
            time_norm: `"frozen"`, or `"clip"` with the `statistics` of every time normalization.
            statistics: Mean and variance over each clip, by time normalization.
        """
        span = StreamSpan(
            list(state.positions), list(ends), state.past, self._kept, time_norm=time_norm, statistics=statistics
        )
        wave = self.decoder(features, span)
        state.positions = [position + features.shape[1] for position in state.positions]
        return wave, span.starts

    def statistics_step(
        self,
        features: Tensor,
        state: StreamState,
        ends: Sequence[int | None],
        statistics: Statistics,
        index: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Features (B, M, D) → input (B, M', C) of time normalization `index`, and the mask (B, M') of the clips.

        Only for decoders with time normalizations, which have the method `statistics_input`.
        """
        span = StreamSpan(
            list(state.positions), list(ends), state.past, self._kept, time_norm="clip", statistics=statistics
        )
        envelopes = self.decoder.statistics_input(features, span, index)  # type: ignore[attr-defined]
        state.positions = [position + features.shape[1] for position in state.positions]
        return envelopes, span.inside(envelopes.shape[1], 0, envelopes.device)


def padded_chunks(x: Tensor, size: int, total: int) -> list[Tensor]:
    """x (B, T, …), padded with zeros from T to `total`, in chunks of `size` along the second axis."""
    chunks = []
    for first in range(0, total, size):
        chunk = x[:, first : min(first + size, total)]
        missing = min(size, total - first) - chunk.shape[1]
        if missing:
            chunk = torch.cat([chunk, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1)
        chunks.append(chunk)
    return chunks
