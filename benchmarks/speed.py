"""How long encoding and decoding take, and how much memory, beside other codecs on the same machine.

    python -m benchmarks.speed                                            # all of it: hours
    python -m benchmarks.speed --durations 1 10 --batches 1 --rounds 2    # its tables only, the page's others stay

First, one pass of each codec at each length and batch runs in a process of its own, which measures peak memory and
finds out what runs out of memory or takes too long. What went through is then timed in one process, codec after codec,
round by round, so that a machine that slows down slows down all; medians are reported. A table is made in one run;
tables of other lengths and batches stay on the page if they were made on the same machine.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers.utils import logging

from benchmarks.codecs import BUILD, CODECS, Codec, build
from benchmarks.report import add_output, machine, machine_line, record, recorded, table
from benchmarks.timing import gemm_peaks, profiled, seconds_in_products
from l3ac_tokenizer.evaluation import memory
from l3ac_tokenizer.evaluation.timing import Timing, flops, growth_exponent, median, timed

BUDGET_S = 150.0
"""A codec is timed in fewer rounds, but once at least, where they would take longer than this at one length."""

WARM_UP_S = 10.0
"""Longest clip that is run once before the clock starts, and that products are counted on."""

OPERATIONS = 8
"""The most expensive ones of each codec that the page shows."""

Row = dict[str, Any]


def measure(
    names: list[str], durations: list[float], batches: list[int], threads: int, rounds: int, scratch: Path
) -> dict[str, Any]:
    """Everything that the page shows, as JSON values."""
    torch.set_num_threads(threads)
    if "ours-onnx" in names:
        build("ours-onnx", scratch)  # exports, for the processes that follow to load
    combinations = list(itertools.product(sorted(durations), sorted(batches)))
    rows: list[Row] = []
    for (seconds, batch), name in tqdm(
        list(itertools.product(combinations, names)), desc="peak memory, a process each", unit="pass"
    ):
        done = failed_before(rows, name, seconds, batch) or memory.measure(
            BUILD, [name, str(scratch)], seconds, batch, threads
        )
        rows.append({"codec": name, "seconds": seconds, "batch": batch, **vars(done)})
    peaks = gemm_peaks()
    longest = {row["codec"]: row["seconds"] for row in rows if row["failure"] is None}
    codecs = {name: build(name, scratch) for name in tqdm(longest, desc="building", unit="codec")}
    length = min(WARM_UP_S, max(durations))
    with torch.inference_mode():
        for seconds, batch in tqdm(combinations, desc="timing", unit="length"):
            add_times([row for row in rows if (row["seconds"], row["batch"]) == (seconds, batch)], codecs, rounds)
        products = [
            products_of(name, codec, length)
            for name, codec in codecs.items()
            if codec.in_torch and longest[name] >= length
        ]
    return {
        "machine": machine(threads),
        "time_limit_s": memory.TIME_LIMIT_S,
        "rows": rows,
        "growth": growth(rows, names),
        "gemm_gflops": peaks,
        "products_seconds": length,
        "products": products,
    }


def merged(result: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """The result, and those lengths and batches of the one before it that it has not, if of the same machine."""
    if before is None or before["machine"] != result["machine"]:
        return result
    new = {(row["seconds"], row["batch"]) for row in result["rows"]}
    rows = result["rows"] + [row for row in before["rows"] if (row["seconds"], row["batch"]) not in new]
    rows.sort(key=lambda row: (row["seconds"], row["batch"]))
    return {**result, "rows": rows, "growth": growth(rows, list(dict.fromkeys(row["codec"] for row in rows)))}


def failed_before(rows: list[Row], name: str, seconds: float, batch: int) -> memory.Pass | None:
    """What a codec that could not do less can be said not to do; None if it did all that was tried."""
    for row in rows:
        if row["codec"] == name and row["failure"] and row["seconds"] <= seconds and row["batch"] <= batch:
            return memory.Pass(failure=f"{row['failure']} already at {row['seconds']:g} s, batch {row['batch']}")
    return None


def add_times(rows: list[Row], codecs: dict[str, Codec], rounds: int) -> None:
    """Time the codecs of rows of one length and batch, those that went through, and put the medians in the rows."""
    rows = [row for row in rows if row["failure"] is None]
    timings: dict[str, list[tuple[Timing, Timing]]] = {row["codec"]: [] for row in rows}
    for row in rows:
        row["rounds"] = max(1, min(rounds, int(BUDGET_S / row["pass_s"])))
        one_pass(codecs[row["codec"]], min(row["seconds"], WARM_UP_S), row["batch"])
    for turn in range(rounds):
        for row in rows:
            if turn < row["rounds"]:
                timings[row["codec"]].append(one_pass(codecs[row["codec"]], row["seconds"], row["batch"]))
    for row in rows:
        for direction, of_direction in zip(("encode", "decode"), zip(*timings[row["codec"]], strict=True), strict=True):
            row[f"{direction}_s"], row[f"{direction}_cpu_s"] = vars(median(of_direction)).values()


def one_pass(codec: Codec, seconds: float, batch: int) -> tuple[Timing, Timing]:
    """Time of encoding and of decoding."""
    inputs = codec.inputs(seconds, batch)
    codes, encoding = timed(lambda: codec.encode(*inputs))
    _, decoding = timed(lambda: codec.decode(codes))
    return encoding, decoding


def growth(rows: list[Row], names: list[str]) -> list[Row]:
    """Exponents by which a codec's time and memory grow with the length, at the smallest batch, from 10 s on."""
    smallest = min(row["batch"] for row in rows)
    fitted = []
    for name in names:
        own = [
            row
            for row in rows
            if row["codec"] == name and row["batch"] == smallest and row["seconds"] >= 10 and row["failure"] is None
        ]
        lengths = [row["seconds"] for row in own]
        costs = ("encode_s", "decode_s", "encode_mib", "decode_mib")
        fitted.append(
            {"codec": name, "lengths": lengths}
            | {cost: growth_exponent(lengths, [row[cost] for row in own]) if own else None for cost in costs}
        )
    return fitted


