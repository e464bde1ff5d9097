"""Length generalization: quality of the same audio, coded in clips of 1 to 60 s.

Axes: T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..evaluation.report.tables import mean_cell, table
from ..evaluation.statistics import Mean, mean_with_interval
from ..markup import Markdown, markdown_text
from ..metrics import MetricError, mel_distance, pesq, si_sdr, stoi
from ..modeling import CodecModel

LENGTHS_S = (1, 2, 5, 10, 20, 30, 60)
"""Lengths of the clips in seconds."""

CLIP_METRICS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, int], float], int]] = {
    "stoi": ("STOI", stoi, 3),
    "pesq_wb": ("PESQ-WB", pesq, 2),
    "si_sdr": ("SI-SDR, dB", lambda reference, estimate, rate: si_sdr(reference, estimate), 1),
    "mel_distance": ("mel distance", mel_distance, 3),
}
"""Key → title, function of reference, estimate and sampling rate, and decimal places."""


@dataclass(frozen=True)
class ClipLengthResult:
    """Quality of clips of one length.

    Attributes:
        seconds: Length of each clip.
        clips: Number of clips.
        means: Mean by key of `CLIP_METRICS`, over the `Mean.count` clips that have a value.
    """

    seconds: float
    clips: int
    means: dict[str, Mean]


@torch.no_grad()
def measure_clip_lengths(
    model: CodecModel, recordings: Sequence[np.ndarray], lengths: Sequence[float] = LENGTHS_S
) -> list[ClipLengthResult]:
    """Quality of recordings cut into clips of each length, every clip encoded and decoded by itself.

    All lengths use the same audio: recordings are first cut to a multiple of the longest length.

    Args:
        model: the codec.
        recordings: audio (T,) at the model's sampling rate.
        lengths: lengths of the clips in seconds.

    Raises:
        ValueError: no recording is as long as the longest clip.
    """
    rate = model.config.sampling_rate
    longest = round(max(lengths) * rate)
    kept = [recording[: len(recording) // longest * longest] for recording in recordings if len(recording) >= longest]
    if not kept:
        raise ValueError(f"No recording is as long as {max(lengths):g} s; give longer ones.")
    results = []
    for seconds in sorted(lengths):
        size = round(seconds * rate)
        clips = [clip for part in kept for clip in part[: len(part) // size * size].reshape(-1, size)]
        values: dict[str, list[float]] = {key: [] for key in CLIP_METRICS}
        for clip in clips:
            wave = torch.from_numpy(clip).to(model.device, model.dtype)[None, None]
            decoded = model.decode(model.encode(wave).audio_codes, num_samples=size).audio_values
            estimate = decoded[0, 0].float().cpu().numpy()
            for key, (_, metric, _) in CLIP_METRICS.items():
                try:
                    values[key].append(metric(clip, estimate, rate))
                except MetricError:
                    continue
        results.append(
            ClipLengthResult(seconds, len(clips), {key: mean_with_interval(own) for key, own in values.items()})
        )
    return results


def clip_length_section(results: Sequence[ClipLengthResult], title: str) -> str:
    """A Markdown section with a row for each length."""
    rows = [["clips of", "clips", *(heading for heading, _, _ in CLIP_METRICS.values())]]
    for one in results:
        cells = [
            Markdown(mean_cell(vars(one.means[key]), {"decimals": decimals, "scale": 1}) + _missing(one, key))
            for key, (_, _, decimals) in CLIP_METRICS.items()
        ]
        rows.append([f"{one.seconds:g} s", str(one.clips), *cells])
    return (
        f"## Clips of different lengths, {markdown_text(title)}\n\nThe same audio cut into clips of each length, every "
        f"clip coded by itself; means with 95 % bootstrap intervals.\n\n{table(rows)}\n"
    )


def _missing(one: ClipLengthResult, key: str) -> str:
    missing = one.clips - one.means[key].count
    return f" ({missing} without)" if missing else ""
