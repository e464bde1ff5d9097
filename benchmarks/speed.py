"""Speed and memory of encoding and decoding, beside other codecs on the same machine.

    python -m benchmarks.speed                                            # everything: hours
    python -m benchmarks.speed --durations 1 10 --batches 1 --rounds 2    # only these tables; others on the page stay

First, one pass of each codec at each length and batch runs in a separate process, which measures peak memory and finds
the passes that run out of memory or time. The others are then timed in one process, interleaved round by round so that
a slowdown of the machine affects all codecs alike; medians are reported. Each table comes from one run; tables of other
lengths and batches stay on the page if they come from the same machine.
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

from benchmarks.codecs import BENCHMARK_CODECS, BUILD, build
from benchmarks.report import add_output, machine, machine_line, record, recorded
from benchmarks.timing import gemm_peaks, profiled, seconds_in_products
from l3ac_tokenizer.evaluation import memory
from l3ac_tokenizer.evaluation.codecs.base import Codec
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import Timing, flops, growth_exponent, median, timed

BUDGET_S = 150.0
"""Time limit for all rounds of a codec at one length; slower codecs are timed in fewer rounds, at least one."""

WARM_UP_S = 10.0
"""Maximum length in seconds of the warm-up clip, and of the clip for the count of products."""

OPERATIONS = 8
"""Number of the most expensive operations that the page shows for each codec."""

SpeedRow = dict[str, Any]


def measure(
    names: list[str], durations: list[float], batches: list[int], threads: int, rounds: int, scratch: Path
) -> dict[str, Any]:
    """All values of the page, as JSON values."""
    torch.set_num_threads(threads)
    if "ours-onnx" in names:
        build("ours-onnx", scratch)  # exports the graphs that the separate processes load
    combinations = list(itertools.product(sorted(durations), sorted(batches)))
    rows: list[SpeedRow] = []
    for (seconds, batch), name in tqdm(list(itertools.product(combinations, names)), desc="peak memory", unit="pass"):
        done = failed_before(rows, name, seconds, batch) or memory.measure_pass(
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
            if codec.parameters is not None and longest[name] >= length
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
    """The result with the missing lengths and batches of the previous one, if that comes from the same machine."""
    if before is None or before["machine"] != result["machine"]:
        return result
    new = {(row["seconds"], row["batch"]) for row in result["rows"]}
    rows = result["rows"] + [row for row in before["rows"] if (row["seconds"], row["batch"]) not in new]
    rows.sort(key=lambda row: (row["seconds"], row["batch"]))
    return {**result, "rows": rows, "growth": growth(rows, list(dict.fromkeys(row["codec"] for row in rows)))}


def failed_before(rows: list[SpeedRow], name: str, seconds: float, batch: int) -> memory.MeasuredPass | None:
    """Failure of a codec that failed on a shorter or smaller batch already; None if it did not."""
    for row in rows:
        if row["codec"] == name and row["failure"] and row["seconds"] <= seconds and row["batch"] <= batch:
            return memory.MeasuredPass(
                failure=f"{row['failure']} already at {row['seconds']:g} s, batch {row['batch']}"
            )
    return None


def add_times(rows: list[SpeedRow], codecs: dict[str, Codec], rounds: int) -> None:
    """Time the successful codecs of rows of one length and batch, and add the medians to the rows."""
    rows = [row for row in rows if row["failure"] is None]
    timings: dict[str, list[tuple[Timing, Timing]]] = {row["codec"]: [] for row in rows}
    for row in rows:
        row["rounds"] = max(1, min(rounds, int(BUDGET_S / row["pass_s"])))
        timed_pass(codecs[row["codec"]], min(row["seconds"], WARM_UP_S), row["batch"])
    for turn in range(rounds):
        for row in rows:
            if turn < row["rounds"]:
                timings[row["codec"]].append(timed_pass(codecs[row["codec"]], row["seconds"], row["batch"]))
    for row in rows:
        for direction, of_direction in zip(("encode", "decode"), zip(*timings[row["codec"]], strict=True), strict=True):
            row[f"{direction}_s"], row[f"{direction}_cpu_s"] = vars(median(of_direction)).values()


def timed_pass(codec: Codec, seconds: float, batch: int) -> tuple[Timing, Timing]:
    """Times of encoding and of decoding."""
    encode, decode = codec.passes(seconds, batch)
    encoded, encoding = timed(encode)
    _, decoding = timed(lambda: decode(encoded))
    return encoding, decoding


def growth(rows: list[SpeedRow], names: list[str]) -> list[SpeedRow]:
    """Exponents of the growth of time and memory with length, at the smallest batch, from 10 s on."""
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


def products_of(name: str, codec: Codec, seconds: float) -> SpeedRow:
    """Operations of a codec's matrix products at batch 1, and their share of its time."""
    encode, decode = codec.passes(seconds, 1)
    encoded = encode()
    row: SpeedRow = {"codec": name}
    for direction, call in (("encode", encode), ("decode", lambda: decode(encoded))):
        row[f"{direction}_gflop"] = flops(call) * 1e-9
        row[f"{direction}_s"] = timed(call)[1].wall
        operations, row[f"{direction}_profiled_s"] = profiled(call)
        row[f"{direction}_products_s"] = seconds_in_products(operations)
        row[f"{direction}_operations_s"] = dict(itertools.islice(operations.items(), OPERATIONS))
    return row


