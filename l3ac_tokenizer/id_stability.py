"""Stability of ids: which share of them changes with changes of the audio that are barely audible.

It matters for language models: the same words should have the same ids. Axes: T samples, K codebooks, N ids of a
codebook.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import soundfile

NOISE_DB = -60.0
"""Level of the added white noise relative to the clip's."""

Perturbation = Callable[[np.ndarray, int, int], "tuple[np.ndarray, int]"]
"""Clip (T,), sampling rate, samples of an id → the changed clip and its shift in whole ids."""


def _noise(audio: np.ndarray, sampling_rate: int, hop: int) -> tuple[np.ndarray, int]:
    level = np.sqrt(np.square(audio, dtype=np.float64).mean()) * 10 ** (NOISE_DB / 20)
    noise = np.random.default_rng(0).standard_normal(audio.size)
    return (audio + level * noise).astype(np.float32), 0


def _gain(decibels: float) -> Perturbation:
    return lambda audio, sampling_rate, hop: ((audio * 10 ** (decibels / 20)).astype(np.float32), 0)


def _coded(container: str, subtype: str) -> Perturbation:
    """The clip as libsndfile's encoder of a format at its default bit rate leaves it; no sample is moved."""

    def coded(audio: np.ndarray, sampling_rate: int, hop: int) -> tuple[np.ndarray, int]:
        file = io.BytesIO()
        soundfile.write(file, audio, sampling_rate, format=container, subtype=subtype)
        file.seek(0)
        decoded = soundfile.read(file, dtype="float32")[0][: audio.size]
        return np.pad(decoded, (0, audio.size - decoded.size)), 0

    return coded


PERTURBATIONS: Mapping[str, tuple[str, Perturbation]] = {
    "noise": ("noise at −60 dB", _noise),
    "sample": ("a sample", lambda audio, sampling_rate, hop: (np.pad(audio, (1, 0)), 0)),
    "half_hop": ("half a hop", lambda audio, sampling_rate, hop: (np.pad(audio, (hop // 2, 0)), 0)),
    "hop": ("a hop", lambda audio, sampling_rate, hop: (np.pad(audio, (hop, 0)), 1)),
    "gain_1": ("−1 dB", _gain(-1.0)),
    "gain": ("−6 dB", _gain(-6.0)),
    "mp3": ("MP3", _coded("MP3", "MPEG_LAYER_III")),
    "opus": ("Opus", _coded("OGG", "OPUS")),
}
"""Name → what changes, in words, and the change. Shifts put so much silence before the clip."""


def changed_ids(
    encode: Callable[[np.ndarray], np.ndarray], audio: np.ndarray, ids: np.ndarray, sampling_rate: int, hop: int
) -> dict[str, tuple[int, int]]:
    """Ids that each perturbation changes: name → (changed ids, compared ids), over all codebooks.

    Args:
        encode: Clip (T,) → ids (K, N).
        audio: The clip (T,).
        ids: (K, N), those of the unchanged clip.
        sampling_rate: Of the clip, in Hz.
        hop: Samples of an id.
    """
    counts = {}
    for name, (_, change) in PERTURBATIONS.items():
        changed, shift = change(audio, sampling_rate, hop)
        others = encode(changed)
        length = min(ids.shape[1], others.shape[1] - shift)
        different = ids[:, :length] != others[:, shift : shift + length]
        counts[name] = (int(different.sum()), different.size)
    return counts
