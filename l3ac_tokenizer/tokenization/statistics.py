"""Codebook usage, entropies and bit rates of a tokenized corpus.

Axes: K ids of the codebook, L digits of an id.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch

from ..codebook_usage import huffman_bits, usage_of_counts
from ..limits import CODEBOOK_SIZE
from ..quantization import ids_to_digits, split_ids, split_sizes
from .errors import CorpusError
from .reader import TokenizedCorpus

SHOWN = 10
"""Number of ids that are listed as most and as least used."""


class Counts(NamedTuple):
    """Occurrences of each id in a corpus.

    Attributes:
        ids: occurrences (K,) int64.
        clips: number of clips.
        num_samples: total number of their samples.
    """

    ids: np.ndarray
    clips: int
    num_samples: int


def count_ids(corpus: TokenizedCorpus) -> Counts:
    """Count the ids of a corpus; memory does not grow with its size.

    Raises:
        CorpusError: it has no ids, or one outside the codebook.
    """
    size = math.prod(corpus.metadata.levels)
    CODEBOOK_SIZE.check(size, f"the codebook of levels {corpus.metadata.levels} has {size:,} ids", CorpusError)
    counts = np.zeros(size, dtype=np.int64)
    clips = num_samples = 0
    for table in corpus.tables(["ids", "num_samples"]):
        try:
            ids = np.concatenate([np.empty(0, np.int64), *corpus.whole_ids(table)])
        except ValueError as error:
            raise CorpusError(f"the corpus has ids outside the codebook of its model: {error}") from error
        counts += np.bincount(ids, minlength=size)
        clips += table.num_rows
        num_samples += int(table["num_samples"].to_numpy().sum())
    if not counts.any():
        raise CorpusError("the corpus has no ids: there is nothing to measure.")
    return Counts(counts, clips, num_samples)


def corpus_statistics(corpus: TokenizedCorpus, counts: Counts) -> dict[str, Any]:
    """Rates, entropies and bit rates of a corpus from its counts.

    Returns:
        `ids`: usage of the codebook (see `Usage`; plain entropy is biased low unless there are many more ids than
        codebook entries, which Miller–Madow corrects in part). `levels`: usage of each digit. `splits`: for the numbers
        of groups that divide the digits evenly, usage of each group of `split_ids`. `bits_per_second`: `fixed`, every
        id in log2 K bits; `huffman`, by a code made for these counts, without its table; `entropy` and
        `entropy_miller_madow`, the lower bound of all memoryless codes. `most_used` and `least_used` among the ids in
        use: id, count and share.
    """
    levels = corpus.metadata.levels
    size = len(counts.ids)
    used = np.flatnonzero(counts.ids)
    occurrences = counts.ids[used]
    digits = ids_to_digits(torch.from_numpy(used), levels).numpy()  # (U, L) of the U ids in use
    ids = usage_of_counts(counts.ids)
    seconds = counts.num_samples / corpus.metadata.sampling_rate
    rate = ids.count / seconds
    order = np.argsort(-counts.ids, kind="stable")[: ids.used]
    groups = [number for number in range(2, len(levels)) if len(levels) % number == 0]
    return {
        "model": corpus.metadata.model,
        "weights_digest": corpus.metadata.weights_digest,
        "clips": counts.clips,
        "hours": seconds / 3600,
        "ids_per_second": rate,
        "ids": asdict(ids),
        "levels": [
            asdict(usage_of_counts(_sums(digits[:, digit], occurrences, level))) for digit, level in enumerate(levels)
        ],
        "splits": {
            number: [
                asdict(usage_of_counts(_sums(symbols, occurrences, group_size)))
                for symbols, group_size in zip(
                    split_ids(used, levels, number).T, split_sizes(levels, number), strict=True
                )
            ]
            for number in groups
        },
        "bits_per_second": {
            "fixed": rate * math.log2(size),
            "huffman": rate * huffman_bits(counts.ids),
            "entropy": rate * ids.entropy,
            "entropy_miller_madow": rate * ids.entropy_miller_madow,
        },
        "most_used": _listed(order[:SHOWN], counts.ids),
        "least_used": _listed(order[::-1][:SHOWN], counts.ids),
    }


def _sums(symbols: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """Occurrences (size,) of each symbol, of which id k, in use `counts[k]` times, has `symbols[k]`."""
    sums = np.zeros(size, dtype=np.int64)
    np.add.at(sums, symbols, counts)
    return sums


def _listed(ids: np.ndarray, counts: np.ndarray) -> list[dict[str, Any]]:
    total = int(counts.sum())
    return [{"id": int(each), "count": int(counts[each]), "share": int(counts[each]) / total} for each in ids]
