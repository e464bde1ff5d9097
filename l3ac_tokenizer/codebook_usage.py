"""Codebook usage: entropies of symbols, and the length of a Huffman code for them.

Axes: K possible symbols.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Usage:
    """Usage of `size` possible symbols by N observed ones.

    Attributes:
        count: Observed symbols N.
        size: Possible symbols.
        used: Different symbols among the observed ones.
        entropy: Entropy of the observed shares in bits. It is biased low where N is not far above `size`:
            at most log2 N.
        entropy_miller_madow: The same with the correction of Miller (1955), + (used − 1) / 2N nats.
        normalized_entropy: `entropy` / log2 `size`, 1 if all symbols are equally frequent.
        normalized_entropy_miller_madow: The same of the corrected entropy; it can exceed 1 by chance.
    """

    count: int
    size: int
    used: int
    entropy: float
    entropy_miller_madow: float
    normalized_entropy: float
    normalized_entropy_miller_madow: float


def usage(symbols: np.ndarray, size: int) -> Usage:
    """Usage of the symbols 0 … `size` − 1 in `symbols`, integers of any shape.

    Raises:
        ValueError: there are no symbols, or one is out of range.
    """
    if symbols.size and not 0 <= symbols.min() <= symbols.max() < size:
        raise ValueError(
            f"Symbols {symbols.min()} … {symbols.max()} do not fit in 0 … {size - 1}; give ids of this codebook."
        )
    return usage_of_counts(np.bincount(symbols.reshape(-1), minlength=size))


def usage_of_counts(counts: np.ndarray) -> Usage:
    """Usage of K symbols that occurred `counts` (K,) times.

    Raises:
        ValueError: no symbol occurred.
    """
    seen = counts[counts > 0]
    count, size = int(seen.sum()), len(counts)
    if count == 0:
        raise ValueError("There are no symbols to measure the usage of; give at least one.")
    shares = seen / count
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0  # no -0.0
    corrected = entropy + (len(seen) - 1) / (2 * count) / math.log(2)
    return Usage(
        count=count,
        size=size,
        used=len(seen),
        entropy=entropy,
        entropy_miller_madow=corrected,
        normalized_entropy=entropy / math.log2(size),
        normalized_entropy_miller_madow=corrected / math.log2(size),
    )


def huffman_bits(counts: np.ndarray) -> float:
    """Mean codeword length, in bits, of a Huffman code for symbols that occurred `counts` (K,) times.

    The code table is not counted. Symbols that did not occur have no codeword; a single symbol takes 1 bit.
    Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952: the mean length is the sum of the
    weights of the inner nodes of the tree.

    Raises:
        ValueError: no symbol occurred.
    """
    weights = [int(count) for count in counts if count > 0]
    if not weights:
        raise ValueError("There are no symbols to make a code for; give at least one.")
    total, bits = sum(weights), 0
    if len(weights) == 1:
        return 1.0
    heapq.heapify(weights)
    while len(weights) > 1:
        joined = heapq.heappop(weights) + heapq.heappop(weights)
        bits += joined
        heapq.heappush(weights, joined)
    return bits / total
