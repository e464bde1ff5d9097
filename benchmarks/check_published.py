"""Published weights of every preset: downloaded, converted, and measured beside the figures of the papers.

    python -m benchmarks.check_published AUDIO [--presets l3ac-1k ...] [--asr faster-whisper] [--any-sound]

AUDIO is a folder of speech; with transcripts, as `l3ac evaluate` reads them, WER is that against them. Needs a network,
or a cache with the weights. Presets that cannot be downloaded, such as gated ones without a token, are named with the
reason, and the exit status is then 1. The papers' figures are on other audio: compare them by their order of size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l3ac_tokenizer import download, evaluate
from l3ac_tokenizer.evaluation.report.paper_figures import L3AC_FIGURE_1, SQCODEC_TABLE_1, TAAE_MAIN
from l3ac_tokenizer.published import PUBLISHED

MEASURED = ("stoi", "pesq_wb", "wer", "dwer")

PAPER = {
    **{
        f"l3ac-{name}": f"{result.stoi:.2f} / {result.pesq_wb:.2f}"
        for name, kbps in (("0k75", 0.75), ("1k", 1.0), ("1k5", 1.5), ("3k", 3.0))
        for result in L3AC_FIGURE_1
        if (result.codec, result.kbps) == ("L3AC", kbps)
    },
    **{
        preset: "{stoi:.2f} / {pesq:.2f}".format(**figures)
        for preset, figures in {**SQCODEC_TABLE_1, "taae-950m": TAAE_MAIN["TAAE 400 bit/s"]}.items()
    },
}
"""Preset → STOI / PESQ in the paper."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Download, measure, and print a table in Markdown; 1 if a preset is missing from it."""
    parser = argparse.ArgumentParser(description="Check the published weights of every preset.")
    parser.add_argument("audio", type=Path)
    parser.add_argument("--presets", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED), metavar="PRESET")
    parser.add_argument("--asr", default="faster-whisper", help="recognizer, or none (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="number of clips (default: all)")
    parser.add_argument("--any-sound", action="store_true", help="measure weights that decode speech to other sounds")
    options = parser.parse_args(arguments)

    folders: dict[str, Path] = {}
    failures: dict[str, str] = {}
    for preset in options.presets:
        print(f"{preset} …", file=sys.stderr)
        try:
            folders[preset] = download(preset, any_sound=options.any_sound)
        except (ValueError, OSError) as error:
            failures[preset] = str(error)
    if folders:
        asr: dict[str, Any] = {} if options.asr == "none" else {"asr": options.asr}
        result = evaluate(list(folders.values()), str(options.audio), limit=options.limit, consistency=False, **asr)
        print(table(list(folders), result.summary))
    for preset, reason in failures.items():
        print(f"\n{preset}: {reason}")
    return 1 if failures else 0


def table(presets: Sequence[str], summary: Mapping[str, Any]) -> str:
    """Means of each preset over all clips, beside the paper's STOI and PESQ, as a Markdown table."""
    lines = [
        f"| preset | clips | {' | '.join(MEASURED)} | paper: STOI / PESQ |",
        f"|---|{'---:|' * (len(MEASURED) + 2)}",
    ]
    for preset, codec in zip(presets, summary["codecs"], strict=True):
        for dataset in codec.get("datasets", {}).values():
            values = [dataset["values"].get(metric, {}).get("mean") for metric in MEASURED]
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| {preset} | {dataset['clips']} | {' | '.join(cells)} | {PAPER.get(preset, '-')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
