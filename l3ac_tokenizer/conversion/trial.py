"""Trial of converted weights on a bundled sentence of synthetic speech, before they are kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import soxr
import torch

from ..audio import read_audio
from ..metrics import stft_distance, stoi
from ..modeling import CodecModel
from ..quantization import check_ids

SENTENCE = Path(__file__).parents[1] / "assets" / "demo.flac"

SENTENCE_RATE = 16_000
"""Its sampling rate in Hz, at which it is compared: what higher rates add to it is not speech."""

MOST_DISTANCE = 2.5
"""Largest STFT distance of a decoded sentence."""


@torch.inference_mode()
def try_weights(model: CodecModel, *, any_sound: bool = False) -> dict[str, float]:
    """Encode and decode the sentence, and return what was measured.

    Refused is what no trained codec gives: samples that are not finite, ids outside of the codebook, and audio whose
    `stft_distance` from the sentence is above `MOST_DISTANCE`. It does not tell good weights from mediocre ones: for
    that, evaluate them.

    Args:
        model: Converted network.
        any_sound: Only require finite samples and valid ids, e.g. of weights that were not trained on speech.

    Returns:
        `stft_distance`, `ids_used` (different ones in the sentence), and `stoi` where pystoi is installed.

    Raises:
        ValueError: The weights are refused.
    """
    rate = model.config.sampling_rate
    audio, _ = read_audio(SENTENCE, rate)
    ids = model.encode(torch.from_numpy(audio)[None, None]).audio_codes
    check_ids(ids, model.config.codebook_size)
    decoded = model.decode(ids, num_samples=len(audio)).audio_values[0, 0].float().numpy()
    if not np.isfinite(decoded).all():
        raise ValueError("The converted weights decode to infinite samples or NaN: nothing was kept.")
    sentence, _ = read_audio(SENTENCE, SENTENCE_RATE)
    decoded = np.resize(soxr.resample(decoded, rate, SENTENCE_RATE), sentence.shape)
    measured = {"stft_distance": stft_distance(sentence, decoded), "ids_used": float(len(ids.unique()))}
    if not any_sound and measured["stft_distance"] > MOST_DISTANCE:
        raise ValueError(
            f"The converted weights decode a sentence of speech to other sounds (STFT distance "
            f"{measured['stft_distance']:.2f}, at most {MOST_DISTANCE:g} expected): nothing was kept; give the preset "
            "that they belong to, or --any-sound for weights that were not trained on speech."
        )
    with contextlib.suppress(ModuleNotFoundError):  # the extra `eval` is not installed
        measured["stoi"] = stoi(sentence, decoded, SENTENCE_RATE)
    return measured
