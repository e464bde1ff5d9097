"""Length generalisation: the same audio coded in clips of 1 to 60 s, which should sound the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..metrics import MetricError, mel_distance, pesq, si_sdr, stoi
from ..modeling import CodecModel
from .statistics import Mean, mean_with_interval
from .tables import mean_cell, table

LENGTHS_S = (1, 2, 5, 10, 20, 30, 60)

METRICS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, int], float], int]] = {
    "stoi": ("STOI", stoi, 3),
    "pesq_wb": ("PESQ-WB", pesq, 2),
    "si_sdr": ("SI-SDR, dB", lambda reference, estimate, rate: si_sdr(reference, estimate), 1),
    "mel_distance": ("mel distance", mel_distance, 3),
}
"""Key → title, function of reference, estimate and sampling rate, and decimals."""


@dataclass(frozen=True)
class LengthBin:
    """What clips of one length give.

    Attributes:
        seconds: Length of each clip.
        clips: Number of clips.
        means: Mean by key of `METRICS`; clips without a value are left out of it and counted by `Mean.count`.
    """

    seconds: float
    clips: int
    means: dict[str, Mean]


@torch.no_grad()
def by_length(
    model: CodecModel, recordings: Sequence[np.ndarray], lengths: Sequence[float] = LENGTHS_S
) -> list[LengthBin]:
    """Cut recordings (T,) at the model's rate into whole clips of each length, code each clip alone, and measure.

    All lengths see the same audio: what the longest one leaves over is left out.

    Raises:
        ValueError: No recording is as long as the longest clip.
    """
    rate = model.config.sampling_rate
    longest = round(max(lengths) * rate)
    kept = [recording[: len(recording) // longest * longest] for recording in recordings if len(recording) >= longest]
    if not kept:
        raise ValueError(f"No recording is as long as {max(lengths):g} s; give longer ones.")
    bins = []
    for seconds in sorted(lengths):
        size = round(seconds * rate)
        clips = [clip for part in kept for clip in part[: len(part) // size * size].reshape(-1, size)]
        values: dict[str, list[float]] = {key: [] for key in METRICS}
        for clip in clips:
            wave = torch.from_numpy(clip).to(model.device, model.dtype)[None, None]
            decoded = model.decode(model.encode(wave).audio_codes, num_samples=size).audio_values
            estimate = decoded[0, 0].float().cpu().numpy()
            for key, (_, metric, _) in METRICS.items():
                try:
                    values[key].append(metric(clip, estimate, rate))
                except MetricError:
                    continue
        bins.append(LengthBin(seconds, len(clips), {key: mean_with_interval(own) for key, own in values.items()}))
    return bins


def markdown(bins: Sequence[LengthBin], title: str) -> str:
    """A table, a row a length."""
    rows = [["clips of", "clips", *(heading for heading, _, _ in METRICS.values())]]
    for one in bins:
        cells = [
            mean_cell(vars(one.means[key]), {"decimals": decimals, "scale": 1}) + _missing(one, key)
            for key, (_, _, decimals) in METRICS.items()
        ]
        rows.append([f"{one.seconds:g} s", str(one.clips), *cells])
    return (
        f"## Clips of different length, {title}\n\nThe same audio cut into clips of each length, every clip coded "
        f"alone; means with 95 % bootstrap intervals.\n\n{table(rows)}\n"
    )


def _missing(one: LengthBin, key: str) -> str:
    missing = one.clips - one.means[key].count
    return f" ({missing} without)" if missing else ""
