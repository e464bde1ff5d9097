"""What codecs cost: multiply–accumulates, time beside real time, memory, and how these grow with length.

The L3AC paper prints 2.03 G MAC for 10 s of l3ac-1k: its counter skips layers whose weights are parametrised (weight
norm), which is most of the network. torch's own counter, with formulas for the operations that it does not know, finds
all products: about 44 G, and that figure is used everywhere here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from . import memory
from .codecs.base import Codec, CodecUnavailable
from .codecs.registry import open_codec
from .report.tables import table
from .timing import Timing, flops, growth_exponent, median, timed

MAC_SECONDS = 10.0
"""Length that multiply–accumulates are counted on, the papers' own."""
DURATIONS = (5.0, 30.0, 60.0)
BATCHES = (1, 4)
ROUNDS = 3

OPEN = "l3ac_tokenizer.evaluation.codecs.registry:open_codec"


def count_macs(codec: Codec) -> dict[str, float] | None:
    """G MAC of encoding and of decoding 10 s, of the matrix products and convolutions; None for what is no network."""
    if codec.parameters is None:
        return None
    encode, decode = codec.passes(MAC_SECONDS, 1)
    with torch.no_grad():
        code = encode()
    return {"encode": flops(encode) / 2e9, "decode": flops(lambda: decode(code)) / 2e9}


def measure_cost(
    names: Sequence[str],
    threads: int = 1,
    durations: Sequence[float] = DURATIONS,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Cost of every codec that can be had, on noise and on the CPU, as JSON values.

    Peak memory is that of one pass in a process of its own (Linux); what went through there is then timed in this
    process, codec after codec, round by round, so that a machine that slows down slows down all. Medians are told.

    Returns:
        `threads`, `rounds`, and `rows`: of each codec, length and batch its `failure` or `standing_mib`, `encode_mib`,
        `decode_mib`, and the real-time factors `encode` and `decode` (seconds of work a second of audio).
    """
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    for name, seconds, batch in tqdm(
        list(itertools.product(names, durations, batches)), desc="peak memory", unit="pass", disable=None
    ):
        done = memory.measure(OPEN, [name], seconds, batch, threads)
        rows.append({"codec": name, "seconds": seconds, "batch": batch, **vars(done)})
    codecs = _opened(names)
    with torch.inference_mode():
        for seconds, batch in tqdm(list(itertools.product(durations, batches)), desc="timing", disable=None):
            alive = [row for row in rows if (row["seconds"], row["batch"]) == (seconds, batch) and not row["failure"]]
            _add_times([row for row in alive if row["codec"] in codecs], codecs, rounds)
    return {"threads": threads, "rounds": rounds, "rows": rows}


def cost_table(cost: Mapping[str, Any]) -> str:
    """The rows as Markdown, with how time and memory grow."""
    head = ["", "s", "batch", "RTF encode", "RTF decode", "standing MiB", "+ encode MiB", "+ decode MiB"]
    lines = [head]
    for row in cost["rows"]:
        cells = [row["codec"], f"{row['seconds']:g}", str(row["batch"])]
        if row["failure"]:
            lines.append([*cells, row["failure"], *["–"] * 4])
            continue
        cells += [f"{row[name]:.3f}" for name in ("encode", "decode")]
        lines.append([*cells, *(f"{row[name]:,.0f}" for name in ("standing_mib", "encode_mib", "decode_mib"))])
    grows = [["", "time of encoding", "of decoding", "memory of decoding"]]
    for name in dict.fromkeys(row["codec"] for row in cost["rows"]):
        done = [row for row in cost["rows"] if (row["codec"], row["batch"]) == (name, 1) and not row["failure"]]
        lengths = [row["seconds"] for row in done]
        costs = [[row["encode"] * row["seconds"] for row in done], [row["decode"] * row["seconds"] for row in done]]
        exponents = [growth_exponent(lengths, values) for values in (*costs, [row["decode_mib"] for row in done])]
        grows.append([name, *("–" if exponent is None else f"{exponent:.2f}" for exponent in exponents)])
    threads = f"{cost['threads']} thread{'s' if cost['threads'] > 1 else ''}"
    return (
        f"Real-time factors (seconds of work a second of audio) are medians of {cost['rounds']} interleaved rounds on "
        f"{threads}; memory is one pass in a process of its own, beyond what stood there before.\n\n{table(lines)}\n\n"
        f"Growth: x of cost ∝ length^x, batch 1.\n\n{table(grows)}"
    )


def _opened(names: Sequence[str]) -> dict[str, Codec]:
    codecs = {}
    for name in names:
        try:
            codecs[name] = open_codec(name)
        except CodecUnavailable:  # the process of its own has said why
            continue
    return codecs


def _add_times(rows: Sequence[dict[str, Any]], codecs: Mapping[str, Codec], rounds: int) -> None:
    """Put `encode` and `decode` into rows of one length and batch."""
    calls = [codecs[row["codec"]].passes(row["seconds"], row["batch"]) for row in rows]
    times: list[tuple[list[Timing], list[Timing]]] = [([], []) for _ in rows]
    for _ in range(rounds):
        for (encode, decode), (encoding, decoding) in zip(calls, times, strict=True):
            code, spent = timed(encode)
            encoding.append(spent)
            decoding.append(timed(lambda decode=decode, code=code: decode(code))[1])  # type: ignore[misc]
    for row, (encoding, decoding) in zip(rows, times, strict=True):
        audio = row["seconds"] * row["batch"]
        row["encode"], row["decode"] = median(encoding).wall / audio, median(decoding).wall / audio
