"""Names and shapes of the published tensors of L3AC and SQCodec, and the parameters of `L3ACModel` that they fill.

The published state is five files: `encoder`, `quantizer`, `decoder`, `en_encoder` and `en_decoder`. A parameter of ours
comes from one tensor, from a weight-normed pair (magnitude, direction), or from several of these stacked.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ..configuration import L3ACConfig
from ..modeling.l3ac.decoder import TEConv
from .entries import Entry, Published, layer, plain, shape_of_sources

MODULES = ("encoder", "quantizer", "decoder", "en_encoder", "en_decoder")


def _unit(module: str, source: str, target: str) -> Iterator[Entry]:
    source = f"{source}.module"
    yield from layer(module, (f"{source}.dw_conv",), f"{target}.depthwise")
    yield from plain(module, f"{source}.norm", f"{target}.norm")
    yield from layer(module, (f"{source}.pw_conv1",), f"{target}.expand")
    yield from plain(module, f"{source}.act", f"{target}.activation", ("alpha",))
    yield from plain(module, f"{source}.grn", f"{target}.response_norm", ("gamma", "beta"))
    yield from layer(module, (f"{source}.pw_conv2",), f"{target}.reduce")


def _units(module: str, source: str, target: str, count: int) -> Iterator[Entry]:
    for j in range(count):
        yield from _unit(module, f"{source}.{j}", f"{target}.{j}")


def _transformer(module: str, source: str, target: str, layers: int) -> Iterator[Entry]:
    for part in (0, 2, 4):
        yield from plain(module, f"{source}.dynamic_pos_bias.mlp.{part}", f"{target}.position_bias.mlp.{part}")
    for j in range(layers):
        attention, forward = f"{source}.layers.{j}.0", f"{source}.layers.{j}.1"
        ours = f"{target}.layers.{j}"
        yield from plain(module, f"{attention}.norm", f"{ours}.attention.norm")
        yield from plain(module, f"{attention}.to_qkv", f"{ours}.attention.to_qkv", ("weight",))
        yield from plain(module, f"{attention}.to_out", f"{ours}.attention.to_out", ("weight",))
        yield from plain(module, f"{forward}.0", f"{ours}.feed_forward.norm")
        yield from plain(module, f"{forward}.1", f"{ours}.feed_forward.expand", ("weight",))
        yield from plain(module, f"{forward}.4", f"{ours}.feed_forward.reduce", ("weight",))


def _encoder(config: L3ACConfig) -> Iterator[Entry]:
    ours = "encoder.convolutions"
    branches = tuple(f"blocks.0.blocks.{k}.1" for k in range(5))
    yield from layer("encoder", branches, f"{ours}.waveform.conv")
    yield from layer("encoder", ("blocks.0.conv_1",), f"{ours}.waveform.expand")
    yield from layer("encoder", ("blocks.0.conv_2",), f"{ours}.waveform.project")
    rates = len(config.encoder_rates)
    for i in range(rates):
        stage = f"{ours}.stages.{i}"
        yield from _units("encoder", f"blocks.{1 + 2 * i}", f"{stage}.units", config.encoder_depths[i])
        yield from layer("encoder", (f"blocks.{2 + 2 * i}.0",), f"{stage}.down")
        yield from plain("encoder", f"blocks.{2 + 2 * i}.1", f"{stage}.norm")
    yield from _units("encoder", f"blocks.{1 + 2 * rates}", f"{ours}.units", config.encoder_depths[-1])
    yield from layer("encoder", (f"blocks.{2 + 2 * rates}",), f"{ours}.project")


def _decoder(config: L3ACConfig) -> Iterator[Entry]:
    ours = "decoder.convolutions"
    yield from layer("decoder", ("blocks.0",), f"{ours}.project")
    rates = len(config.decoder_rates)
    for i in range(rates):
        stage, enhance = f"{ours}.stages.{i}", f"blocks.{2 + 3 * i}"
        yield from _units("decoder", f"blocks.{1 + 3 * i}", f"{stage}.units", config.decoder_depths[i])
        for k in range(len(TEConv.kernels)):
            yield from layer("decoder", (f"{enhance}.blocks.{k}.1",), f"{stage}.enhance.convs.{k}")
        yield from plain("decoder", f"{enhance}.merge_layer.0", f"{stage}.enhance.norm")
        yield from plain("decoder", f"{enhance}.merge_layer.1", f"{stage}.enhance.merge")
        yield from layer("decoder", (f"blocks.{3 + 3 * i}.0",), f"{stage}.point")
        yield from plain("decoder", f"blocks.{3 + 3 * i}.2", f"{stage}.norm")
    last = f"blocks.{1 + 3 * rates}.block"
    for j in range(3):
        source, target = f"{last}.0.{j}.module.block", f"{ours}.residuals.{j}"
        yield from plain("decoder", f"{source}.0", f"{target}.activation", ("alpha",))
        yield from layer("decoder", (f"{source}.1",), f"{target}.conv")
        yield from plain("decoder", f"{source}.2", f"{target}.point_activation", ("alpha",))
        yield from layer("decoder", (f"{source}.3",), f"{target}.point")
    yield from plain("decoder", f"{last}.1", f"{ours}.activation", ("alpha",))
    yield from layer("decoder", (f"{last}.2",), f"{ours}.to_wave")


def _transformers(config: L3ACConfig) -> Iterator[Entry]:
    encoder, decoder = "encoder.transformer", "decoder.transformer"
    first, last = config.encoder_layers[0], config.encoder_layers[-1]
    yield from _transformer("en_encoder", "local_trans", f"{encoder}.coarse", last)
    yield from _transformer("en_decoder", "local_trans", f"{decoder}.coarse", config.decoder_layers[0])
    if config.compress_rate > 1:
        yield from _transformer("en_encoder", "down_trans.trans", f"{encoder}.fine", first)
        yield from layer("en_encoder", ("down_trans.down_layer",), f"{encoder}.down")
        yield from _transformer("en_decoder", "up_trans.trans", f"{decoder}.fine", config.decoder_layers[-1])


def entries(config: L3ACConfig) -> list[Entry]:
    """Return the entries of all published tensors of a network, each tensor once."""
    quantizer = [
        *plain("quantizer", "project_in", "quantizer.project_in"),
        *plain("quantizer", "project_out", "quantizer.project_out"),
    ]
    return [*_encoder(config), *quantizer, *_decoder(config), *_transformers(config)]


def published(config: L3ACConfig, model: nn.Module) -> Published:
    """Return the published state of a network, with shapes derived from our parameters."""
    parameters = dict(model.named_parameters())
    shapes: dict[str, dict[str, tuple[int, ...]]] = {module: {} for module in MODULES}
    for entry in entries(config):
        for name, shape in shape_of_sources(entry, parameters[entry.target]).items():
            shapes[entry.module][name] = shape if entry.normed else _published_vector_shape(name, shape)
    constants = {}
    if config.pad_to_window and config.compress_rate > 1:
        constants["en_encoder"] = {"cache_token": torch.zeros(1, 0, config.feature_dim)}
    return Published(entries(config), shapes, constants)


def _published_vector_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a published vector, which has broadcast axes where our parameter has one axis."""
    part = name.rsplit(".", 1)[-1]
    if part == "alpha":
        return (1, 1, *shape) if ".act." in name else (1, *shape, 1)
    if part in ("gamma", "beta"):
        return (1, *shape)
    return (*shape, 1) if "merge_layer.1.weight" in name else shape