def products_of(name: str, codec: Codec, seconds: float) -> Row:
    """Operations of a codec's matrix products at batch 1, and the share of its time that they take."""
    inputs = codec.inputs(seconds, 1)
    codes = codec.encode(*inputs)
    row: Row = {"codec": name}
    for direction, call in (("encode", lambda: codec.encode(*inputs)), ("decode", lambda: codec.decode(codes))):
        row[f"{direction}_gflop"] = flops(call) * 1e-9
        row[f"{direction}_s"] = timed(call)[1].wall
        operations, row[f"{direction}_profiled_s"] = profiled(call)
        row[f"{direction}_products_s"] = seconds_in_products(operations)
        row[f"{direction}_operations_s"] = dict(itertools.islice(operations.items(), OPERATIONS))
    return row


def markdown(result: dict[str, Any]) -> str:
    """The result as sections of a page."""
    rows = result["rows"]
    lengths = sorted({(row["seconds"], row["batch"]) for row in rows})
    parts = [
        "## Codecs beside each other\n",
        f"Made by `python -m benchmarks.speed` on {machine_line(result['machine'])}\n",
        "Real-time factor (RTF): seconds of computing for a second of audio, of all clips of a batch together; CPU: "
        "the same in seconds of all threads. × columns: time of encoding plus decoding as a multiple of ours and of "
        "the published code's. Memory: peak above what stood there before (libraries, weights, input), in MiB. Every "
        "codec gets noise of its own sampling rate; all but ours have random weights. X-Codec2 and NeuCodec get their "
        "mel features for nothing. A row without times says why.\n",
    ]
    for seconds, batch in lengths:
        of_length = [row for row in rows if (row["seconds"], row["batch"]) == (seconds, batch)]
        parts += [f"### {seconds:g} s, batch {batch}\n", table(_timing_rows(of_length)) + "\n"]
    parts += [
        "### Growth with length\n",
        "Exponents x of cost ∝ length^x, fitted from 10 s on at the smallest batch; 1 is linear. Memory is that above "
        "what stood there before.\n",
        table(_growth_rows(result["growth"])) + "\n",
        "### Matrix products\n",
        f"At {result['products_seconds']:g} s and batch 1. Peak of this machine in the same run: "
        + ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in result["gemm_gflops"].items())
        + ". Share of the peak: of the best float32 figure; first over all time, then over the time that a profile "
        "gives to products and convolutions.\n",
        table(_product_rows(result)) + "\n",
        "### Profile\n",
        "What the same calls spend most time on: operations of torch and their share of the time of the call, under "
        "the profiler.\n",
        table(_profile_rows(result)) + "\n",
    ]
    return "\n".join(parts)


