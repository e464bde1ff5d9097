"""Markdown tables of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]

COUNTED = "without a value"


def markdown(summary: Summary) -> str:
    """Every table of a summary, with a sentence on how the numbers were made."""
    parts = [
        "Means over clips with 95 % bootstrap intervals; over several data sets, the mean of their means. Everything "
        "is compared at 16 kHz: clips are resampled to each codec's rate and back with soxr (VHQ), and cut or filled "
        "with silence to the original's length.",
    ]
    for domain in dict.fromkeys(facts["domain"] for facts in summary["datasets"].values()):
        datasets = [name for name, facts in summary["datasets"].items() if facts["domain"] == domain]
        over = "" if datasets == [domain] else f" ({', '.join(datasets)})"
        parts += [f"### {domain.capitalize()}{over}", quality_table(summary, domain)]
        if len(datasets) > 1:
            parts += [quality_table(summary, domain, dataset) for dataset in datasets]
    if "changed_by_noise" in summary["metrics"]:
        parts.append(
            "Ids changed: by white noise 60 dB below the clip, by one sample and by one hop of silence before it (ids "
            "moved by one), by a gain of −6 dB."
        )
    parts += ["### Rates", rate_table(summary)]
    ids = id_table(summary)
    if ids:
        parts += ["### Ids", ids]
    return "\n\n".join(parts) + "\n"


def quality_table(
    summary: Summary, domain: str, dataset: str | None = None, metrics: Sequence[str] | None = None
) -> str:
    """A row a codec, a column a metric that any has a value for; of a domain, or of one data set of it.

    `metrics` are those to show; None: all.
    """
    group, key = ("domains", domain) if dataset is None else ("datasets", dataset)
    found = [codec[group][key] for codec in summary["codecs"] if codec["unavailable"] is None]
    wanted = summary["metrics"] if metrics is None else metrics
    names = [name for name in wanted if any(of["values"][name]["count"] for of in found)]
    titles = [metric_title(summary["metrics"][name]) for name in names]
    rows = [[dataset or "", "kb/s", "clips", *titles, COUNTED]]
    for codec in summary["codecs"]:
        if codec["unavailable"] is not None:
            rows.append([codec["title"], *["–"] * (len(names) + 2), f"not available: {codec['unavailable']}"])
            continue
        of = codec[group][key]
        values = [mean_cell(of["values"][name], summary["metrics"][name]) for name in names]
        failed = ", ".join(f"{title}: {count}" for title, count in of["failed"].items()) or "none"
        rows.append([codec["title"], _kbps(of), str(of["clips"]), *values, failed])
    return table(rows)


def rate_table(summary: Summary) -> str:
    """What each codec is and costs in bits."""
    rows = [
        [
            "",
            "Hz in",
            "Hz out",
            "parameters",
            "G MAC for 10 s",
            "streams",
            "frames/s",
            "tokens/s",
            "bit/s",
            "in whole bits",
        ]
    ]
    for codec in summary["codecs"]:
        if codec["unavailable"] is not None:
            continue
        rates, parameters = codec["rates"], codec["parameters"]
        row = [codec["title"], f"{codec['sampling_rate']:,}", f"{codec['output_rate']:,}"]
        row.append("–" if parameters is None else f"{parameters / 1e6:.2f} M")
        row.append(
            "–" if codec["gmacs"] is None else f"{codec['gmacs']['encode']:.1f} + {codec['gmacs']['decode']:.1f}"
        )
        if rates is None:
            measured = next(iter(codec["domains"].values()))["bits_per_second"]["mean"]
            row += ["–", "–", "–", "–" if measured is None else f"{measured:,.0f} (measured)", "–"]
        else:
            row += [str(len(rates["codebooks"])), f"{rates['frames_per_second']:.2f}"]
            row += [f"{rates[name]:.2f}" for name in ("tokens_per_second",)]
            row += [f"{rates[name]:,.0f}" for name in ("bits_per_second", "whole_bits_per_second")]
        rows.append(row)
    return table(rows)


def id_table(summary: Summary) -> str:
    """How the ids of each codec use its codebooks, by data set; empty where no codec has ids."""
    head = ["", "data set", "ids", "codebook used", "entropy", "Miller–Madow", "bit/s", "Huffman, bit/s", "levels used"]
    rows = [head]
    for codec in summary["codecs"]:
        for name, of in codec.get("datasets", {}).items():
            if of["ids"] is None:
                continue
            ids, bits = of["ids"], of["ids"]["bits_per_second"]
            rows.append(
                [
                    codec["title"],
                    name,
                    f"{ids['count']:,}",
                    " ".join(f"{stream['used'] / stream['size']:.1%}" for stream in ids["streams"]),
                    " ".join(f"{stream['normalized_entropy']:.3f}" for stream in ids["streams"]),
                    " ".join(f"{stream['normalized_entropy_miller_madow']:.3f}" for stream in ids["streams"]),
                    f"{bits['counted']:,.0f}",
                    f"{bits['huffman']:,.0f}",
                    " ".join(f"{level['normalized_entropy']:.2f}" for level in ids["levels"]) or "–",
                ]
            )
    if len(rows) == 1:
        return ""
    return (
        f"{table(rows)}\n\nEntropies of single ids as shares of even use, a number a stream; plain ones are biased low "
        'where there are not far more ids than codebook entries. "Levels used" are the same of each digit of an id. '
        "The Huffman code is made for these very ids and its table not counted: no such code saves more on them, and "
        "with fewer ids than codebook entries it saves more than it would on others."
    )


def mean_cell(mean: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """A mean with its interval."""
    if mean["mean"] is None:
        return "–"
    digits, scale = metric["decimals"], metric["scale"]
    text = f"{scale * mean['mean']:.{digits}f}"
    if mean["interval"] is None:
        return text
    low, high = (f"{scale * bound:.{digits}f}" for bound in mean["interval"])
    return f"{text} [{low}, {high}]"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table, the first row its head, numbers to the right."""
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def metric_title(metric: Mapping[str, Any]) -> str:
    """A metric's name with an arrow to where it is good."""
    return f"{metric['title']} {'↑' if metric['higher_is_better'] else '↓'}"


def _kbps(of: Mapping[str, Any]) -> str:
    mean = of["bits_per_second"]["mean"]
    return "–" if mean is None else f"{mean / 1000:.2f}"
