"""Summary of an evaluation (`summary.json`): means by data set and domain, ids, failures and versions."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..names import public_name
from .run import CodecMetadata, Evaluation
from .scorers.base import Value
from .scorers.speaker import equal_error_rate
from .scorers.tokens import id_statistics
from .scoring import WHOLE_CLIP, ResultRow, failure_titles
from .statistics import RESAMPLES, SEED, Mean, mean_of_means, pooled_mean
from .timing import cpu_name

PACKAGES = ("l3ac-tokenizer", "torch", "transformers", "torchmetrics", "pesq", "pystoi", "soundfile", "soxr", "numpy")


def summarize_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """All that tables and plots show, as JSON values.

    Keys: `versions`, `machine`, `seed`, `resamples`, `options`, `metrics` (name → title, decimals, …), `datasets`
    (name → domain, clips, seconds, truncated) and `codecs`, a list of `CodecMetadata` with `datasets` and `domains`
    (name → values by metric, bit rate, and for data sets also ids and failures).
    """
    return {
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": cpu_name(),
        "seed": SEED,
        "resamples": RESAMPLES,
        "options": asdict(evaluation.options) | {"scorers": _scorers(evaluation)},
        "metrics": {name: asdict(metric) for name, metric in evaluation.metrics.items()},
        "datasets": _datasets(evaluation),
        "codecs": [_codec(evaluation, codec) for codec in evaluation.codecs],
    }


def _scorers(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Kind and model of each further scorer; of directories, only the last part."""
    return [(kind, public_name(model)) for kind, model in evaluation.options.scorers]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _datasets(evaluation: Evaluation) -> dict[str, Any]:
    clips = evaluation.data.clips
    seconds = {row.clip: row.seconds for row in evaluation.rows}
    truncated = {row.clip for row in evaluation.rows if row.truncated is not None}
    return {
        name: {
            "domain": domain,
            "clips": sum(clip.dataset == name for clip in clips),
            "seconds": sum(seconds.get(clip.key, 0.0) for clip in clips if clip.dataset == name),
            "truncated": [clip.key for clip in clips if clip.dataset == name and clip.key in truncated],
        }
        for name, domain in evaluation.data.domains.items()
    }


def _codec(evaluation: Evaluation, codec: CodecMetadata) -> dict[str, Any]:
    entry = asdict(codec)
    if codec.unavailable is not None:
        return entry
    domains = evaluation.data.domains
    rows = {name: [row for row in evaluation.rows_of(codec) if row.dataset == name] for name in domains}
    if codec.rates is not None:
        rates = codec.rates
        entry["rates"] |= {
            name: getattr(rates, name) for name in ("tokens_per_second", "bits_per_second", "whole_bits_per_second")
        }
    entry["datasets"] = {name: _dataset(evaluation, codec, of_one) for name, of_one in rows.items()}
    entry["domains"] = {
        domain: _domain(evaluation, [of_one for name, of_one in rows.items() if domains[name] == domain])
        for domain in dict.fromkeys(domains.values())
    }
    return entry


def _dataset(evaluation: Evaluation, codec: CodecMetadata, rows: Sequence[ResultRow]) -> dict[str, Any]:
    done = _decoded(rows)
    all_ids = [np.asarray(row.ids) for row in done if row.ids is not None]
    return {
        "clips": len(done),
        "seconds": sum(row.seconds for row in done),
        "bits_per_second": asdict(pooled_mean(_bits(done))),
        "values": _values(evaluation, [done]),
        "ids": id_statistics(all_ids, codec.rates, sum(row.seconds for row in done))
        if all_ids and codec.rates is not None
        else None,
        "failed": failure_titles(evaluation.metrics, [name for row in rows for name in row.failures]),
        "failures": [
            {"clip": row.clip, "metric": name, "reason": why} for row in rows for name, why in row.failures.items()
        ],
    }


def _domain(evaluation: Evaluation, datasets: Sequence[Sequence[ResultRow]]) -> dict[str, Any]:
    """Means over data sets of their means, as in Codec-SUPERB."""
    done = [_decoded(rows) for rows in datasets]
    failed = [name for rows in datasets for row in rows for name in row.failures]
    return {
        "clips": sum(map(len, done)),
        "seconds": sum(row.seconds for rows in done for row in rows),
        "bits_per_second": asdict(mean_of_means([_bits(rows) for rows in done])),
        "values": _values(evaluation, done),
        "failed": failure_titles(evaluation.metrics, failed),
    }


def _values(evaluation: Evaluation, datasets: Sequence[Sequence[ResultRow]]) -> dict[str, Any]:
    means = {name: mean_of_means([_parts(rows, name) for rows in datasets]) for name in evaluation.metrics}
    if "eer" in means:
        means["eer"] = _error_rate(evaluation, [row for rows in datasets for row in rows])
    return {name: asdict(mean) for name, mean in means.items()}


def _error_rate(evaluation: Evaluation, rows: Sequence[ResultRow]) -> Mean:
    speakers = {clip.key: clip.labels.get("speaker") for clip in evaluation.data.clips}
    known = [(row.embedding, speaker) for row in rows if row.embedding and (speaker := speakers.get(row.clip))]
    return equal_error_rate([embedding for embedding, _ in known], [speaker for _, speaker in known])


def _decoded(rows: Sequence[ResultRow]) -> list[ResultRow]:
    return [row for row in rows if not row.failures.keys() & WHOLE_CLIP.keys()]


def _bits(rows: Sequence[ResultRow]) -> list[tuple[float, float]]:
    return [(row.bits, row.seconds) for row in rows if row.bits is not None]


def _parts(rows: Sequence[ResultRow], name: str) -> list[tuple[float, float]]:
    return [_part(row.values[name]) for row in rows if name in row.values]


def _part(value: Value) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, 1.0)


def flat_row(row: ResultRow, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A line of `clips.csv`: one column per metric (numerator / denominator if it is pooled), without ids."""
    values: dict[str, Any] = {}
    for name in columns:
        numerator, denominator = _part(row.values[name]) if name in row.values else (None, 1.0)
        values[name] = None if numerator is None or not denominator else numerator / denominator
    return {
        "codec": row.codec,
        "dataset": row.dataset,
        "clip": row.clip,
        "seconds": row.seconds,
        "bits": row.bits,
        **values,
        "failures": "; ".join(f"{name}: {why}" for name, why in row.failures.items()) or None,
    }
