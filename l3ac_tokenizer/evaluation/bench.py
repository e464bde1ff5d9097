"""A codec over folders of clips: every metric of every clip, means with intervals, and the use of the ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..audio import AUDIO_SUFFIXES, AudioError, read_audio
from ..modeling import L3ACModel
from ..modeling.span import TimeNormMode
from .metrics import MetricError, Usage, codebook_usage, mel_distance, pesq, sdr, si_sdr, stoi

Metric = Callable[[np.ndarray, np.ndarray, int], float]
METRICS: dict[str, tuple[str, int, Metric]] = {
    "stoi": ("STOI", 3, stoi),
    "pesq_wb": ("PESQ-WB", 2, pesq),
    "si_sdr": ("SI-SDR, dB", 1, lambda reference, estimate, _: si_sdr(reference, estimate)),
    "sdr": ("SDR, dB", 1, lambda reference, estimate, _: sdr(reference, estimate)),
    "mel_distance": ("mel distance", 3, mel_distance),
}
"""Name → title, decimals, function of (reference, estimate, sampling rate)."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """A metric over the clips of a folder that it has a value for.

    Attributes:
        count: Clips with a value.
        mean: Their mean; None without any.
        interval: 95 % bootstrap interval of the mean, percentiles over resampled clips; None below two.
    """

    count: int
    mean: float | None
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class FolderReport:
    """What [`evaluate_folder`] found.

    Attributes:
        folder: Path as it was given.
        clips: Clips decoded.
        seconds: Their length in all.
        metrics: Name as in `METRICS` → mean.
        ids: Use of the codebook over all clips.
        levels: Use of the levels of each latent dimension.
        failures: What has no value: clip, metric (`"read"` where the clip itself failed) and reason.
    """

    folder: str
    clips: int
    seconds: float
    metrics: dict[str, Mean]
    ids: Usage
    levels: list[Usage]
    failures: list[dict[str, str]]


def evaluate_folder(model: L3ACModel, folder: str | Path, time_norm: TimeNormMode = "clip") -> FolderReport:
    """Encode and decode every clip under `folder`, one at a time, and measure them.

    Args:
        model: The codec, on its device, in evaluation mode.
        folder: Searched with its subfolders for `AUDIO_SUFFIXES`; clips are resampled to the model's rate.
        time_norm: Decoder statistics, `"clip"` or `"frozen"`.

    Raises:
        OSError: `folder` is not a folder, or has no audio in it.
        ValueError: none of its files can be read.
    """
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    ids: list[np.ndarray] = []
    failures: list[dict[str, str]] = []
    samples = 0
    rate = model.config.sampling_rate
    for path in tqdm(_audio_files(Path(folder)), desc=str(folder), unit="clip"):
        clip = str(path.relative_to(folder))
        try:
            reference, _ = read_audio(path, rate)
        except AudioError as error:
            failures.append({"clip": clip, "metric": "read", "reason": str(error)})
            continue
        clip_ids, estimate = _reconstruct(model, reference, time_norm)
        ids.append(clip_ids)
        samples += reference.size
        for name, (_, _, metric) in METRICS.items():
            try:
                values[name].append(metric(reference, estimate, rate))
            except MetricError as error:
                failures.append({"clip": clip, "metric": name, "reason": str(error)})
    if not ids:
        raise ValueError(f"None of the audio files in {folder} can be read: {failures[0]['reason']}")
    whole, levels = codebook_usage(np.concatenate(ids), model.config.levels)
    return FolderReport(
        folder=str(folder),
        clips=len(ids),
        seconds=samples / rate,
        metrics={name: mean_with_interval(of_clips) for name, of_clips in values.items()},
        ids=whole,
        levels=levels,
        failures=failures,
    )


def mean_with_interval(values: Sequence[float]) -> Mean:
    """Mean of a metric over clips, and how far another sample of clips would move it (10,000 resamples,
    seed 0)."""
    if len(values) < 2:
        return Mean(len(values), values[0] if values else None, None)
    data = np.asarray(values)
    means = np.random.default_rng(0).choice(data, (10_000, data.size)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(data.size, float(data.mean()), (float(low), float(high)))


def markdown_tables(reports: Sequence[FolderReport]) -> str:
    """The reports as two Markdown tables: quality, and use of the codebook."""
    quality = [["", "clips", "minutes", *(title for title, _, _ in METRICS.values()), "without a value"]]
    for report in reports:
        cells = [_mean_cell(report.metrics[name], decimals) for name, (_, decimals, _) in METRICS.items()]
        name = Path(report.folder).name
        quality.append([name, str(report.clips), f"{report.seconds / 60:.1f}", *cells, _failures_cell(report)])
    titles = ["ids", "different", "of the codebook", "entropy", "Miller–Madow", "entropy of each dimension"]
    codebook = [["", *titles]]
    for report in reports:
        use = report.ids
        codebook.append(
            [
                Path(report.folder).name,
                f"{use.count:,}",
                f"{use.used:,}",
                f"{use.used / use.size:.1%}",
                f"{use.normalized_entropy:.3f}",
                f"{use.normalized_entropy_miller_madow:.3f}",
                " ".join(f"{level.normalized_entropy:.2f}" for level in report.levels),
            ]
        )
    return (
        f"{_table(quality)}\n\n{_table(codebook)}\n\n"
        "Means over clips with 95 % bootstrap intervals; entropies as shares of even use."
    )


def as_json(reports: Sequence[FolderReport]) -> list[dict[str, Any]]:
    """The reports as JSON values."""
    return [dataclasses.asdict(report) for report in reports]


def _audio_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give one with audio files in it.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"There is no audio file in {folder}; known are {', '.join(sorted(AUDIO_SUFFIXES))}.")
    return files


@torch.inference_mode()
def _reconstruct(model: L3ACModel, audio: np.ndarray, time_norm: TimeNormMode) -> tuple[np.ndarray, np.ndarray]:
    """Audio (T,) → ids (N,) and decoded audio (T,)."""
    input_values = torch.from_numpy(audio)[None, None].to(model.device)  # (1, 1, T)
    (codes, *_) = model.encode(input_values, return_dict=False)  # (1, 1, N)
    (decoded,) = model.decode(codes, time_norm=time_norm, num_samples=audio.size, return_dict=False)
    return codes[0, 0].cpu().numpy(), decoded[0, 0].float().cpu().numpy()


def _mean_cell(mean: Mean, decimals: int) -> str:
    if mean.mean is None:
        return "none"
    interval = "" if mean.interval is None else " [{:.{d}f}, {:.{d}f}]".format(*mean.interval, d=decimals)
    return f"{mean.mean:.{decimals}f}{interval}"


def _failures_cell(report: FolderReport) -> str:
    counts: dict[str, int] = {}
    for failure in report.failures:
        title = METRICS[failure["metric"]][0] if failure["metric"] in METRICS else "not readable"
        counts[title] = counts.get(title, 0) + 1
    return ", ".join(f"{title}: {count}" for title, count in counts.items()) or "none"


def _table(rows: list[list[str]]) -> str:
    header, *body = rows
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
