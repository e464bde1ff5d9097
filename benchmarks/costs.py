"""Cost of tokenizing corpora of 1,000 to 1,000,000 hours, from the figures of `benchmarks.tokenization`.

    python -m benchmarks.costs [--figures FILE] [--corpus "MP3, 44.1 kHz"] [--recording-seconds 3600] > page.md

Figures of your own machine come from `python -m benchmarks.tokenization FOLDER -o FILE`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.report import machine_line
from benchmarks.tokenization import FIGURES, PRESETS
from l3ac_tokenizer import preset_config
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.tokenization.spec import SHARD_BYTES, SHARD_ROWS

HOURS = (1_000, 10_000, 1_000_000)
PART_BYTES = 1 << 26


def needs(figures: dict[str, Any], preset: str, hours: float, options: argparse.Namespace) -> dict[str, float]:
    """Core-hours, bytes, requests and rows of tokenizing `hours` of audio."""
    cpu = {name: each["cpu"] / figures["audio_seconds"] for name, each in figures["seconds"].items()}
    config = preset_config(preset)
    ids = hours * 3600 * config.sampling_rate / config.hop_length
    read = hours * 3600 * figures["bytes"][options.corpus] / figures["audio_seconds"]
    written = ids * options.bytes_per_id
    recordings = hours * 3600 / options.recording_seconds
    shards = math.ceil(max(recordings / SHARD_ROWS, read / SHARD_BYTES))
    segments = hours * 3600 / min(options.segment_seconds, options.recording_seconds)
    return {
        "core_hours": hours * (cpu[f"{options.corpus}: decoding"] + cpu[f"{preset}: alone"]),
        "read": read,
        "written": written,
        "reads": recordings * max(1, math.ceil(read / recordings / PART_BYTES)),
        "writes": 2 * shards,
        "rows": segments,
    }


def markdown(figures: dict[str, Any], options: argparse.Namespace) -> str:
    """The page."""
    lines = [
        "# What a corpus costs",
        "",
        "Made by `python -m benchmarks.costs`, from the figures of `python -m benchmarks.tokenization` in "
        f"`{options.figures.name}`; run both to have your own.",
        "",
        "| assumed | |",
        "|---|---|",
        f"| machine | {machine_line(figures['machine'])} |",
        f"| audio | {options.corpus}, {figures['bytes'][options.corpus] / figures['audio_seconds'] / 1000:.1f} kB a "
        f"second, as measured; recordings of {options.recording_seconds:g} s |",
        f"| rows | `--segment-seconds {options.segment_seconds:g}` |",
        f"| written | {options.bytes_per_id:g} bytes an id, as measured on ten hours in one shard; small shards and "
        "short clips take up to 4 |",
        "| core-hours | decoding alone and the network alone, as measured, one after the other; no core waits for the "
        "storage |",
        f"| requests | a recording is read by one request up to {PART_BYTES >> 20} MiB and by one for each "
        f"{PART_BYTES >> 20} MiB above; a shard of at most {SHARD_ROWS} recordings or {SHARD_BYTES >> 30} GiB of audio "
        "is written by one, and its line of the record by another |",
        f"| price | {options.core_price:g} $ a core-hour; transfer, requests and storage are not in it |",
    ]
    for hours in HOURS:
        rows = [["preset", "core-hours", f"hours on {options.cores} cores", "$", "GB in", "GB out"]]
        for preset in PRESETS:
            each = needs(figures, preset, hours, options)
            rows.append(
                [
                    preset,
                    f"{each['core_hours']:,.0f}",
                    f"{each['core_hours'] / options.cores:,.1f}",
                    f"{each['core_hours'] * options.core_price:,.0f}",
                    f"{each['read'] / 1e9:,.0f}",
                    f"{each['written'] / 1e9:,.1f}",
                ]
            )
        lines += [
            "",
            f"## {hours:,} hours",
            "",
            f"{each['rows']:,.0f} rows, {each['reads']:,.0f} requests to read and {each['writes']:,.0f} to write.",
            "",
            table(rows),
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=FIGURES, help="JSON of `benchmarks.tokenization`")
    parser.add_argument("--corpus", default="MP3, 44.1 kHz", help="format, by its name in the figures")
    parser.add_argument("--recording-seconds", type=float, default=3600.0)
    parser.add_argument("--segment-seconds", type=float, default=30.0)
    parser.add_argument("--bytes-per-id", type=float, default=2.25, help="in the shards (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--core-price", type=float, default=0.04, help="$ a core-hour (default: %(default)s)")
    options = parser.parse_args()
    figures = json.loads(options.figures.read_text())
    if options.corpus not in figures["bytes"]:
        parser.error(f"--corpus is {options.corpus!r}; it must be one of {', '.join(figures['bytes'])}.")
    print(markdown(figures, options))


if __name__ == "__main__":
    main()
