"""Models of ids without context, fitted to the same ids as a language model and compared with it.

- unigram: (n + a) / (N + a C) for an id seen n times among N, with codebook size C; `a` maximizes the likelihood of
  each training id given all others (leave-one-out);
- unigram of digits: the product over the digits of (n + 1/2) / (N + L/2), where L is the number of levels of the digit
  (Krichevsky and Trofimov, 1981).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..quantization import ids_to_digits


def unigram_bits(train: np.ndarray, held_out: np.ndarray, codebook_size: int) -> tuple[float, float]:
    """Return the bits per id of a smoothed unigram model on held-out ids (N,), and its `a` (see above)."""
    counts = np.bincount(train, minlength=codebook_size)
    seen = counts[train]

    def left_out(a: float) -> float:
        return float(np.log2(seen - 1 + a).mean() - math.log2(len(train) - 1 + a * codebook_size))

    a = max((2.0**exponent for exponent in np.arange(-16, 8, 0.25)), key=left_out)
    bits = math.log2(len(train) + a * codebook_size) - np.log2(counts[held_out] + a).mean()
    return float(bits), a


def digit_unigram_bits(train: np.ndarray, held_out: np.ndarray, levels: Sequence[int]) -> float:
    """Return the bits per id of the product of the digits' unigram models on held-out ids (N,)."""
    bits = 0.0
    trained, measured = (ids_to_digits(torch.from_numpy(ids), levels).numpy() for ids in (train, held_out))
    for digit, level in enumerate(levels):
        weights = np.bincount(trained[:, digit], minlength=level) + 0.5
        bits -= float(np.log2(weights / weights.sum())[measured[:, digit]].mean())
    return bits
