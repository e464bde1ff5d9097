"""Reader of CTranslate2's model files, and Whisper's encoder out of one.

Layout of `model.bin`, little-endian, as version 6 of CTranslate2's converters writes it (`ctranslate2.specs.model_spec`
in its package): version, name and revision of the network, variables, aliases. Every number is checked against the
bytes that are left in the file before anything is allocated.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

VERSION = 6
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By the number that stands for each in the file."""
MAX_RANK = 8

MODULES = {"conv1": "conv1", "conv2": "conv2", "position_encodings": "embed_positions", "layer_norm": "layer_norm"}
"""Modules of the encoder: CTranslate2's names and transformers'."""

LAYER_MODULES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
"""The same of a layer; `self_attention/linear_0` is queries, keys and values in one."""

PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}


def read_variables(path: str | Path) -> dict[str, Tensor]:
    """All variables of a `model.bin` by name, aliases included.

    Floats keep the type they have in the file; int8 and int16 with scales are dequantized to float32, and their scales
    left out; other integers stay.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, cut off, or of another version.
    """
    with open(path, "rb") as file:
        fields = _Fields(file, Path(path).stat().st_size)
        try:
            return _read(fields)
        except ValueError as error:
            raise ValueError(
                f"{path} cannot be read as a CTranslate2 model of version {VERSION} ({error}): install or convert it "
                "again."
            ) from None


def whisper_encoder(folder: str | Path) -> WhisperEncoder:
    """The encoder, in float32, of a Whisper in CTranslate2's format: `model.bin` in a folder.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or not a Whisper.
    """
    path = Path(folder) / "model.bin"
    variables = read_variables(path)
    try:
        return _encoder(variables)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the encoder of a Whisper ({error}): give the folder of one.") from error


def _encoder(variables: dict[str, Tensor]) -> WhisperEncoder:
    state: dict[str, Tensor] = {}
    for name, value in variables.items():
        if name.startswith("encoder/") and value.is_floating_point():
            state |= _renamed(name.removeprefix("encoder/"), value.float())
    heads = int(variables["encoder/num_heads"])
    if heads < 1:
        raise ValueError(f"it has {heads} attention heads")
    config = WhisperConfig(
        d_model=state["conv1.weight"].shape[0],
        num_mel_bins=state["conv1.weight"].shape[1],
        max_source_positions=state["embed_positions.weight"].shape[0],
        encoder_layers=len({name.split(".")[1] for name in state if name.startswith("layers.")}),
        encoder_attention_heads=heads,
        encoder_ffn_dim=state["layers.0.fc1.weight"].shape[0],
    )
    with torch.device("meta"):  # nothing is allocated before all shapes have been compared
        encoder = WhisperEncoder(config)
    expected = {name: value.shape for name, value in encoder.state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if wrong := sorted(dict(expected.items() ^ found.items())):
        raise ValueError(f"{wrong[0]} and {len(wrong) - 1} others are missing, unknown or of another shape")
    encoder.load_state_dict(state, assign=True)
    return encoder


class _Fields:
    """Fields of a file, one after the other, never beyond its end."""

    def __init__(self, file: BinaryIO, size: int):
        self.file = file
        self.left = size

    def take(self, size: int) -> bytearray:
        if size > self.left:
            raise ValueError(f"{size} bytes are to come where it has {self.left} left")
        self.left -= size
        return bytearray(self.file.read(size))

    def integer(self, kind: str) -> int:
        """An unsigned integer, `kind` as in `struct`."""
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(kind)))[0]

    def text(self) -> str:
        """A text and the zero that ends it, behind the number of its bytes."""
        return self.take(self.integer("H")).rstrip(b"\0").decode()


def _read(fields: _Fields) -> dict[str, Tensor]:
    if (version := fields.integer("I")) != VERSION:
        raise ValueError(f"it begins with the version {version}")
    fields.text()  # name of the network
    fields.integer("I")  # revision
    variables = {}
    for _ in range(fields.integer("I")):
        name = fields.text()
        variables[name] = _variable(fields, name)
    variables = _dequantized(variables)
    for _ in range(fields.integer("I")):
        alias, name = fields.text(), fields.text()
        if name not in variables:
            raise ValueError(f"{alias!r} is an alias of {name!r}, which it lacks")
        variables[alias] = variables[name]
    return variables


def _variable(fields: _Fields, name: str) -> Tensor:
    rank = fields.integer("B")
    if rank > MAX_RANK:
        raise ValueError(f"{name!r} has {rank} axes")
    shape = [fields.integer("I") for _ in range(rank)]
    number, size = fields.integer("B"), fields.integer("I")
    if number >= len(DTYPES):
        raise ValueError(f"{name!r} has type {number}, unknown here")
    dtype = DTYPES[number]
    if size == 0 or math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name!r} has the shape {shape} in {size} bytes of {dtype}")
    return torch.frombuffer(fields.take(size), dtype=dtype).reshape(shape)


def _dequantized(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without scales: quantized variables x are round(x · scale), with a scale a row (int8) or one for all (int16)."""
    scales = {name: f"{name}_scale" for name in variables if f"{name}_scale" in variables}
    plain = {name: value for name, value in variables.items() if name not in scales.values()}
    for name, scale_name in scales.items():
        value, scale = variables[name], variables[scale_name].float()
        if value.dtype not in (torch.int8, torch.int16) or scale.shape not in ((), value.shape[:1]):
            raise ValueError(f"{name!r}, {value.dtype} of shape {list(value.shape)}, has scales {list(scale.shape)}")
        if not (scale > 0).all():
            raise ValueError(f"{name!r} has scales that are not positive")
        plain[name] = value.float() / scale.reshape(scale.shape + (1,) * (value.ndim - scale.ndim))
    return plain


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    """A variable of the encoder under transformers' names; none, if transformers has nothing like it."""
    in_layer = re.fullmatch(r"layer_(\d+)/(.+)", name)
    layer, rest = in_layer.groups() if in_layer else ("", name)
    module, _, parameter = rest.rpartition("/")
    prefix = f"layers.{layer}." if layer else ""
    if layer and rest in ("self_attention/linear_0/weight", "self_attention/linear_0/bias"):
        # Whisper's keys have no bias: the zeros in its place are the format's.
        parts = {f"{prefix}self_attn.{part}_proj.{parameter}": x for part, x in zip("qkv", _thirds(value), strict=True)}
        return {name: part for name, part in parts.items() if not name.endswith("k_proj.bias")}
    known = LAYER_MODULES if layer else MODULES
    if module not in known or parameter not in PARAMETERS:
        return {}
    return {f"{prefix}{known[module]}.{PARAMETERS[parameter]}": value}


def _thirds(value: Tensor) -> tuple[Tensor, ...]:
    if value.ndim == 0 or len(value) % 3:
        raise ValueError(f"queries, keys and values have the shape {list(value.shape)}, not thirds of one")
    return value.chunk(3)
