"""What ids are like: how evenly they use the codebook, what they cost, and how they change with the input.

Axes: T samples, K streams of ids, N ids a stream, L digits of an id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...codebook_usage import Usage, huffman_bits, usage
from ..codecs.base import Codec, Rates

NOISE_DB = -60.0
"""Level of the white noise, relative to the clip's own level."""
GAIN_DB = -6.0


def perturbations(sampling_rate: int, hop: int) -> Mapping[str, Callable[[np.ndarray], tuple[np.ndarray, int]]]:
    """Name → function of a clip (T,) that gives the changed clip, and how many ids it moved by.

    Noise 60 dB below the clip (seed 0), one sample and one hop of silence before it, and a gain of −6 dB.
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
    """How many ids a change that is hardly heard changes: name → (changed, compared), over all streams.

    Language models feel it: the same words should be the same ids.

    Args:
        codec: one with ids.
        audio: the clip (T,) at its rate.
        ids: (K, N), what it gives for the clip.
    """
    assert codec.rates is not None
    hop = round(codec.sampling_rate / codec.rates.frames_per_second)
    counts = {}
    for name, change in perturbations(codec.sampling_rate, hop).items():
        changed, moved = change(audio)
        others = codec.encode(changed).ids
        assert others is not None
        length = min(ids.shape[1], others.shape[1] - moved)
        different = ids[:, :length] != others[:, moved : moved + length]
        counts[name] = (int(different.sum()), different.size)
    return counts


def id_statistics(all_ids: Sequence[np.ndarray], rates: Rates, seconds: float) -> dict[str, Any]:
    """Use of the codebooks by the ids (K, N) of clips, as JSON values.

    `streams` has the use of each stream's codebook, `levels` that of each digit of a single stream's ids,
    `bits_per_second` rates: of the configuration (see `Rates`), of the ids that were counted, of the entropy of
    single ids, and of a Huffman code made for these very ids (its table not counted: the most such a code saves).
    """
    ids = np.concatenate(all_ids, axis=1)
    streams = [usage(stream, size) for stream, size in zip(ids, rates.codebooks, strict=True)]
    counts = [np.unique(stream, return_counts=True)[1] for stream in ids]
    per_second = ids.shape[1] / seconds
    return {
        "count": int(ids.size),
        "streams": [vars(stream) for stream in streams],
        "levels": [vars(level) for level in digit_usage(ids[0], rates.digits)],
        "bits_per_second": {
            "nominal": rates.bits_per_second,
            "whole_bits": rates.whole_bits_per_second,
            "counted": per_second * float(np.log2(rates.codebooks).sum()),
            "entropy": per_second * sum(stream.entropy for stream in streams),
            "huffman": per_second * sum(huffman_bits(count) for count in counts),
        },
    }


def digit_usage(ids: np.ndarray, levels: Sequence[int]) -> list[Usage]:
    """Use of the levels of each of the L digits of ids (N,), the first the fastest; none without levels."""
    import torch

    from ...quantization import ids_to_digits

    if not levels:
        return []
    digits = ids_to_digits(torch.from_numpy(np.asarray(ids)), levels).numpy()  # (N, L)
    return [usage(digits[:, place], level) for place, level in enumerate(levels)]
