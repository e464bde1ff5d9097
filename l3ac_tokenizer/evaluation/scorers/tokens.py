"""Id metrics: codebook usage, bit rates, and consistency under changes of the input that are barely audible.

Axes: T samples, K codebooks, N ids of a codebook, L digits of an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...codebook_usage import Usage, huffman_bits, usage
from ...id_stability import PERTURBATIONS, changed_ids
from ..codecs.base import Codec, CodecRates
from .base import Metric

CONSISTENCY: Mapping[str, Metric] = {
    f"changed_by_{name}": Metric(f"ids changed by {words}, %", 1, False, "ours", 100)
    for name, (words, _) in PERTURBATIONS.items()
}
"""Metrics of `consistency`."""


def consistency(codec: Codec, audio: np.ndarray, ids: np.ndarray) -> dict[str, tuple[int, int]]:
    """Ids that barely audible changes of the clip change: metric → (changed ids, compared ids), over all codebooks.

    Args:
        codec: A codec with ids.
        audio: The clip (T,) at the codec's sampling rate.
        ids: (K, N), the ids of the unchanged clip.
    """
    assert codec.rates is not None

    def encode(changed: np.ndarray) -> np.ndarray:
        others = codec.encode(changed).ids
        assert others is not None
        return others

    hop = round(codec.sampling_rate / codec.rates.frames_per_second)
    counts = changed_ids(encode, audio, ids, codec.sampling_rate, hop)
    return {f"changed_by_{name}": count for name, count in counts.items()}


def id_statistics(all_ids: Sequence[np.ndarray], rates: CodecRates, seconds: float) -> dict[str, Any]:
    """Codebook usage and bit rates of the ids (K, N) of clips, as JSON values.

    Keys: `count` of ids; `codebooks`, the usage of each codebook; `levels`, that of each digit of an id (single
    codebook only); `bits_per_second`: `nominal` and `whole_bits` of the configuration (see `CodecRates`), `counted`
    from the number of ids, `entropy` of single ids, and `huffman` for a code built on these very ids, without its
    table: an upper bound of what such a code saves.
    """
    ids = np.concatenate(all_ids, axis=1)
    codebooks = [usage(row, size) for row, size in zip(ids, rates.codebooks, strict=True)]
    counts = [np.unique(row, return_counts=True)[1] for row in ids]
    per_second = ids.shape[1] / seconds
    return {
        "count": int(ids.size),
        "codebooks": [vars(codebook) for codebook in codebooks],
        "levels": [vars(level) for level in digit_usage(ids[0], rates.levels)],
        "bits_per_second": {
            "nominal": rates.bits_per_second,
            "whole_bits": rates.whole_bits_per_second,
            "counted": per_second * float(np.log2(rates.codebooks).sum()),
            "entropy": per_second * sum(codebook.entropy for codebook in codebooks),
            "huffman": per_second * sum(huffman_bits(count) for count in counts),
        },
    }


def digit_usage(ids: np.ndarray, levels: Sequence[int]) -> list[Usage]:
    """Usage of the levels of each of the L digits of ids (N,), least significant digit first; empty without levels."""
    import torch

    from ...quantization import ids_to_digits

    if not levels:
        return []
    digits = ids_to_digits(torch.from_numpy(np.asarray(ids)), levels).numpy()  # (N, L)
    return [usage(digits[:, place], level) for place, level in enumerate(levels)]
