"""The network piece by piece: what chunked and streamed encoding and decoding share.

A stepper holds the state of a batch of clips. The encoder takes whole hops of samples and answers with latents
`delay` frames late, the decoder takes features and answers with samples `delay` samples late. Positions say
which answers lie within the clips.

A stepper keeps what layers derive from their weights: these must stay as they are while it is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .span import Span, Statistics, StreamSpan, TimeNormMode


class EncoderHalf(Protocol):
    """Samples (B, T, 1), T a multiple of the hop → features (B, T / hop, D)."""

    @property
    def lookahead(self) -> int:
        """Samples after an id's own that it depends on."""

    @property
    def lookback(self) -> int:
        """Samples before an id's own that it depends on at most."""

    def __call__(self, x: Tensor, span: Span) -> Tensor:
        """The whole clips, or the next piece of each."""


class DecoderHalf(Protocol):
    """Features (B, N, D) → samples (B, N · hop, 1)."""

    @property
    def lookahead(self) -> int:
        """Samples that decoding runs behind: a sample depends on features up to this many samples after it."""

    @property
    def lookback(self) -> int:
        """Samples from a feature's first to the last that it can change, at most."""

    def __call__(self, x: Tensor, span: Span) -> Tensor:
        """The whole clips, or the next piece of each."""

    @property
    def output_layer(self) -> nn.Conv1d | nn.Linear:
        """The last layer, whose weights set the level of an untrained network."""

    def modules(self) -> Iterator[nn.Module]:
        """All layers."""


@dataclass
class StreamState:
    """Past columns by layer and the place of each row on its clip's timeline."""

    positions: list[int]
    columns: dict[nn.Module, Any] = field(default_factory=dict)

    def select(self, rows: Sequence[int]) -> StreamState:
        """A copy with only these rows."""
        index = list(rows)
        return StreamState([self.positions[row] for row in index], _map(self.columns, lambda x: x[index]))

    def assign(self, rows: Sequence[int], other: StreamState) -> None:
        """Put back what `select` took."""
        index = list(rows)
        for row, position in zip(index, other.positions, strict=True):
            self.positions[row] = position
        for layer, new in other.columns.items():
            old = self.columns.get(layer)
            pairs = zip(_leaves(old), _leaves(new), strict=True) if old is not None else ()
            for into, source in pairs:
                into[index] = source
            if old is None:
                self.columns[layer] = _map_value(new, lambda x: _scatter(x, index, len(self.positions)))

    def clear(self, row: int, position: int) -> None:
        """Make a row fresh: zeros in the past, standing at `position`."""
        self.positions[row] = position
        for value in self.columns.values():
            for tensor in _leaves(value):
                tensor[row] = 0


def _leaves(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def _map_value(value: Any, function: Any) -> Any:
    return tuple(map(function, value)) if isinstance(value, tuple) else function(value)


def _map(columns: dict[nn.Module, Any], function: Any) -> dict[nn.Module, Any]:
    return {layer: _map_value(value, function) for layer, value in columns.items()}


def _scatter(rows: Tensor, index: list[int], batch: int) -> Tensor:
    whole = rows.new_zeros(batch, *rows.shape[1:])
    whole[index] = rows
    return whole


class EncoderStepper:
    """Samples → features at the id rate, whole hops at a time.

    A feature needs `lookahead` samples after its own. Hops are counted so that one ends exactly there: the first
    hop begins `lead` samples before the clip, and answers come `delay` frames late.
    """

    def __init__(self, encoder: EncoderHalf, hop_length: int):
        self.encoder = encoder
        self.hop_length = hop_length
        self.lead = -encoder.lookahead % hop_length
        self.delay = (encoder.lookahead + self.lead) // hop_length
        self._kept: dict[nn.Module, Any] = {}

    def start(self, batch: int) -> StreamState:
        """State of clips of which nothing was seen; feed `lead` zeros before their first sample."""
        return StreamState([-self.lead] * batch)

    def step(self, samples: Tensor, state: StreamState, ends: Sequence[int | None]) -> tuple[Tensor, list[int]]:
        """Samples (B, M · hop, 1) → features (B, M, D) and each row's first frame number (may be negative).

        Args:
            samples: The next samples; anything before the clip or from its end on.
            state: Moved on by this call.
            ends: Samples of each clip, a multiple of the hop; None while unknown.
        """
        span = StreamSpan(list(state.positions), list(ends), state.columns, self._kept)
        features = self.encoder(samples, span)
        state.positions = [position + samples.shape[1] for position in state.positions]
        return features, span.starts


class DecoderStepper:
    """Features at the id rate → samples, `delay` samples late."""

    def __init__(self, decoder: DecoderHalf, hop_length: int):
        self.decoder = decoder
        self.hop_length = hop_length
        self.delay = decoder.lookahead
        self._kept: dict[nn.Module, Any] = {}

    def start(self, batch: int) -> StreamState:
        """State of clips of which nothing was seen."""
        return StreamState([0] * batch)

    def step(
        self,
        features: Tensor,
        state: StreamState,
        ends: Sequence[int | None],
        time_norm: TimeNormMode,
        statistics: Statistics | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Features (B, M, D) → samples (B, M · hop, 1) and each row's first sample number (may be negative).

        Args:
            features: The next features; anything from a clip's end on.
            state: Moved on by this call; its positions count frames.
            ends: Frames of each clip; None while unknown.
            time_norm: `"frozen"`, or `"clip"` with the `statistics` of every time normalisation.
            statistics: Mean and variance by time normalisation.
        """
        span = StreamSpan(
            list(state.positions), list(ends), state.columns, self._kept, time_norm=time_norm, statistics=statistics
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
        """Features (B, M, D) → what stage `index` normalises (B, M', 4), and the mask (B, M') of the clip.

        For decoders with time normalisations, which give it as `statistics_input`.
        """
        span = StreamSpan(
            list(state.positions), list(ends), state.columns, self._kept, time_norm="clip", statistics=statistics
        )
        envelopes = self.decoder.statistics_input(features, span, index)  # type: ignore[attr-defined]
        state.positions = [position + features.shape[1] for position in state.positions]
        return envelopes, span.inside(envelopes.shape[1], 0, envelopes.device)


def padded_pieces(x: Tensor, size: int, total: int) -> list[Tensor]:
    """x (B, T, C) in pieces of `size` columns up to `total`, zeros beyond T."""
    pieces = []
    for first in range(0, total, size):
        piece = x[:, first : min(first + size, total)]
        missing = min(size, total - first) - piece.shape[1]
        pieces.append(torch.nn.functional.pad(piece, (0, 0, 0, missing)) if missing else piece)
    return pieces
