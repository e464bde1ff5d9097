"""`TokenStream`: the documents of tokenized corpora as one stream of tokens, in another order every epoch.

Documents are shuffled in two steps, so that memory does not grow with their number: blocks of `BLOCK` documents, which
lie together on disk, and the documents of each block. An order is a function of (seed, epoch) alone, and of no random
numbers of a library, which may change from version to version.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .audio_tokens import AudioTokens
from .errors import CorpusError
from .npy_index import NpyIndex

BLOCK = 1024
"""Documents that are shuffled among each other, and as a whole among those of other blocks."""


class TokenStream:
    """Tokens of all documents, with their separators, at any place of any epoch.

    Attributes:
        tokens: of the documents.
        size: number of tokens of an epoch.
        documents: number of documents.

    Args:
        sources: the corpora.
        tokens: see there.
        seed: of the orders.
    """

    def __init__(self, sources: Sequence[NpyIndex], tokens: AudioTokens, seed: int) -> None:
        self.tokens = tokens
        self._sources = sources
        self._seed = seed
        self.documents = sum(map(len, sources))
        self._first_blocks = np.cumsum([0, *(-(-len(source) // BLOCK) for source in sources)])  # of each source
        self._block_sizes = np.concatenate([np.empty(0, np.int64), *map(self._sizes, sources)])
        self.size = int(self._block_sizes.sum())
        self._order = functools.lru_cache(maxsize=2)(self._order_of)
        self._layout = functools.lru_cache(maxsize=1024)(self._layout_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStream, (self._sources, self.tokens, self._seed)

    def read(self, epoch: int, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Tokens `start` to `stop` (exclusive) of an epoch, part by part: the tokens (n,) int32 of one or several
        documents, and the place (n,) of each in its document.
        """
        order, block_bounds = self._order(epoch)
        position = int(np.searchsorted(block_bounds, start, "right")) - 1
        while start < stop:
            base, end = int(block_bounds[position]), min(stop, int(block_bounds[position + 1]))
            if start < end:
                ids, first, last, bounds = self._layout(epoch, int(order[position]))
                one = int(np.searchsorted(bounds, start - base, "right")) - 1
                some = slice(one, int(np.searchsorted(bounds, end - base, "left")))
                yield self.tokens.join(ids, first[some], last[some], start - base - int(bounds[one]), end - start)
                start = end
            position += 1

    def _sizes(self, source: NpyIndex) -> np.ndarray:
        """Number of tokens of each block of a source."""
        edges = np.array([*range(0, len(source), BLOCK), len(source)])
        return np.diff(source.index[edges]) * len(self.tokens.sizes) + np.diff(edges) * self.tokens.separators

    def _order_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Blocks in the order of an epoch, and the position of each block's first token, with the end of the last."""
        order = permutation(len(self._block_sizes), self._seed, epoch)
        return order, np.concatenate([[0], np.cumsum(self._block_sizes[order])])

    def _layout_of(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Flattened ids of a block's source; where each document's ids begin and end there, in the order of an epoch;
        and the bounds of their tokens in the block.
        """
        number = int(np.searchsorted(self._first_blocks, block, "right")) - 1
        source = self._sources[number]
        row = (block - int(self._first_blocks[number])) * BLOCK
        index = source.index[row : row + BLOCK + 1]
        if np.diff(index).min() < 0:
            raise CorpusError(f"the index of {source.folder} is damaged: write it again.")
        documents = permutation(len(index) - 1, self._seed, epoch, block)
        first, last = (index[documents + edge] * len(self.tokens.sizes) for edge in (0, 1))
        bounds = np.concatenate([[0], np.cumsum(last - first + self.tokens.separators)])
        return source.ids.reshape(-1), first, last, bounds


def permutation(count: int, *key: int) -> np.ndarray:
    """A permutation (count,) int64 of the numbers below `count` that the integers of `key` select."""
    state = np.array([len(key)], np.uint64)
    for part in key:
        state = _mixed(state + np.uint64((part + 1) * _GOLDEN % 2**64))
    return np.argsort(_mixed(state + np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN)))


_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(values: np.ndarray) -> np.ndarray:
    """Bijective hash of uint64 (the finalizer of SplitMix64; Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