def markdown(result: dict[str, Any]) -> str:
    """The sections of the page."""
    rows = result["rows"]
    lengths = sorted({(row["seconds"], row["batch"]) for row in rows})
    parts = [
        "## Comparison of codecs\n",
        f"Made by `python -m benchmarks.speed` on {machine_line(result['machine'])}\n",
        "Real-time factor (RTF): seconds of computation per second of audio, over all clips of a batch; CPU: the same "
        "in processor seconds of all threads. × columns: time of encoding plus decoding relative to ours and to the "
        "published code. Memory: peak above what was resident before (libraries, weights, input), in MiB. Every codec "
        "gets noise at its own sampling rate; all but ours have random weights. Feature extraction, such as the mel "
        "features of X-Codec2 and NeuCodec, is not timed. A row without times gives the reason.\n",
    ]
    for seconds, batch in lengths:
        of_length = [row for row in rows if (row["seconds"], row["batch"]) == (seconds, batch)]
        parts += [f"### {seconds:g} s, batch {batch}\n", table(_timing_rows(of_length)) + "\n"]
    parts += [
        "### Growth with length\n",
        "Exponents x of cost ∝ length^x, fitted from 10 s on at the smallest batch; 1 is linear. Memory is beyond what "
        "was resident before.\n",
        table(_growth_rows(result["growth"])) + "\n",
        "### Matrix products\n",
        f"At {result['products_seconds']:g} s and batch 1. Peak of this machine in the same run: "
        + ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in result["gemm_gflops"].items())
        + ". RTF at peak is that of products alone at the best float32 peak: no implementation in float32 takes less. "
        "Shares are of that peak, first over all time, then over the time that a profile attributes to products and "
        "convolutions.\n",
        table(_product_rows(result)) + "\n",
        "### Profile\n",
        "The most expensive torch operations of the same calls, as shares of the time under the profiler.\n",
        table(_profile_rows(result)) + "\n",
    ]
    return "\n".join(parts)


def _timing_rows(rows: list[SpeedRow]) -> list[list[str]]:
    done = {row["codec"]: row["encode_s"] + row["decode_s"] for row in rows if row["failure"] is None}

    def ratio(name: str, to: str) -> str:
        return f"{done[name] / done[to]:.2f}" if to in done else "–"

    head = ["", "encode RTF", "decode RTF", "CPU, both", "× ours", "× published", "encode MiB", "decode MiB", "rounds"]
    cells = [head]
    for row in rows:
        name = row["codec"]
        if row["failure"] is not None:
            cells.append([BENCHMARK_CODECS[name][0], row["failure"], *["–"] * (len(head) - 2)])
            continue
        audio = row["seconds"] * row["batch"]
        cells.append(
            [
                BENCHMARK_CODECS[name][0],
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


def _growth_rows(fitted: list[SpeedRow]) -> list[list[str]]:
    costs = {
        "encode_s": "encode time",
        "decode_s": "decode time",
        "encode_mib": "encode MiB",
        "decode_mib": "decode MiB",
    }
    cells = [["", *costs.values(), "lengths, s"]]
    for row in fitted:
        exponents = ["–" if row[cost] is None else f"{row[cost]:.2f}" for cost in costs]
        cells.append(
            [BENCHMARK_CODECS[row["codec"]][0], *exponents, ", ".join(f"{length:g}" for length in row["lengths"])]
        )
    return cells


def _product_rows(result: dict[str, Any]) -> list[list[str]]:
    peak = max(speed for name, speed in result["gemm_gflops"].items() if name.startswith("float32"))
    cells = [["", "GFLOP", "RTF", "RTF at peak", "time in products", "share of peak", "share of peak in products"]]
    for row, direction in itertools.product(result["products"], ("encode", "decode")):
        gflop, seconds, inside, profiled = (
            row[f"{direction}_{key}"] for key in ("gflop", "s", "products_s", "profiled_s")
        )
        cells.append(
            [
                f"{BENCHMARK_CODECS[row['codec']][0]}, {direction}",
                f"{gflop:.1f}",
                f"{seconds / result['products_seconds']:.4f}",
                f"{gflop / peak / result['products_seconds']:.4f}",
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
        cells.append([f"{BENCHMARK_CODECS[row['codec']][0]}, {direction}", ", ".join(shares)])
    return cells


def main() -> None:
    """Parse the arguments, measure, and write the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--durations", nargs="+", type=float, default=[1, 10, 60, 600], metavar="S", help="clip lengths in seconds"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="B", help="batch sizes")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)d)")
    parser.add_argument("--rounds", type=int, default=5, help="maximum number of rounds (default: %(default)d)")
    parser.add_argument("--codecs", nargs="+", choices=BENCHMARK_CODECS, default=list(BENCHMARK_CODECS))
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
