"""Names and shapes of the published tensors of TAAE, and the parameters of `TAAEModel` that they fill.

The published state is one file, `model`. Its list indices also count steps without tensors: disabled activations, and
an axis swap before each stack of transformer layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..configuration_taae import TAAEConfig
from ..modeling.taae.attention import rotary_frequencies
from .entries import OLD_NORMED, Entry, Published, layer, plain, shape_of_sources

MODULE = "model"

LEVEL_LUFS = -20.0
"""Loudness to which the published wrapper levels audio before it encodes."""

# Published name, our name, tensors.
_LAYER_PARTS = (
    ("self_attn.to_qkv", "attention.to_qkv", ("weight",)),
    ("self_attn.to_out", "attention.to_out", ("weight",)),
    ("self_attn.q_norm", "attention.q_norm", ("weight", "bias")),
    ("self_attn.k_norm", "attention.k_norm", ("weight", "bias")),
    ("self_attn_scale", "attention_scale", ("scale",)),
    ("ff.ff.0.proj", "perceptron.expand", ("weight", "bias")),
    ("ff.ff.2", "perceptron.reduce", ("weight", "bias")),
    ("ff_scale", "perceptron_scale", ("scale",)),
)
_NORMS = (("pre_norm", "attention_norm"), ("ff_norm", "perceptron_norm"))


def _conv(source: str, target: str, bias: bool = True) -> Iterator[Entry]:
    yield from layer(MODULE, (source,), target, OLD_NORMED, bias)


def _stack(source: str, target: str, depth: int) -> Iterator[Entry]:
    for j in range(depth):
        theirs, ours = f"{source}.{j + 1}", f"{target}.stack.layers.{j}"
        for name, our_name, parts in _LAYER_PARTS:
            yield from plain(MODULE, f"{theirs}.{name}", f"{ours}.{our_name}", parts)
        for name, our_name in _NORMS:
            yield Entry(MODULE, (f"{theirs}.{name}.gamma",), f"{ours}.{our_name}.weight")


def _places(config: TAAEConfig) -> tuple[list[tuple[str, str, int, int]], list[tuple[str, str, int, int]]]:
    """Published name, our name, depth and stride of each encoder block and of each decoder block."""
    sizes = list(zip(config.depths, config.strides, strict=True))
    encoder = [(f"encoder.layers.{i + 1}", f"encoder.blocks.{i}", *size) for i, size in enumerate(sizes)]
    decoder = [(f"decoder.layers.{i + 1}", f"decoder.blocks.{i}", *size) for i, size in enumerate(reversed(sizes))]
    return encoder, decoder


def entries(config: TAAEConfig) -> Iterator[Entry]:
    """Yield the entries of all published tensors of a network except its constants."""
    last = len(config.strides) + 2
    encoder, decoder = _places(config)
    yield from _conv("encoder.layers.0", "encoder.from_patches")
    for source, target, depth, stride in encoder:
        if stride > 1:
            yield from _conv(f"{source}.layers.1", f"{target}.down")
        yield from _stack(f"{source}.layers.2", target, depth)
    yield from _conv(f"encoder.layers.{last}", "encoder.project")
    yield from _conv("decoder.layers.0", "decoder.project")
    for source, target, depth, stride in decoder:
        yield from _stack(f"{source}.layers.0", target, depth)
        if stride > 1:
            yield from _conv(f"{source}.layers.2", f"{target}.up")
    yield from _conv(f"decoder.layers.{last}", "decoder.to_patches", bias=False)


def constants(config: TAAEConfig) -> dict[str, Tensor]:
    """Return the published tensors that are not parameters: offsets of norms and rotary frequencies."""
    encoder, decoder = _places(config)
    stacks = [(f"{source}.layers.2", depth) for source, _, depth, _ in encoder]
    stacks += [(f"{source}.layers.0", depth) for source, _, depth, _ in decoder]
    layers = [f"{source}.{j + 1}" for source, depth in stacks for j in range(depth)]
    offset = torch.zeros(config.hidden_size)
    frequencies = rotary_frequencies(config.hidden_size // config.num_attention_heads, offset.device).float()
    return {f"{layer}.{norm}.beta": offset for layer in layers for norm, _ in _NORMS} | {
        f"{layer}.rope.inv_freq": frequencies for layer in layers
    }


def published(config: TAAEConfig, model: nn.Module) -> Published:
    """Return the published state of a network, with shapes derived from our parameters."""
    parameters = dict(model.named_parameters())
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in entries(config):
        shapes |= shape_of_sources(entry, parameters[entry.target])
    return Published(list(entries(config)), {MODULE: shapes}, {MODULE: constants(config)})
