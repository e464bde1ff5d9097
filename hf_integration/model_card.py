"""Insertion of the tables of `l3ac evaluate` into the model card of a checkpoint directory.

    l3ac evaluate eval/speech speech=eval/music --codec CHECKPOINT --codec CHECKPOINT@frozen -o RESULTS
    python -m hf_integration.model_card CHECKPOINT RESULTS

`speech=` requests STOI and PESQ for music too, although they are measures of speech. The tables go between the two
lines of `MARKS`, which are inserted below the first section if the card lacks them. The rest of the card does not
change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.evaluation.report.tables import COUNTED, mean_cell, metric_title, table
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.markup import markdown_text, printable

MARKS = ("<!-- measured by l3ac evaluate -->", "<!-- end of what was measured -->")
METRICS = ("stoi", "pesq_wb", "sdr", "si_sdr", "mel_distance")

Summary = Mapping[str, Any]


def write_measured(checkpoint: str | Path, results: str | Path) -> None:
    """Write the tables of `results` into the card of `checkpoint`.

    Raises:
        OSError: A file is missing or cannot be written.
        ValueError: `results` does not cover these weights, or the card has one mark without the other.
    """
    card = Path(checkpoint) / "README.md"
    summary = json.loads((Path(results) / "summary.json").read_text(encoding="utf-8"))
    digest = CodecModel.from_pretrained(checkpoint).weights_digest()
    section = measured(summary, digest)
    with atomic_write(card) as file:
        file.write(_inserted(card.read_text(encoding="utf-8"), section).encode())


def measured(summary: Summary, digest: str) -> str:
    """Format the measurements of the weights with this digest as Markdown.

    Raises:
        ValueError: The measurements are of other weights.
    """
    codecs = [codec for codec in summary["codecs"] if codec.get("digest") == digest]
    if not codecs:
        found = ", ".join(f"{codec['name']} {str(codec.get('digest'))[:16]}" for codec in summary["codecs"])
        raise ValueError(f"The results are for {found}, but the checkpoint is {digest[:16]}: evaluate this checkpoint.")
    seconds = ", ".join(
        f"{markdown_text(name)} {facts['clips']} clips of {facts['seconds'] / 60:.1f} minutes"
        for name, facts in summary["datasets"].items()
    )
    frozen = '; `@frozen` decodes with `time_norm="frozen"`, as streams do'
    parts = [
        _quality(summary, codecs),
        f"Means over clips ({seconds}) with 95 % bootstrap intervals, by `l3ac evaluate`"
        f"{frozen if len(codecs) > 1 else ''}. Weights digest: `{digest}`.",
        _ids(summary, codecs[0]),
        "Entropies are relative to that of uniform use. The plain and the corrected (Miller–Madow) entropy of single "
        "ids are biased low, because fewer ids were measured than the codebook has.",
    ]
    return "\n\n".join(parts)


def _quality(summary: Summary, codecs: list[Summary]) -> str:
    shown = summary["metrics"]
    rows = [["", *(metric_title(shown[name]) for name in METRICS), COUNTED]]
    for codec in codecs:
        for dataset, of in codec["datasets"].items():
            setting = "".join(codec["name"].partition("@")[1:])
            values = [mean_cell(of["values"][name], shown[name]) for name in METRICS]
            failed = ", ".join(f"{title}: {count}" for title, count in of["failed"].items()) or "none"
            rows.append([f"{dataset} {setting}".strip(), *values, failed])
    return table(rows)


def _ids(summary: Summary, codec: Summary) -> str:
    shown = {name: metric for name, metric in summary["metrics"].items() if name.startswith("changed_by_")}
    titles = [metric_title(metric) for metric in shown.values()]
    rows = [["", "ids", "used", "share of codebook", "entropy", "corrected", "of each dimension", *titles]]
    for dataset, of in codec["datasets"].items():
        (codebook,) = of["ids"]["codebooks"]
        levels = " ".join(f"{level['normalized_entropy']:.2f}" for level in of["ids"]["levels"])
        entropies = [f"{codebook[name]:.3f}" for name in ("normalized_entropy", "normalized_entropy_miller_madow")]
        used = [f"{codebook['used']:,}", f"{codebook['used'] / codebook['size']:.1%}"]
        changed = [mean_cell(of["values"][name], metric) for name, metric in shown.items()]
        rows.append([dataset, f"{of['ids']['count']:,}", *used, *entropies, levels, *changed])
    return table(rows)


def _inserted(card: str, section: str) -> str:
    first, last = (card.count(mark) for mark in MARKS)
    block = f"{MARKS[0]}\n\n{section}\n\n{MARKS[1]}"
    if (first, last) == (1, 1):
        return card.partition(MARKS[0])[0] + block + card.partition(MARKS[1])[2]
    if first or last:
        raise ValueError(
            f"The card must have the line {MARKS[0]!r} and after it {MARKS[1]!r}, once each; add or remove them."
        )
    head, heading, rest = card.partition("\n## ")
    return f"{head.rstrip()}\n\n## Measured\n\n{block}\n{heading}{rest}"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Insert the tables of `l3ac evaluate` into the model card of a checkpoint."
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint directory")
    parser.add_argument("results", type=Path, help="output folder of `l3ac evaluate`")
    options = parser.parse_args(arguments)
    try:
        write_measured(options.checkpoint, options.results)
    except (OSError, ValueError) as error:
        print(printable(f"model_card: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
