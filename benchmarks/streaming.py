"""Cost of exact streaming: real-time factor, and time of one push, by model, engine and length of a push.

    python -m benchmarks.streaming
    python -m benchmarks.streaming --seconds 5 --models l3ac-1k-light --engines eager -o /tmp/speed.md

Noise is encoded in pushes of each length, and its ids are decoded in pushes of the same duration. All streams run in
turns, so that a slowdown of the machine affects them alike; the first pushes of a turn are not counted. `aot` compiles
a program for each length that is measured first, which takes minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer import L3ACModel, StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import timed
from l3ac_tokenizer.plots import as_png, open_axis

MODELS = ("l3ac-1k-light", "l3ac-1k")
PUSHES_MS = {"eager": (10, 20, 40, 80, 160, 320), "aot": (20, 40, 80, 160)}
TURNS = 3
MIMI_PUSH_MS = 80
"""A frame of Mimi, the shortest push that transformers streams."""

Push = Callable[[Tensor], Any]


def measure(
    seconds: float, threads: int, models: Iterable[str] = MODELS, engines: Iterable[str] = tuple(PUSHES_MS)
) -> dict[str, Any]:
    """All values of the section, as JSON values."""
    torch.set_num_threads(threads)
    streams: list[tuple[dict[str, Any], Callable[[], Push], list[Tensor]]] = []
    for name in models:
        model = L3ACModel.from_pretrained(name).eval()
        rate, frame_rate = model.config.sampling_rate, model.config.frame_rate
        audio = 0.1 * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(0))
        ids = model.encode(audio[None]).audio_codes[0]  # (1, N)
        weights_s = {"encode": read_seconds(model.encoder), "decode": read_seconds(model.decoder)}
        for engine in engines:
            for push_ms in PUSHES_MS[engine]:
                options: dict[str, Any] = {"engine": engine, "step_frames": max(1, int(1e-3 * push_ms * frame_rate))}
                for direction, kind, values, per_second in (
                    ("encode", StreamingEncoder, audio, rate),
                    ("decode", StreamingDecoder, ids, frame_rate),
                ):
                    facts: dict[str, Any] = {"model": name, "engine": engine}
                    facts |= {"direction": direction, "push_ms": push_ms, "weights_s": weights_s[direction]}
                    kind(model, **options)  # compiled before anything is measured
                    streams.append(
                        (
                            facts,
                            partial(_pushes_of, kind, model, options),
                            list(in_pushes(values, 1e-3 * push_ms * per_second)),
                        )
                    )
    streams.append(_mimi_stream(seconds))
    walls: list[list[float]] = [[] for _ in streams]
    for _ in range(TURNS):
        for (facts, start, pushes), row in zip(streams, walls, strict=True):
            row += push_times(start(), pushes[: max(len(pushes) // TURNS, 8)], facts["push_ms"])
    rows = [{**facts, **latencies(row, facts["push_ms"])} for (facts, _, _), row in zip(streams, walls, strict=True)]
    return {"machine": machine(threads), "seconds": seconds, "rows": rows}


def _pushes_of(kind: Callable[..., Any], model: L3ACModel, options: dict[str, Any]) -> Push:
    return kind(model, **options).push


def _mimi_stream(seconds: float) -> tuple[dict[str, Any], Callable[[], Push], list[Tensor]]:
    """Mimi's encoder as transformers streams it; its decoder keeps no state of convolutions."""
    from transformers import MimiConfig, MimiModel

    model = MimiModel(MimiConfig()).eval()
    size = model.config.sampling_rate * MIMI_PUSH_MS // 1000
    noise = 0.1 * torch.randn(1, 1, round(seconds * model.config.sampling_rate))

    def start() -> Push:
        state: dict[str, Any] = {"encoder_cache": None, "padding_cache": None}

        def push(values: Tensor) -> Any:
            output = model.encode(values, num_quantizers=8, use_streaming=True, **state)
            state.update(encoder_cache=output.encoder_cache, padding_cache=output.padding_cache)
            return output.audio_codes

        return push

    facts = {"model": "Mimi (transformers)", "engine": "eager", "direction": "encode", "push_ms": MIMI_PUSH_MS}
    return facts, start, list(noise.split(size, dim=-1))


