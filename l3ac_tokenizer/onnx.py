"""Export of a codec to ONNX graphs, for programs without torch.

    l3ac export-onnx --model l3ac-1k -o FOLDER [--int8 [decoder|both]] [--streaming [FRAMES]]

`encoder.onnx` takes `input_values` (B, 1, T) float32 and returns `audio_codes` (B, K, N) int64 with N = ceil(T / hop)
and K = 1 unless the ids are decomposed. `decoder.onnx` takes `audio_codes` and returns `audio_values` (B, 1, N · hop)
float32. B, T and N are dynamic. All clips of a batch have the same length, because the graphs take no mask. The
metadata `l3ac` of both identifies the weights and states the precision.

`streaming_encoder.onnx` and `streaming_decoder.onnx` are pushes of FRAMES frames of one stream, with state:
`input_values` (1, FRAMES · hop) → `ids` (1, FRAMES), and `ids` → `audio_values` (1, FRAMES · hop). Both also take
`position` (1,), the frames that came before, `end` (1,), the frames of the clip or 2^48 while it is unknown, and every
`state_I`, zeros at first, for which they return `next_state_I`. The encoder's first push begins with `lead` zeros, and
the first `delay` values that come out lie before the clip; the metadata has both numbers.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .files import atomic_write
from .modeling import CodecModel
from .modeling.cpu_kernels import is_plain_linear
from .modeling.layers import ConvNeXtBlock
from .modeling.span import FAR
from .modeling.steps import DecoderStep, EncoderStep, Step

FILES = ("encoder.onnx", "decoder.onnx")
STREAMING_FILES = ("streaming_encoder.onnx", "streaming_decoder.onnx")

INT8 = {"decoder": ("decoder.onnx",), "both": FILES}
"""Choices of what is quantized → files. The ids depend on the encoder alone."""

FOLD_LIMIT = 1 << 26
"""Size in bytes up to which constants are folded: above any weight of the network."""


class _Encoding(nn.Module):
    """Audio (B, 1, T) → ids (B, K, N)."""

    def __init__(self, model: CodecModel):
        super().__init__()
        self.model = model

    def forward(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values).audio_codes


class _Decoding(nn.Module):
    """Ids (B, K, N) → audio (B, 1, N · hop), with the published normalization over the clip."""

    def __init__(self, model: CodecModel):
        super().__init__()
        self.model = model

    def forward(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values


class _ScaledSnake(nn.Module):
    """Snake activation between weights that contain its factors: 2α·(x + sin²(αx)/α) = u − cos(u) + 1 with u = 2αx."""

    def forward(self, u: Tensor) -> Tensor:
        return u - u.cos()


MIN_ALPHA = 1e-2
"""Smallest α of a Snake that is moved into weights; division by smaller ones would magnify rounding errors."""


def _with_scaled_snakes(model: CodecModel) -> CodecModel:
    """A copy whose ConvNeXt blocks have the factors of Snake in their weights: two operations instead of five."""
    model = copy.deepcopy(model)
    for block in model.modules():
        if not isinstance(block, ConvNeXtBlock) or not is_plain_linear(block.expand):
            continue
        double = 2 * block.activation.alpha
        if double.abs().min() < 2 * MIN_ALPHA:
            continue
        block.expand.weight.mul_(double[:, None])
        block.expand.bias.mul_(double)
        norm = block.response_norm
        factor = (1 + norm.gamma) / double
        norm.gamma.copy_(factor - 1)
        norm.beta.add_(factor)  # of the summand 1
        block.activation = _ScaledSnake()  # type: ignore[assignment]
    return model


@torch.no_grad()
def export_onnx(model: CodecModel, folder: str | os.PathLike[str]) -> None:
    """Write `encoder.onnx` and `decoder.onnx` of a float32 model to `folder`, which is created if necessary.

    The model is put into evaluation mode.

    Raises:
        ImportError: The packages of the extra `onnx` are missing.
        ValueError: The model's weights are not float32.
        OSError: The folder cannot be written.
    """
    facts, config = _facts(model), model.config
    model = _with_scaled_snakes(model.eval())
    # Only the shapes of the examples matter: an axis of 1, or shorter than a window, could be taken for a constant.
    ids = 2 * config.attention_span + 3
    audio = torch.zeros(2, 1, ids * config.hop_length, device=model.device)
    codes = torch.zeros(2, config.num_quantizers, ids, dtype=torch.int64, device=model.device)
    graphs = {
        "encoder": (_Encoding(model), audio, ("input_values", "samples"), "audio_codes"),
        "decoder": (_Decoding(model), codes, ("audio_codes", "ids"), "audio_values"),
    }
    for name, (module, example, (given, length), result) in graphs.items():
        axes = {given: {0: "batch", 2: length}}
        _write(Path(folder) / f"{name}.onnx", facts, module, (example,), [given], [result], dynamic_shapes=axes)


@torch.no_grad()
def export_streaming(model: CodecModel, folder: str | os.PathLike[str], frames: int = 2) -> None:
    """Write `streaming_encoder.onnx` and `streaming_decoder.onnx`, pushes of `frames` frames, to `folder`.

    The model is put into evaluation mode.

    Raises:
        ImportError: The packages of the extra `onnx` are missing.
        ValueError: `frames` is less than 1, the model's weights are not float32, or the checkpoint has no statistics
            for frozen time normalization.
        OSError: The folder cannot be written.
    """
    if frames < 1:
        raise ValueError(f"`frames` is {frames}; it must be at least 1.")
    model.check_time_norm("frozen")
    facts = _facts(model)
    model = _with_scaled_snakes(model.eval())
    encoder, decoder = EncoderStep(model, frames), DecoderStep(model, frames)
    graphs: list[tuple[str, Step, int, str, str]] = [
        (STREAMING_FILES[0], encoder, encoder.lead, "input_values", "ids"),
        (STREAMING_FILES[1], decoder, 0, "ids", "audio_values"),
    ]
    for name, step, lead, given, result in graphs:
        state = step.zeros(1)
        names = [f"state_{index}" for index in range(len(state))]
        _write(
            Path(folder) / name,
            {**facts, "frames": frames, "lead": lead, "delay": step.delay},
            step,
            (step.example(1), torch.tensor([FAR]), torch.tensor([0]), *state),
            [given, "end", "position", *names],
            [result, *(f"next_{name}" for name in names)],
        )


def _facts(model: CodecModel) -> dict[str, Any]:
    """Metadata of the graphs of a model.

    Raises:
        ValueError: The model's weights are not float32.
    """
    if model.dtype != torch.float32:
        raise ValueError(
            f"The weights of the model are {model.dtype}; load it in float32, so that the ids stay the same."
        )
    digest, *others = model.id_digests()
    return {
        "weights_digest": digest,
        "ids_of": others,
        "sampling_rate": model.config.sampling_rate,
        "hop_length": model.config.hop_length,
        "levels": list(model.config.levels),
        "precision": "float32",
    }


def _write(
    path: Path,
    facts: dict[str, Any],
    module: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    **options: Any,
) -> None:
    """Write the graph of a module, with its metadata; the folder is created if necessary."""
    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise _missing(error) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    options |= {"input_names": inputs, "output_names": outputs, "verbose": False}
    options["optimize"] = False  # the optimizer runs below, with larger limits
    program = torch.onnx.export(module.eval(), examples, dynamo=True, **options)
    assert program is not None
    with np.errstate(all="ignore"):  # numpy folds constants, among them weights
        optimizer.optimize(program.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces with this machine's paths
    program.model.metadata_props["l3ac"] = json.dumps(facts)
    with atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())


def quantize_int8(folder: str | os.PathLike[str], graphs: str = "decoder") -> None:
    """Replace the weights of matrix products in graphs of a folder by int8 weights with a scale for each column.

    Activations are quantized at run time (dynamic quantization of onnxruntime). The products of the codec's quantizer,
    Fourier transforms and mel filters stay in float32.

    Args:
        folder: Folder with both graphs in float32.
        graphs: `"decoder"`: the ids stay those of the model; `"both"`: the input features of the codec's quantizer are
            less precise, and ids differ.

    Raises:
        ImportError: The packages of the extra `onnx` are missing.
        OSError: The folder lacks a graph, or cannot be written.
        ValueError: A graph is already in int8, or `graphs` is neither of the two.
    """
    if graphs not in INT8:
        raise ValueError(f"graphs is {graphs!r}; give one of {', '.join(INT8)}.")
    try:
        import onnx
        from onnxruntime.quantization import quantize_dynamic
    except ImportError as error:
        raise _missing(error) from error
    for path in (Path(folder) / name for name in INT8[graphs]):
        graph = onnx.load(path)
        (metadata,) = (entry for entry in graph.metadata_props if entry.key == "l3ac")
        facts = json.loads(metadata.value)
        if facts["precision"] != "float32":
            raise ValueError(f"{path} is already in {facts['precision']}; give a folder with float32 graphs.")
        metadata.value = json.dumps({**facts, "precision": "int8"})
        del graph.graph.value_info[:]  # shapes that become wrong when the graph is rewritten
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / path.name
            quantize_dynamic(
                graph,
                made,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                nodes_to_exclude=[*_products_of_quantizer(graph), *_products_with_fixed_matrices(graph)],
            )
            with atomic_write(path) as file:
                file.write(made.read_bytes())


def _products_of_quantizer(model: Any) -> list[str]:
    """Return the names of the matrix products whose results the quantizer's biases are added to; none in TAAE."""
    nodes = model.graph.node
    summands = {name for node in nodes if any(".quantizer." in name for name in node.input) for name in node.input}
    return [node.name for node in nodes if node.op_type == "MatMul" and summands & set(node.output)]


def _products_with_fixed_matrices(model: Any) -> list[str]:
    """Names of the matrix products of Fourier transforms and mel filters, which the modules write as `@`."""
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name.startswith("node_matmul")]


def _missing(error: ImportError) -> ImportError:
    return ImportError(f"ONNX export needs a package that is missing ({error}): pip install 'l3ac-tokenizer[onnx]'.")
