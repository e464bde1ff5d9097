"""Scores of the codec on clips that were kept out of training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .data import Corpus

logger = logging.getLogger(__name__)

MAX_SECONDS = 6.0


def held_out_clips(corpus: Corpus, sampling_rate: int) -> list[tuple[str, np.ndarray]]:
    """(domain, audio (T,)) of every clip at its own level, cut to `MAX_SECONDS`."""
    length = int(MAX_SECONDS * sampling_rate)
    return [(clip.domain, corpus.audio(clip)[:length]) for clip in corpus.clips]


@torch.inference_mode()
def validate(model: nn.Module, clips: Sequence[tuple[str, np.ndarray]], sampling_rate: int) -> dict[str, float]:
    """Mean scores `<domain>/stoi`, `/si_sdr` (dB), `/pesq_wb` and `ids`, the number of different ids used.

    STOI (Taal et al. 2011), SI-SDR (Le Roux et al. 2019), PESQ-WB (ITU-T P.862.2) where the clip allows it;
    STOI and PESQ for speech alone. `score` = speech STOI + PESQ / 4 chooses the best weights.
    """
    from pesq import NoUtterancesError, pesq
    from pystoi import stoi

    device = next(model.parameters()).device
    scores: dict[str, list[float]] = {}
    ids: set[int] = set()
    for domain, audio in clips:
        output = model(torch.from_numpy(audio)[None, None].to(device))
        ids.update(output.audio_codes.flatten().tolist())
        decoded = output.audio_values[0, 0].float().cpu().numpy()
        scores.setdefault(f"{domain}/si_sdr", []).append(si_sdr(decoded, audio))
        if domain == "speech":
            scores.setdefault("speech/stoi", []).append(float(stoi(audio, decoded, sampling_rate)))
            if sampling_rate == 16_000:
                try:
                    scores.setdefault("speech/pesq_wb", []).append(pesq(sampling_rate, audio, decoded, "wb"))
                except NoUtterancesError as error:
                    logger.warning("PESQ skipped a clip: %s", error)
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    means["ids"] = float(len(ids))
    means["score"] = means.get("speech/stoi", 0.0) + means.get("speech/pesq_wb", 0.0) / 4
    return means


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, means removed (Le Roux et al. 2019, Eq. 3)."""
    estimate = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    reference = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    target = reference * (estimate @ reference) / (reference @ reference + 1e-12)
    return float(10 * np.log10((target @ target + 1e-12) / (np.square(estimate - target).sum() + 1e-12)))
