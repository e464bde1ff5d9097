"""Cost of exact streaming: real-time factor, and how long one push takes.

    python -m benchmarks.streaming
    python -m benchmarks.streaming --seconds 5 -o /tmp/speed.md

Noise is encoded in pushes of each size, and its ids are decoded in pushes of the ids that have come in that time. The
first second of each stream is not counted.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.codecs import PRESET
from benchmarks.report import add_output, machine, machine_line, record, table
from l3ac_tokenizer import L3ACModel, StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.evaluation.timing import timed

PUSHES_MS = (20, 40, 80)


def measure(model: L3ACModel, seconds: float, threads: int) -> dict[str, Any]:
    """Everything that the section shows, as JSON values."""
    torch.set_num_threads(threads)
    rate = model.config.sampling_rate
    audio = 0.1 * torch.randn(1, round((seconds + 1) * rate), generator=torch.Generator().manual_seed(0))
    ids = model.encode(audio[None]).audio_codes[0]  # (1, N)
    rows = []
    for push_ms in PUSHES_MS:
        for direction, push, pieces in (
            ("encode", StreamingEncoder(model).push, in_pushes(audio, push_ms * 1e-3 * rate)),
            ("decode", StreamingDecoder(model).push, in_pushes(ids, push_ms * 1e-3 * model.config.frame_rate)),
        ):
            rows.append({"direction": direction, "push_ms": push_ms, **latencies(push, list(pieces), push_ms)})
    return {
        "machine": machine(threads),
        "seconds": seconds,
        "encoder_lookahead_ms": 1e3 * model.encoder_lookahead / rate,
        "decoder_lookahead_ms": 1e3 * model.decoder_lookahead / rate,
        "rows": rows,
    }


def in_pushes(values: Tensor, size: float) -> Iterator[Tensor]:
    """values (1, n) in pieces of `size` on average, which need not be whole; an incomplete last piece is left out."""
    for index in range(int(values.shape[1] / size)):
        yield values[:, int(index * size) : int((index + 1) * size)]


def latencies(push: Callable[[Tensor], list[Tensor]], pieces: list[Tensor], push_ms: float) -> dict[str, float]:
    """Real-time factor, and median and 99th percentile of a push in ms; the pushes of the first second only warm up."""
    warm_up = round(1000 / push_ms)
    for piece in pieces[:warm_up]:
        push(piece)
    walls = [1e3 * timed(partial(push, piece))[1].wall for piece in pieces[warm_up:]]
    return {
        "real_time_factor": statistics.mean(walls) / push_ms,
        "p50_ms": statistics.median(walls),
        "p99_ms": statistics.quantiles(walls, n=100, method="inclusive")[98],
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a section of a page."""
    cells = [["", "push", "RTF", "p50 of a push", "p99 of a push"]]
    for row in result["rows"]:
        cells.append(
            [
                row["direction"],
                f"{row['push_ms']} ms",
                f"{row['real_time_factor']:.3f}",
                f"{row['p50_ms']:.2f} ms",
                f"{row['p99_ms']:.2f} ms",
            ]
        )
    return (
        "## Streaming\n\n"
        f"Made by `python -m benchmarks.streaming` on {machine_line(result['machine'])}\n\n"
        f"{PRESET}, {result['seconds']:g} s of noise in pushes of each size. RTF: seconds of computing for a second of "
        f"audio. What the network must wait for comes on top: {result['encoder_lookahead_ms']:.0f} ms after an id's "
        f"own samples, {result['decoder_lookahead_ms']:.0f} ms behind the ids.\n\n{table(cells)}\n"
    )


@torch.inference_mode()
def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)d")
    add_output(parser)
    options = parser.parse_args()
    result = measure(L3ACModel.from_pretrained(PRESET).eval(), options.seconds, options.threads)
    record("streaming", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
