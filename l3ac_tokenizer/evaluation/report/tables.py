"""Tables of a summary and of the cost of codecs, in Markdown, and rows as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...markup import Markdown, csv_cell, markdown_text, table_row
from ..timing import growth_exponent

Summary = Mapping[str, Any]
"""Result of `summarize_evaluation`."""

COUNTED = "without a value"
"""Title of the column that counts failures."""


def summary_tables(summary: Summary) -> str:
    """All tables of a summary, with a sentence on the method."""
    parts = [
        "Means over clips with 95 % bootstrap intervals; over several data sets, the mean of their means. Everything "
        "is compared at 16 kHz: clips are resampled to each codec's rate and back with soxr (VHQ), and cut or padded "
        "with silence to the original's length.",
    ]
    for domain in dict.fromkeys(facts["domain"] for facts in summary["datasets"].values()):
        datasets = [name for name, facts in summary["datasets"].items() if facts["domain"] == domain]
        over = "" if datasets == [domain] else f" ({markdown_text(', '.join(datasets))})"
        parts += [f"### {domain.capitalize()}{over}", quality_table(summary, domain)]
        if len(datasets) > 1:
            parts += [quality_table(summary, domain, dataset) for dataset in datasets]
    if "changed_by_noise" in summary["metrics"]:
        parts.append(
            "Ids changed: by white noise 60 dB below the clip, by one sample and by one hop of silence before it (ids "
            "shifted by one), by a gain of −6 dB."
        )
    parts += ["### Rates", rate_table(summary)]
    ids = id_table(summary)
    if ids:
        parts += ["### Ids", ids]
    return "\n\n".join(parts) + "\n"


def quality_table(
    summary: Summary, domain: str, dataset: str | None = None, metrics: Sequence[str] | None = None
) -> str:
    """Quality table, a row for each codec and a column for each metric that any codec has a value for.

    Args:
        summary: result of `summarize_evaluation`.
        domain: `"speech"` or `"audio"`.
        dataset: a data set of the domain; None: the whole domain.
        metrics: names of the metrics to show; None: all.
    """
    group, key = ("domains", domain) if dataset is None else ("datasets", dataset)
    found = [codec[group][key] for codec in summary["codecs"] if codec["unavailable"] is None]
    wanted = summary["metrics"] if metrics is None else metrics
    names = [name for name in wanted if any(of["values"][name]["count"] for of in found)]
    titles = [metric_title(summary["metrics"][name]) for name in names]
    rows = [[dataset or "", "kb/s", "clips", *titles, COUNTED]]
    for codec in summary["codecs"]:
        if codec["unavailable"] is not None:
            reason = short_reason(codec["unavailable"])
            rows.append([codec["title"], *["–"] * (len(names) + 2), f"not available: {reason}."])
            continue
        of = codec[group][key]
        values = [mean_cell(of["values"][name], summary["metrics"][name]) for name in names]
        rows.append([codec["title"], _kbps(of), str(of["clips"]), *values, failure_counts(of)])
    return table(rows)


def rate_table(summary: Summary) -> str:
    """Sampling rates, size, multiply–accumulates, token rate and bit rate of each codec."""
    rows = [
        [
            "",
            "Hz in",
            "Hz out",
            "parameters",
            "G MAC for 10 s",
            "codebooks",
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
    """Codebook usage of each codec by data set; "" if no codec has ids."""
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
                    " ".join(f"{book['used'] / book['size']:.1%}" for book in ids["codebooks"]),
                    " ".join(f"{book['normalized_entropy']:.3f}" for book in ids["codebooks"]),
                    " ".join(f"{book['normalized_entropy_miller_madow']:.3f}" for book in ids["codebooks"]),
                    f"{bits['counted']:,.0f}",
                    f"{bits['huffman']:,.0f}",
                    " ".join(f"{level['normalized_entropy']:.2f}" for level in ids["levels"]) or "–",
                ]
            )
    if len(rows) == 1:
        return ""
    return (
        f"{table(rows)}\n\nEntropies of single ids as shares of even use, one for each codebook; plain ones are biased "
        'low unless there are far more ids than codebook entries. "Levels used" is the same for each digit of an id. '
        "The Huffman code is built on these very ids and its table is not counted: no such code saves more on them, "
        "and with fewer ids than codebook entries it saves more than it would on other ids."
    )


def cost_table(cost: Mapping[str, Any]) -> str:
    """Table of the cost, and of the growth of time and memory with length."""
    head = ["", "s", "batch", "RTF encode", "RTF decode", "resident MiB", "+ encode MiB", "+ decode MiB"]
    lines = [head]
    for row in cost["rows"]:
        cells = [row["codec"], f"{row['seconds']:g}", str(row["batch"])]
        if row["failure"]:
            lines.append([*cells, row["failure"], *["–"] * 4])
            continue
        cells += [f"{row[name]:.3f}" for name in ("encode", "decode")]
        lines.append([*cells, *(f"{row[name]:,.0f}" for name in ("standing_mib", "encode_mib", "decode_mib"))])
    grows = [["", "encoding time", "decoding time", "decoding memory"]]
    for name in dict.fromkeys(row["codec"] for row in cost["rows"]):
        done = [row for row in cost["rows"] if (row["codec"], row["batch"]) == (name, 1) and not row["failure"]]
        lengths = [row["seconds"] for row in done]
        costs = [[row["encode"] * row["seconds"] for row in done], [row["decode"] * row["seconds"] for row in done]]
        exponents = [growth_exponent(lengths, values) for values in (*costs, [row["decode_mib"] for row in done])]
        grows.append([name, *("–" if exponent is None else f"{exponent:.2f}" for exponent in exponents)])
    threads = f"{cost['threads']} thread{'s' if cost['threads'] > 1 else ''}"
    return (
        f"Real-time factors (seconds of computation per second of audio) are medians of {cost['rounds']} interleaved "
        f"rounds on {threads}; memory is that of one pass in a separate process, beyond what was resident before.\n\n"
        f"{table(lines)}\n\n"
        f"Growth: x of cost ∝ length^x, batch 1.\n\n{table(grows)}"
    )


def mean_cell(mean: Mapping[str, Any], metric: Mapping[str, Any]) -> Markdown:
    """Cell with a mean and its interval."""
    if mean["mean"] is None:
        return Markdown("–")
    digits, scale = metric["decimals"], metric["scale"]
    text = f"{scale * mean['mean']:.{digits}f}"
    if mean["interval"] is None:
        return Markdown(text)
    low, high = (f"{scale * bound:.{digits}f}" for bound in mean["interval"])
    return Markdown(f"{text} [{low}, {high}]")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, text or `Markdown`, as a table; the first row is the head, all columns but one right-aligned."""
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(map(table_row, lines))


def csv_table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of one set of keys as CSV, their keys as its head; empty without rows."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def short_reason(reason: str) -> str:
    """Why something is not available, without its cause in parentheses, which names hosts and paths."""
    return re.sub(r" \(.*\)", "", reason).partition(";")[0].rstrip(".")


def metric_title(metric: Mapping[str, Any]) -> str:
    """Title of a metric with an arrow in the direction of better values."""
    return f"{metric['title']} {'↑' if metric['higher_is_better'] else '↓'}"


def failure_counts(of: Mapping[str, Any]) -> str:
    """Cell with the failures of a codec on a domain or data set, by title of the metric."""
    return ", ".join(f"{title}: {count}" for title, count in of["failed"].items()) or "none"


def _kbps(of: Mapping[str, Any]) -> str:
    mean = of["bits_per_second"]["mean"]
    return "–" if mean is None else f"{mean / 1000:.2f}"
