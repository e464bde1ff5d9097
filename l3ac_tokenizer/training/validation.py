"""Scores of the codec on clips that were kept out of training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from ..audio import AudioError
from .corpus import Clip, Corpus

logger = logging.getLogger(__name__)

MAX_SECONDS = 6.0

WITHOUT_WORDS = ("music", "general", "mtg_jamendo", "fsd50k")
"""Domains that are not scored as speech."""


class HeldOut(NamedTuple):
    """A clip kept out of training."""

    domain: str
    audio: np.ndarray
    """(T,) at its own level."""


def held_out_clips(corpus: Corpus, clips: Sequence[Clip], most: int) -> list[HeldOut]:
    """At most `most` of the clips, evenly spread, each cut to `MAX_SECONDS`; what cannot be read is logged.

    Raises:
        ValueError: there are clips, but not the packages that score them.
    """
    missing = [name for name in ("pesq", "pystoi") if find_spec(name) is None]
    if clips and missing:
        raise ValueError(
            f"Held-out clips cannot be scored without {' and '.join(missing)}: pip install l3ac-tokenizer[eval], or "
            "hold nothing out."
        )
    spread = [clips[i] for i in np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)]
    held = []
    for clip in spread:
        try:
            held.append(HeldOut(clip.domain, corpus.beginning(clip, MAX_SECONDS)))
        except (AudioError, OSError) as error:
            logger.warning("not scored: %s", error)
    return held


def decoded(model: nn.Module, clip: HeldOut) -> tuple[np.ndarray, set[int]]:
    """The clip as the model gives it back (T,), and the ids that it used."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model(torch.from_numpy(clip.audio)[None, None].to(device))
    return output.audio_values[0, 0].float().cpu().numpy(), set(output.audio_codes.flatten().tolist())


def validate(
    model: nn.Module, clips: Sequence[HeldOut], sampling_rate: int, accelerator: Accelerator
) -> dict[str, float]:
    """Mean scores `<domain>/stoi`, `/si_sdr` (dB), `/pesq_wb` and `ids`, the number of different ids used.

    STOI (Taal et al. 2011), SI-SDR (Le Roux et al. 2019), PESQ-WB (ITU-T P.862.2) where the clip allows it;
    STOI and PESQ for speech alone. `score` chooses the best weights: STOI + PESQ / 4, means over all speech; the mean
    SI-SDR where there is none. The processes share the clips; all get the result.
    """
    ids: set[int] = set()
    rows: list[dict[str, float]] = []
    for clip in clips[accelerator.process_index :: accelerator.num_processes]:
        output, used = decoded(model, clip)
        ids |= used
        rows.append({f"{clip.domain}/{name}": value for name, value in _scores(clip, output, sampling_rate).items()})
    rows, used_ids = gather_object(rows), gather_object([ids])
    scores: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
    return (
        {name: float(np.mean(values)) for name, values in sorted(scores.items())}
        | {"ids": float(len(set().union(*used_ids)))}
        | {"score": _score(scores)}
    )


def _scores(clip: HeldOut, output: np.ndarray, sampling_rate: int) -> dict[str, float]:
    from pesq import NoUtterancesError, pesq
    from pystoi import stoi

    found = {"si_sdr": si_sdr(output, clip.audio)}
    if clip.domain not in WITHOUT_WORDS:
        found["stoi"] = float(stoi(clip.audio, output, sampling_rate))
        if sampling_rate == 16_000:
            try:
                found["pesq_wb"] = float(pesq(sampling_rate, clip.audio, output, "wb"))
            except NoUtterancesError as error:
                logger.warning("PESQ skipped a clip: %s", error)
    return found


def _score(scores: dict[str, list[float]]) -> float:
    def mean(measure: str) -> float:
        values = [value for name, of_one in scores.items() if name.endswith(f"/{measure}") for value in of_one]
        return float(np.mean(values)) if values else 0.0

    speech = any(name.endswith("/stoi") for name in scores)
    return mean("stoi") + mean("pesq_wb") / 4 if speech else mean("si_sdr")


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, means removed (Le Roux et al. 2019, Eq. 3)."""
    estimate = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    reference = reference.astype(np.float64) - reference.mean(dtype=np.float64)
    target = reference * (estimate @ reference) / (reference @ reference + 1e-12)
    return float(10 * np.log10((target @ target + 1e-12) / (np.square(estimate - target).sum() + 1e-12)))
