"""Reduced precision: speed, share of changed ids, and loss of STOI and PESQ on real speech.

    python -m benchmarks.precision FOLDER [--clips 20] [--threads 1]

The bundled weights encode and decode each clip of FOLDER in every precision, interleaved clip by clip so that a
slowdown of the machine affects all alike. int8 quantizes weights beforehand and activations dynamically; the
projections of the quantizer stay in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.codecs import PRESET, exported, onnx_codec
from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.audio import AUDIO_SUFFIXES, read_audio
from l3ac_tokenizer.evaluation.codecs.base import Codec
from l3ac_tokenizer.evaluation.codecs.checkpoint import CheckpointCodec
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.statistics import mean_with_interval
from l3ac_tokenizer.evaluation.timing import timed
from l3ac_tokenizer.markup import Markdown
from l3ac_tokenizer.metrics import MetricError, pesq, stoi
from l3ac_tokenizer.onnx import quantize_int8

METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {"STOI": stoi, "PESQ-WB": pesq}


def float32(scratch: Path) -> Codec:
    """float32, the reference of all others."""
    return CheckpointCodec(L3ACModel.from_pretrained(PRESET).eval(), PRESET)


def bfloat16(scratch: Path) -> Codec:
    """bfloat16 for the decoder: a model keeps its encoder in float32, whatever its dtype."""
    return CheckpointCodec(L3ACModel.from_pretrained(PRESET, dtype=torch.bfloat16).eval(), PRESET)


def int8(scratch: Path) -> Codec:
    """torch's dynamic int8 for all linear layers but `reduce`, which has the response norm folded in."""
    from torch.ao.quantization import quantize_dynamic

    model = L3ACModel.from_pretrained(PRESET).eval()
    called = {
        name
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and not name.endswith(".reduce") and "position_bias" not in name
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 recommends torchao
        return CheckpointCodec(quantize_dynamic(model, called), PRESET)


def in_onnx(scratch: Path) -> Codec:
    """The exported ONNX graphs, in float32."""
    return onnx_codec(exported(scratch))


def in_onnx_int8(graphs: str, scratch: Path) -> Codec:
    """The ONNX graphs with onnxruntime's dynamic int8 (`l3ac export-onnx --int8 GRAPHS`)."""
    folder = Path(shutil.copytree(exported(scratch), scratch / f"onnx-int8-{graphs}"))
    quantize_int8(folder, graphs)
    return onnx_codec(folder)


VARIANTS: dict[str, Callable[[Path], Codec]] = {
    "float32": float32,
    "bfloat16": bfloat16,
    "int8, torch": int8,
    "float32, onnxruntime": in_onnx,
    "int8 decoder, onnxruntime": partial(in_onnx_int8, "decoder"),
    "int8, onnxruntime": partial(in_onnx_int8, "both"),
}
"""Title in the table → function of a folder for files that builds the codec; the first is the reference."""


@torch.no_grad()
def measure(folder: Path, clips: int, threads: int, scratch: Path) -> dict[str, Any]:
    """All values of the section, as JSON values.

    Raises:
        OSError: `folder` has fewer than `clips` audio files.
    """
    torch.set_num_threads(threads)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)[:clips]
    if len(paths) < clips:
        raise FileNotFoundError(f"{folder} has {len(paths)} audio files; give one with {clips}, or fewer --clips.")
    codecs = {title: make(scratch) for title, make in tqdm(VARIANTS.items(), desc="building", unit="variant")}
    for codec in codecs.values():
        codec.decode(codec.encode(codec.noise(2.0, 1)[0].numpy()))  # one-time set-up
    passes: dict[str, list[PrecisionPass]] = {title: [] for title in codecs}
    seconds = 0.0
    for path in tqdm(paths, desc=str(folder), unit="clip"):
        rate = next(iter(codecs.values())).sampling_rate
        audio, _ = read_audio(path, rate)
        seconds += len(audio) / rate
        for title, codec in codecs.items():
            passes[title].append(precision_pass(codec, audio))
    reference = next(iter(passes.values()))
    return {
        "machine": machine(threads),
        "clips": len(paths),
        "digest": L3ACModel.from_pretrained(PRESET).weights_digest(),
        "seconds": seconds,
        "ids": sum(one.ids.size for one in reference),
        "rows": [{"variant": title, **compared(own, reference)} for title, own in passes.items()],
    }


