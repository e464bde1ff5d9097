"""Time of the ONNX graphs by operator, beside torch.

    python -m benchmarks.onnx_operators

Noise of ten seconds is encoded and decoded by onnxruntime and by torch, in turns; onnxruntime's profile tells the time
of each kind of operator.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import timed
from l3ac_tokenizer.onnx import export_onnx

MODELS = ("l3ac-1k-light", "l3ac-1k")
OPERATORS = 8
"""Number of the most expensive operators in the table; the others are summed up."""


@torch.inference_mode()
def measure(models: list[str], seconds: float, threads: int, rounds: int) -> dict[str, Any]:
    """All values of the section, as JSON values."""
    torch.set_num_threads(threads)
    rows = []
    for name in models:
        model = L3ACModel.from_pretrained(name).eval()
        samples = 0.1 * torch.randn(1, 1, round(seconds * model.config.sampling_rate))
        codes = model.encode(samples).audio_codes
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(model, folder)
            for graph, call, given in (
                ("encoder", model.encode, {"input_values": samples}),
                ("decoder", model.decode, {"audio_codes": codes}),
            ):
                path = Path(folder) / f"{graph}.onnx"
                rows.append(
                    {"model": name, "graph": graph, **_compare(path, partial(call, **given), given, threads, rounds)}
                )
    return {"machine": machine(threads), "seconds": seconds, "rounds": rounds, "rows": rows}


def _compare(
    path: Path, call: Callable[[], Any], given: dict[str, Tensor], threads: int, rounds: int
) -> dict[str, Any]:
    """Median times of a graph and of the same call in torch, and the graph's operators."""
    session = _profiled_session(path, threads)
    run = partial(session.run, None, {name: values.numpy() for name, values in given.items()})
    run()
    call()
    walls = [[timed(each)[1].wall for each in (run, call)] for _ in range(rounds)]
    onnx, torch_ = np.median(walls, axis=0)
    return {
        "onnx_s": onnx,
        "torch_s": torch_,
        "operators_ms": _milliseconds(Path(session.end_profiling()), rounds + 1),
    }


def _profiled_session(path: Path, threads: int) -> Any:
    """A session of onnxruntime that writes a profile beside the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    return onnxruntime.InferenceSession(path, options)


def _milliseconds(profile: Path, runs: int) -> dict[str, float]:
    """Mean time of a run by kind of operator, the most expensive first."""
    total: Counter[str] = Counter()
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            total[event["args"]["op_name"]] += event["dur"]
    return {name: 1e-3 * microseconds / runs for name, microseconds in total.most_common()}


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    cells = [["", "onnxruntime, ms", "torch, ms", "relative", "operators, ms"]]
    for row in result["rows"]:
        operators = list(row["operators_ms"].items())
        shown = [f"{name} {time:.0f}" for name, time in operators[:OPERATORS]]
        others = sum(time for _, time in operators[OPERATORS:])
        cells.append(
            [
                f"{row['model']}, {row['graph']}",
                f"{1e3 * row['onnx_s']:.0f}",
                f"{1e3 * row['torch_s']:.0f}",
                f"{row['onnx_s'] / row['torch_s']:.2f}",
                ", ".join([*shown, f"others {others:.0f}"]),
            ]
        )
    return (
        "## ONNX by operator\n\n"
        f"Made by `python -m benchmarks.onnx_operators` on {machine_line(result['machine'])}\n\n"
        f"{result['seconds']:g} s of noise at batch 1, medians of {result['rounds']} rounds in which onnxruntime and "
        "torch take turns. Operators are means over the same rounds and the first one, under the profiler, which takes "
        f"some of the time.\n\n{table(cells)}\n"
    )


def main() -> None:
    """Parse the arguments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, help="default: both bundled models")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)d")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)d")
    add_output(parser)
    options = parser.parse_args()
    result = measure(options.models, options.seconds, options.threads, options.rounds)
    record("onnx_operators", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