def _timing_rows(rows: list[Row]) -> list[list[str]]:
    done = {row["codec"]: row["encode_s"] + row["decode_s"] for row in rows if row["failure"] is None}

    def ratio(name: str, to: str) -> str:
        return f"{done[name] / done[to]:.2f}" if to in done else "–"

    head = ["", "encode RTF", "decode RTF", "CPU, both", "× ours", "× published", "encode MiB", "decode MiB", "rounds"]
    cells = [head]
    for row in rows:
        name = row["codec"]
        if row["failure"] is not None:
            cells.append([CODECS[name][0], row["failure"], *["–"] * (len(head) - 2)])
            continue
        audio = row["seconds"] * row["batch"]
        cells.append(
            [
                CODECS[name][0],
                f"{row['encode_s'] / audio:.4f}",
                f"{row['decode_s'] / audio:.4f}",
                f"{(row['encode_cpu_s'] + row['decode_cpu_s']) / audio:.4f}",
                ratio(name, "ours"),
                ratio(name, "published"),
                f"{row['encode_mib']:.0f}",
                f"{row['decode_mib']:.0f}",
                str(row["rounds"]),
            ]
        )
    return cells


def _growth_rows(fitted: list[Row]) -> list[list[str]]:
    costs = {
        "encode_s": "encode time",
        "decode_s": "decode time",
        "encode_mib": "encode MiB",
        "decode_mib": "decode MiB",
    }
    cells = [["", *costs.values(), "lengths, s"]]
    for row in fitted:
        exponents = ["–" if row[cost] is None else f"{row[cost]:.2f}" for cost in costs]
        cells.append([CODECS[row["codec"]][0], *exponents, ", ".join(f"{length:g}" for length in row["lengths"])])
    return cells


def _product_rows(result: dict[str, Any]) -> list[list[str]]:
    peak = max(speed for name, speed in result["gemm_gflops"].items() if name.startswith("float32"))
    cells = [["", "GFLOP", "time in products", "share of peak", "share of peak in products"]]
    for row, direction in itertools.product(result["products"], ("encode", "decode")):
        gflop, seconds, inside, profiled = (
            row[f"{direction}_{key}"] for key in ("gflop", "s", "products_s", "profiled_s")
        )
        cells.append(
            [
                f"{CODECS[row['codec']][0]}, {direction}",
                f"{gflop:.1f}",
                f"{inside / profiled:.0%}",
                f"{gflop / seconds / peak:.0%}",
                f"{gflop / inside / peak:.0%}" if inside else "–",
            ]
        )
    return cells


def _profile_rows(result: dict[str, Any]) -> list[list[str]]:
    cells = [["", "operations"]]
    for row, direction in itertools.product(result["products"], ("encode", "decode")):
        shares = (
            f"{name.removeprefix('aten::')} {seconds / row[f'{direction}_profiled_s']:.0%}"
            for name, seconds in row[f"{direction}_operations_s"].items()
        )
        cells.append([f"{CODECS[row['codec']][0]}, {direction}", ", ".join(shares)])
    return cells


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--durations", nargs="+", type=float, default=[1, 10, 60, 600], metavar="S")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="B")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    add_output(parser)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{options.threads} threads; the page goes to {options.output}")
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(
            options.codecs, options.durations, options.batches, options.threads, options.rounds, Path(scratch)
        )
    result = merged(result, recorded("speed", options.output))
    record("speed", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