def in_pushes(values: Tensor, size: float) -> Iterator[Tensor]:
    """Values (1, N) in pushes of `size` on average, which may be fractional; an incomplete last push is left out."""
    for index in range(int(values.shape[1] / size)):
        yield values[:, int(index * size) : int((index + 1) * size)]


def push_times(push: Push, pushes: list[Tensor], push_ms: float) -> list[float]:
    """Wall times of pushes in ms, without those of the first half second."""
    warm_up = min(len(pushes) // 2, round(500 / push_ms))
    for values in pushes[:warm_up]:
        push(values)
    return [1e3 * timed(partial(push, values))[1].wall for values in pushes[warm_up:]]


def read_seconds(module: nn.Module) -> float:
    """Time to read as many bytes as a module's weights have, which are in the cache if they fit into it."""
    weights = torch.randn(sum(parameter.numel() for parameter in module.parameters()))
    return min(timed(weights.sum)[1].wall for _ in range(20))


def latencies(walls: list[float], push_ms: float) -> dict[str, float]:
    """Real-time factor, and median and 99th percentile of a push in ms."""
    return {
        "real_time_factor": statistics.mean(walls) / push_ms,
        "p50_ms": statistics.median(walls),
        "p99_ms": statistics.quantiles(walls, n=100, method="inclusive")[98],
    }


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    cells = [["", "engine", "", "push", "RTF", "RTF of weights", "p50 of a push", "p99 of a push"]]
    for row in sorted(result["rows"], key=lambda row: (row["model"], row["engine"] == "aot", row["direction"])):
        cells.append(
            [
                row["model"],
                row["engine"],
                row["direction"],
                f"{row['push_ms']} ms",
                f"{row['real_time_factor']:.3f}",
                f"{1e3 * row['weights_s'] / row['push_ms']:.3f}" if "weights_s" in row else "–",
                f"{row['p50_ms']:.2f} ms",
                f"{row['p99_ms']:.2f} ms",
            ]
        )
    return (
        "## Streaming\n\n"
        f"Made by `python -m benchmarks.streaming` on {machine_line(result['machine'])}\n\n"
        f"{result['seconds']:g} s of noise in pushes of each length. RTF: seconds of computation per second of audio; "
        "p50 and p99 are of pushes as they come, some of which complete no step of `aot`. `aot` computes whole steps, "
        "as many frames as fit into a push. RTF of weights: that of reading the float32 weights once a push, as fast "
        "as torch sums as many values: about the least that a push can take. Mimi is with random weights; "
        "transformers streams its encoder alone, and EnCodec not at all. "
        "[What ids and sound wait for](../guides/streaming.md#latency) is another matter.\n\n"
        f"![real-time factor by length of a push](speed-streaming.png)\n\n{table(cells)}\n"
    )


def curve(result: dict[str, Any]) -> bytes:
    """Real-time factors over the length of a push, as a PNG file."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, direction in zip(axes, ("encode", "decode"), strict=True):
        for model in dict.fromkeys(row["model"] for row in result["rows"]):
            for engine, style in (("eager", "o-"), ("aot", "s--")):
                chosen = [
                    row
                    for row in result["rows"]
                    if (row["model"], row["engine"], row["direction"]) == (model, engine, direction)
                ]
                if chosen:
                    points = [[row[key] for row in chosen] for key in ("push_ms", "real_time_factor")]
                    axis.plot(*points, style, label=f"{model}, {engine}")
        axis.set(xscale="log", yscale="log", title=direction, xlabel="push, ms of audio")
        axis.set_xticks([10, 20, 40, 80, 160, 320], ["10", "20", "40", "80", "160", "320"])
        axis.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
        axis.minorticks_off()
        open_axis(axis)
    axes[0].set_ylabel("real-time factor")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    png = as_png(figure)
    plt.close(figure)
    return png


@torch.no_grad()
def main() -> None:
    """Parse the arguments, measure, and write the section and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)d")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, help="default: both bundled models")
    parser.add_argument("--engines", nargs="+", default=tuple(PUSHES_MS), choices=PUSHES_MS, help="default: both")
    add_output(parser)
    options = parser.parse_args()
    result = measure(options.seconds, options.threads, options.models, options.engines)
    record("streaming", result, options.output)
    options.output.with_name(f"{options.output.stem}-streaming.png").write_bytes(curve(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
