"""Scores of the codec on clips that were kept out of training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from .. import metrics
from ..audio import AudioError
from ..metrics import MetricError
from .data.corpus import Corpus, TrainingClip

logger = logging.getLogger(__name__)

MAX_SECONDS = 6.0

WITHOUT_WORDS = ("music", "general", "mtg_jamendo", "fsd50k")
"""Domains that are not scored as speech."""


class HeldOut(NamedTuple):
    """A clip kept out of training."""

    domain: str
    audio: np.ndarray
    """(T,) at its own level."""


def held_out_clips(corpus: Corpus, clips: Sequence[TrainingClip], most: int) -> list[HeldOut]:
    """At most `most` of the clips, evenly spread, each cut to `MAX_SECONDS`; what cannot be read is logged.

    Raises:
        ValueError: there are clips, but not the packages that score them.
    """
    missing = [name for name in ("pesq", "pystoi", "torchmetrics") if find_spec(name) is None]
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
    """Mean scores `<domain>/stoi`, `/si_sdr` (dB), `/pesq_wb`; `ids`, the number of different ids used; `unscored`.

    The measures are those of `metrics`, STOI and PESQ for speech alone. Where one has no value for a clip
    (too short, silent), the clip is left out of its mean, and counted in `unscored`. `score` chooses the best weights:
    STOI + PESQ / 4, means over all speech; the mean SI-SDR where there is none, minus infinity where that has no value.
    The processes share the clips; all get the result.
    """
    ids: set[int] = set()
    rows: list[dict[str, float]] = []
    unscored = 0
    reasons: Counter[str] = Counter()
    for clip in clips[accelerator.process_index :: accelerator.num_processes]:
        output, used = decoded(model, clip)
        ids |= used
        found, without = _scores(clip, output, sampling_rate)
        rows.append({f"{clip.domain}/{name}": value for name, value in found.items()})
        unscored += bool(without)
        reasons.update(without)
    for reason, times in reasons.items():
        logger.warning("%d held-out clips: %s", times, reason)
    rows, used_ids, all_unscored = gather_object(rows), gather_object([ids]), gather_object([unscored])
    scores: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
    return (
        {name: float(np.mean(values)) for name, values in sorted(scores.items())}
        | {"ids": float(len(set().union(*used_ids))), "unscored": float(sum(all_unscored))}
        | {"score": _score(scores)}
    )


def _scores(clip: HeldOut, output: np.ndarray, sampling_rate: int) -> tuple[dict[str, float], list[str]]:
    """Values by name, and why there are not more of them."""
    measures: dict[str, Callable[[], float]] = {"si_sdr": lambda: metrics.si_sdr(clip.audio, output)}
    if clip.domain not in WITHOUT_WORDS:
        measures["stoi"] = lambda: metrics.stoi(clip.audio, output, sampling_rate)
        measures["pesq_wb"] = lambda: metrics.pesq(clip.audio, output, sampling_rate)
    found, without = {}, []
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except MetricError as error:
            without.append(str(error))
    return found, without


def _score(scores: dict[str, list[float]]) -> float:
    def mean(measure: str, of_none: float) -> float:
        values = [value for name, of_one in scores.items() if name.endswith(f"/{measure}") for value in of_one]
        return float(np.mean(values)) if values else of_none

    speech = any(name.endswith("/stoi") for name in scores)
    return mean("stoi", 0.0) + mean("pesq_wb", 0.0) / 4 if speech else mean("si_sdr", -np.inf)
