"""Id metrics: codebook usage, bit rates, and consistency under changes of the input that are barely audible.

Axes: T samples, K codebooks, N ids of a codebook, L digits of an id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...codebook_usage import Usage, huffman_bits, usage
from ..codecs.base import Codec, CodecRates
from .base import Metric

NOISE_DB = -60.0
"""Level of the added white noise relative to the clip's."""

GAIN_DB = -6.0

CONSISTENCY: Mapping[str, Metric] = {
    "changed_by_noise": Metric("ids changed by noise, %", 1, False, "ours", 100),
    "changed_by_sample": Metric("ids changed by a sample, %", 1, False, "ours", 100),
    "changed_by_hop": Metric("ids changed by a hop, %", 1, False, "ours", 100),
    "changed_by_gain": Metric("ids changed by gain, %", 1, False, "ours", 100),
}
"""Metrics of `consistency`."""


def perturbations(sampling_rate: int, hop: int) -> Mapping[str, Callable[[np.ndarray], tuple[np.ndarray, int]]]:
    """Metric of `CONSISTENCY` → function of a clip (T,) that returns the changed clip and its shift in ids.

    The changes: white noise 60 dB below the clip (seed 0), one sample and one hop of silence before it, a gain of
    −6 dB.
    """

    def with_noise(audio: np.ndarray) -> tuple[np.ndarray, int]:
        level = np.sqrt(np.square(audio, dtype=np.float64).mean()) * 10 ** (NOISE_DB / 20)
        noise = np.random.default_rng(0).standard_normal(audio.size)
        return (audio + level * noise).astype(np.float32), 0

    return {
        "changed_by_noise": with_noise,
        "changed_by_sample": lambda audio: (np.pad(audio, (1, 0)), 0),
        "changed_by_hop": lambda audio: (np.pad(audio, (hop, 0)), 1),
        "changed_by_gain": lambda audio: ((audio * 10 ** (GAIN_DB / 20)).astype(np.float32), 0),
    }


def consistency(codec: Codec, audio: np.ndarray, ids: np.ndarray) -> dict[str, tuple[int, int]]:
    """Ids that barely audible changes of the clip change: metric → (changed ids, compared ids), over all codebooks.

    It matters for language models: the same words should have the same ids.

    Args:
        codec: a codec with ids.
        audio: the clip (T,) at the codec's sampling rate.
        ids: (K, N), the ids of the unchanged clip.
    """
    assert codec.rates is not None
    hop = round(codec.sampling_rate / codec.rates.frames_per_second)
    counts = {}
    for name, change in perturbations(codec.sampling_rate, hop).items():
        changed, shift = change(audio)
        others = codec.encode(changed).ids
        assert others is not None
        length = min(ids.shape[1], others.shape[1] - shift)
        different = ids[:, :length] != others[:, shift : shift + length]
        counts[name] = (int(different.sum()), different.size)
    return counts


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
