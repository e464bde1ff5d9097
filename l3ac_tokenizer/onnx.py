"""The codec as two ONNX graphs, for programs without torch.

    python -m l3ac_tokenizer.onnx l3ac-1k -o FOLDER

`encoder.onnx` takes `input_values` (B, 1, T) float32 and gives `audio_codes` (B, 1, N) int64, N = ceil(T / hop);
`decoder.onnx` takes `audio_codes` and gives `audio_values` (B, 1, N · hop) float32. B, T and N are free. The clips of a
batch have one length: there is no mask. The metadata `l3ac` of both says which tokenizer it is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .atomic import atomic_write
from .modeling import L3ACModel

EXAMPLE_IDS = 20
"""Length of the clip that the graphs are traced with."""


class _Encoding(nn.Module):
    """Audio (B, 1, T) → ids (B, 1, N)."""

    def __init__(self, model: L3ACModel):
        super().__init__()
        self.model = model

    def forward(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values).audio_codes


class _Decoding(nn.Module):
    """Ids (B, 1, N) → audio (B, 1, N · hop), normalised over the clip as published."""

    def __init__(self, model: L3ACModel):
        super().__init__()
        self.model = model

    def forward(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values


@torch.no_grad()
def export_onnx(model: L3ACModel, folder: str | os.PathLike[str]) -> None:
    """Write `encoder.onnx` and `decoder.onnx` of a float32 model to `folder`, which is made where it is missing.

    Raises:
        ImportError: The packages of the extra `onnx` are missing.
        ValueError: The model's weights are not float32.
        OSError: The folder cannot be written.
    """
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise ImportError(
            f"ONNX export needs a missing package ({error}): pip install 'l3ac-tokenizer[onnx]'."
        ) from error
    if model.dtype != torch.float32:
        raise ValueError(f"The model's weights are {model.dtype}; load it in float32, so that the ids stay the same.")
    os.makedirs(folder, exist_ok=True)
    config = model.config
    facts = {
        "weights_digest": model.weights_digest(),
        "sampling_rate": config.sampling_rate,
        "hop_length": config.hop_length,
        "levels": list(config.levels),
    }
    audio = torch.zeros(2, 1, EXAMPLE_IDS * config.hop_length)
    codes = torch.zeros(2, 1, EXAMPLE_IDS, dtype=torch.int64)
    graphs = {
        "encoder": (_Encoding(model), audio, ("input_values", "samples"), "audio_codes"),
        "decoder": (_Decoding(model), codes, ("audio_codes", "ids"), "audio_values"),
    }
    for name, (module, example, (given, length), result) in graphs.items():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[given],
            output_names=[result],
            dynamic_shapes={given: {0: "batch", 2: length}},
        )
        assert program is not None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # stack traces with this machine's paths
        program.model.metadata_props["l3ac"] = json.dumps(facts)
        with atomic_write(Path(folder) / f"{name}.onnx") as file:
            file.write(program.model_proto.SerializeToString())


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the model that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m l3ac_tokenizer.onnx", description="Write a codec as ONNX graphs.")
    parser.add_argument("model", help="bundled name or checkpoint directory")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder for the two files")
    options = parser.parse_args(arguments)
    try:
        export_onnx(L3ACModel.from_pretrained(options.model).eval(), options.output)
    except (ImportError, OSError, ValueError) as error:
        print(f"l3ac: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
