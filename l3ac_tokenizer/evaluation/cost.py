"""Computational cost of codecs: multiply–accumulates, real-time factors and memory.

The L3AC paper states 2.03 G MAC for 10 s with l3ac-1k: its counter skips layers with parametrized weights (weight
norm), which is most of the network. torch's own counter, with formulas for the operations that it does not know, finds
all products: about 44 G. That count is used throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from ..names import without_folders
from . import memory
from .codecs.base import Codec, CodecUnavailable, codec_title
from .codecs.registry import open_codec
from .standard import STANDARD_SECONDS
from .timing import Timing, flops, median, timed

MAC_SECONDS = 10.0
"""Length of audio for which multiply–accumulates are counted, as in the papers."""

DURATIONS = (5.0, 30.0, 60.0)
BATCHES = (1, 4)
ROUNDS = 3

OPEN = "l3ac_tokenizer.evaluation.codecs.registry:open_codec"


def count_macs(codec: Codec) -> dict[str, float] | None:
    """G MAC of the products and convolutions to `encode` and `decode` 10 s; None if it is not a torch model."""
    if codec.parameters is None:
        return None
    encode, decode = codec.passes(MAC_SECONDS, 1)
    with torch.no_grad():
        encoded = encode()
    return {"encode": flops(encode) / 2e9, "decode": flops(lambda: decode(encoded)) / 2e9}


def measure_cost(
    names: Sequence[str],
    threads: int = 1,
    durations: Sequence[float] = DURATIONS,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Cost of every available codec on noise, on the CPU, as JSON values.

    Peak memory is that of one pass in a separate process (Linux). Passes that succeed there are then timed in this
    process, interleaved round by round so that a slowdown of the machine affects all codecs alike; times are medians.

    Returns:
        `threads`, `rounds`, and `rows`: for each codec, length and batch its `failure`, or `standing_mib`,
        `encode_mib`, `decode_mib` and the real-time factors `encode` and `decode` (seconds of computation per second
        of audio).
    """
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    for name, seconds, batch in tqdm(
        list(itertools.product(names, durations, batches)), desc="peak memory", unit="pass", disable=None
    ):
        done = memory.measure_pass(OPEN, [name], seconds, batch, threads)
        failure = done.failure and without_folders(done.failure)
        rows.append({"codec": name, "seconds": seconds, "batch": batch, **vars(done), "failure": failure})
    codecs = _opened(names)
    with torch.inference_mode():
        for seconds, batch in tqdm(list(itertools.product(durations, batches)), desc="timing", disable=None):
            alive = [row for row in rows if (row["seconds"], row["batch"]) == (seconds, batch) and not row["failure"]]
            _add_times([row for row in alive if row["codec"] in codecs], codecs, rounds)
    titled = [{**row, "codec": codec_title(row["codec"])} for row in rows]
    return {"threads": threads, "rounds": rounds, "rows": titled}


def measure_speed(
    names: Sequence[str], threads: int = 1, seconds: float = STANDARD_SECONDS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Real-time factors of every available codec for one clip of noise, on the CPU, timed as in `measure_cost`.

    Returns:
        `threads`, `seconds`, `rounds`, and `rows`: `codec`, and the real-time factors `encode` and `decode`.
    """
    torch.set_num_threads(threads)
    codecs = _opened(names)
    rows: list[dict[str, Any]] = [{"codec": name, "seconds": seconds, "batch": 1} for name in codecs]
    with torch.inference_mode():
        _add_times(rows, codecs, rounds)
    timed_rows = [
        {"codec": codec_title(row["codec"]), "encode": row["encode"], "decode": row["decode"]} for row in rows
    ]
    return {"threads": threads, "seconds": seconds, "rounds": rounds, "rows": timed_rows}


def _opened(names: Sequence[str]) -> dict[str, Codec]:
    codecs = {}
    for name in names:
        try:
            codecs[name] = open_codec(name)
        except CodecUnavailable:  # the separate process has reported the reason
            continue
    return codecs


def _add_times(rows: Sequence[dict[str, Any]], codecs: Mapping[str, Codec], rounds: int) -> None:
    """Add `encode` and `decode` to rows of one length and batch."""
    calls = [codecs[row["codec"]].passes(row["seconds"], row["batch"]) for row in rows]
    times: list[tuple[list[Timing], list[Timing]]] = [([], []) for _ in rows]
    for _ in range(rounds):
        for (encode, decode), (encoding, decoding) in zip(calls, times, strict=True):
            encoded, spent = timed(encode)
            encoding.append(spent)
            decoding.append(timed(lambda decode=decode, encoded=encoded: decode(encoded))[1])  # type: ignore[misc]
    for row, (encoding, decoding) in zip(rows, times, strict=True):
        audio = row["seconds"] * row["batch"]
        row["encode"], row["decode"] = median(encoding).wall / audio, median(decoding).wall / audio
