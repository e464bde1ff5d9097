"""`AudioTokens`: the ids of a document as tokens of a language model, between its separators."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quantization import split_sizes
from .errors import CorpusError
from .spec import CorpusMetadata


@dataclass(frozen=True)
class AudioTokens:
    """Tokens of a document, as `L3ACProcessor` writes an audio part: start, ids from the offset on, end.

    A corpus that is split in G groups has G tokens an id, each group after the one before it:

        audio_offset … audio_offset + sizes[0] − 1      the first group, or the ids themselves
        … audio_offset + sizes[0] + … + sizes[G − 1] − 1   the last group

    Attributes:
        sizes: number of values of each group, `split_sizes(levels, split)`.
        audio_offset: token of the id 0.
        audio_start_id: token before the ids; None: none.
        audio_end_id: token after the ids; None: none.

    Raises:
        ValueError: a token is negative, does not fit 32 bits, or a separator is the token of an id.
    """

    sizes: tuple[int, ...]
    audio_offset: int = 0
    audio_start_id: int | None = None
    audio_end_id: int | None = None

    @classmethod
    def of(cls, metadata: CorpusMetadata, **tokens: Any) -> AudioTokens:
        """The tokens of a corpus, with the given offset and separators."""
        return cls(tuple(split_sizes(metadata.levels, metadata.split)), **tokens)

    def __post_init__(self) -> None:
        beyond = self.audio_offset + sum(self.sizes)
        for name in ("audio_offset", "audio_start_id", "audio_end_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < 2**31 - sum(self.sizes):
                raise ValueError(f"`{name}` is {token}; it must be a token, from 0 on, that fits 32 bits with the ids.")
            if name != "audio_offset" and token is not None and self.audio_offset <= token < beyond:
                raise ValueError(
                    f"`{name}` is {token}, the token of an id: choose one below {self.audio_offset} or from {beyond} "
                    "on, or another `audio_offset`."
                )

    @property
    def vocab_size(self) -> int:
        """Least size of a vocabulary that has all of the tokens."""
        separators = [token + 1 for token in (self.audio_start_id, self.audio_end_id) if token is not None]
        return max(self.audio_offset + sum(self.sizes), *separators, 0)

    @functools.cached_property
    def _offsets(self) -> np.ndarray:
        """Token (G,) int32 of the value 0 of each group."""
        return self.audio_offset + np.cumsum([0, *self.sizes[:-1]], dtype=np.int32)

    @property
    def separators(self) -> int:
        """Tokens of a document that are not ids: 0, 1 or 2."""
        return (self.audio_start_id is not None) + (self.audio_end_id is not None)

    def check(self, ids: np.ndarray, where: str) -> None:
        """Refuse stored ids (N,) or (N, G) that are out of range.

        Raises:
            CorpusError: there is one.
        """
        if ids.size and (ids.min() < 0 or (ids.reshape(-1, len(self.sizes)).max(axis=0) >= self.sizes).any()):
            raise CorpusError(f"{where} has ids outside the codebook of its model: tokenize the audio again.")

    def join(
        self, ids: np.ndarray, first: np.ndarray, last: np.ndarray, skip: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of documents, one after another.

        Args:
            ids: stored ids (N,), or (N · G,) flattened.
            first: (documents,) position of each document's first id in `ids`.
            last: (documents,) position after its last id.
            skip: number of tokens of the first document to leave out.
            size: number of tokens to return, at most all others.

        Returns:
            The tokens (size,) int32, and the place (size,) of each in its document.
        """
        lead = self.audio_start_id is not None
        ends = np.cumsum(last - first + self.separators) - skip
        starts = np.concatenate([[-skip], ends[:-1]])
        document = np.repeat(np.arange(len(first)), np.diff(np.minimum(ends, size), prepend=0))
        places = np.arange(size) - starts[document]
        # separators have no id: what is read in their places is overwritten
        tokens = np.take(ids if ids.size else np.zeros(1, np.int32), first[document] + places - lead, mode="clip")
        groups = len(self.sizes)
        tokens += self._offsets[(places - lead) % groups] if groups > 1 else self._offsets
        if self.audio_start_id is not None:
            tokens[starts[(starts >= 0) & (starts < size)]] = self.audio_start_id
        if self.audio_end_id is not None:
            tokens[ends[ends <= size] - 1] = self.audio_end_id
        return tokens, places