@dataclass(frozen=True)
class PrecisionPass:
    """One clip encoded and decoded: ids (K, N), times in seconds, and the metrics that have a value."""

    ids: np.ndarray
    encode_s: float
    decode_s: float
    quality: dict[str, float]


def precision_pass(codec: Codec, audio: np.ndarray) -> PrecisionPass:
    """Encode, decode and score audio (T,)."""
    encoded, encoding = timed(lambda: codec.encode(audio))
    decoded, decoding = timed(lambda: codec.decode(encoded))
    assert encoded.ids is not None
    quality = {}
    for name, metric in METRICS.items():
        with contextlib.suppress(MetricError):
            quality[name] = metric(audio, decoded[: len(audio)], codec.sampling_rate)
    return PrecisionPass(encoded.ids, encoding.wall, decoding.wall, quality)


def compared(own: Sequence[PrecisionPass], reference: Sequence[PrecisionPass]) -> dict[str, Any]:
    """Total times and changed ids, and metrics and their loss over the clips where both have a value."""
    row: dict[str, Any] = {
        "encode_s": sum(one.encode_s for one in own),
        "decode_s": sum(one.decode_s for one in own),
        "changed_ids": sum(int((a.ids != b.ids).sum()) for a, b in zip(own, reference, strict=True)),
    }
    for name in METRICS:
        pairs = [
            (a.quality[name], b.quality[name])
            for a, b in zip(own, reference, strict=True)
            if name in a.quality and name in b.quality
        ]
        row[name] = vars(mean_with_interval([mine for mine, _ in pairs]))
        row[f"{name} loss"] = vars(mean_with_interval([other - mine for mine, other in pairs]))
    return row


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    first = result["rows"][0]
    cells = [["", "encode RTF", "decode RTF", "× float32", "changed ids"]]
    cells[0] += [title for name in METRICS for title in (name, f"loss of {name}")]
    for row in result["rows"]:
        both = [one["encode_s"] + one["decode_s"] for one in (row, first)]
        cells.append(
            [
                row["variant"],
                f"{row['encode_s'] / result['seconds']:.4f}",
                f"{row['decode_s'] / result['seconds']:.4f}",
                f"{both[0] / both[1]:.2f}",
                f"{row['changed_ids'] / result['ids']:.2%}",
                *(_mean_cell(row[key]) for name in METRICS for key in (name, f"{name} loss")),
            ]
        )
    return (
        "## Reduced precision\n\n"
        f"Made by `python -m benchmarks.precision FOLDER --clips {result['clips']}` on "
        f"{machine_line(result['machine'])}\n\n"
        f"{PRESET} (weights {result['digest'][:8]}…) on {result['clips']} clips of speech, {result['seconds']:.0f} s, "
        f"{result['ids']:,} ids. × float32: time of encoding plus decoding relative to the first row. Losses "
        "are mean differences from the first row, with 95 % bootstrap intervals; every variant decodes its own ids.\n\n"
        f"{table(cells)}\n"
    )


def _mean_cell(mean: dict[str, Any]) -> Markdown:
    if mean["mean"] is None:
        return Markdown("none")
    interval = "" if mean["interval"] is None else " [{:+.3f}, {:+.3f}]".format(*mean["interval"])
    return Markdown(f"{mean['mean']:.3f}{interval}")


def main() -> None:
    """Parse the arguments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of speech")
    parser.add_argument("--clips", type=int, default=20, metavar="N", help="default: %(default)d")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: %(default)d")
    add_output(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(options.folder, options.clips, options.threads, Path(scratch))
    record("precision", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
