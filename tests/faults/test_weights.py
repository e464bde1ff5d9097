"""Weights beside plain ones: offloaded, wrapped, hooked, quantized, parametrized, in half precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from networks import MIXED_NETWORKS, TINY_NETWORKS, speech_like, tiny
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel, FSQEmbedding, StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.modeling import layers
from l3ac_tokenizer.modeling.layers import ConvNeXtBlock

NETWORKS = [*TINY_NETWORKS, *MIXED_NETWORKS]


@pytest.fixture(params=NETWORKS)
def model(request) -> CodecModel:
    model = tiny(request.param)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ConvNeXtBlock):  # at first, the normalization has no effect
                module.response_norm.gamma.fill_(0.3)
                module.response_norm.beta.fill_(0.1)
        model.calibrate_time_norm([speech_like(2000)])
    return model


@torch.no_grad()
def assert_same(model: CodecModel, plain: CodecModel) -> None:
    """Ids and audio of whole clips, forward passes and streams are those of the plain model."""
    clip = speech_like(1500)[None, None]
    ids = plain.encode(clip).audio_codes
    assert torch.equal(model.encode(clip).audio_codes, ids)
    audio = plain.decode(ids).audio_values
    assert (model.decode(ids).audio_values - audio).abs().max() < 1e-5
    assert (model(clip).audio_values - plain(clip).audio_values).abs().max() < 1e-5
    encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
    assert torch.equal(torch.cat([*encoder.push(clip[0]), *encoder.flush()]), ids[0, 0])
    streamed = torch.cat([*decoder.push(ids[0]), *decoder.flush()])
    assert (streamed - plain.decode(ids, time_norm="frozen").audio_values[0, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("where", ["memory", "disk", "decoder on disk"])
def test_offloaded_weights_compute_what_those_in_memory_do(model, where, tmp_path):
    offloaded = copy.deepcopy(model)
    if where == "memory":
        cpu_offload(offloaded, torch.device("cpu"))
    elif where == "disk":
        disk_offload(offloaded, tmp_path / "weights", torch.device("cpu"))
    else:
        model.save_pretrained(tmp_path / "model")
        places = {"encoder": "cpu", "quantizer": "cpu", "decoder": "disk"}
        offloaded = CodecModel.from_pretrained(
            tmp_path / "model", device_map=places, offload_folder=tmp_path / "weights"
        ).eval()
    assert_same(offloaded, model)
    with pytest.raises(ValueError, match="offloaded"):
        offloaded.weights_digest()


class Wrapper(nn.Module):
    """A layer in the place of another, which shows the weight of the one it calls, as adapters do."""

    def __init__(self, base: nn.Linear, factor: float):
        super().__init__()
        self.base = base
        self.factor = factor

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.base(x)


def linear_layers(model: CodecModel) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Linear layers of a network: parent, name, layer."""
    return [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear)
    ]


@torch.no_grad()
def test_a_wrapper_in_the_place_of_any_linear_layer_is_called(model):
    wrapped = copy.deepcopy(model)
    for parent, name, layer in linear_layers(wrapped):
        layer.weight.div_(2)
        if layer.bias is not None:
            layer.bias.div_(2)
        setattr(parent, name, Wrapper(layer, 2.0))
    assert_same(wrapped, model)


@torch.no_grad()
@pytest.mark.parametrize("size", [10_000, 100])
def test_hooks_of_every_layer_are_called_once_with_the_whole_input(model, size, monkeypatch):
    monkeypatch.setattr(layers, "TILE", size)
    hooked, calls = copy.deepcopy(model), {}
    for name, module in hooked.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    clip = speech_like(1500)[None, None]
    hooked.decode(hooked.encode(clip).audio_codes)
    silent = {name for name, module in hooked.named_modules() if not list(module.children()) and name not in calls}
    assert not silent and set(calls.values()) == {1}, silent
    assert_same(hooked, model)


@torch.no_grad()
def test_a_hook_that_changes_an_output_counts(model):
    changed = copy.deepcopy(model)
    clip = speech_like(1500)[None, None]
    ids = model.encode(clip).audio_codes
    for _, _, layer in linear_layers(changed.decoder):
        layer.register_forward_hook(lambda module, inputs, output: 0 * output)
    assert (changed.decode(ids).audio_values - model.decode(ids).audio_values).abs().max() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("way", ["parametrization", "weight norm", "old weight norm"])
def test_parametrized_weights_compute_what_plain_ones_do(model, way):
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    other = copy.deepcopy(model)
    for _, _, layer in linear_layers(other):
        if way == "parametrization":
            layer.weight.div_(2)
            parametrize.register_parametrization(layer, "weight", Doubled())
        elif way == "weight norm":
            parametrizations.weight_norm(layer)
        else:
            nn.utils.weight_norm(layer)
    assert_same(other, model)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_dynamic_quantization_stays_near(model):
    clip = speech_like(1500)[None, None]
    ids = model.encode(clip).audio_codes
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    assert quantized.encode(clip).audio_codes.shape == ids.shape
    assert (quantized.decode(ids).audio_values - model.decode(ids).audio_values).abs().mean() < 0.1
    embedding = torch.ao.quantization.quantize_dynamic(FSQEmbedding((5, 3, 3), 8), {nn.Linear}, dtype=torch.qint8)
    assert embedding(torch.arange(45)).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["to", "loading", "configuration"])
def test_in_half_precision_ids_are_those_of_float32_in_batches_chunks_and_streams(model, dtype, way, tmp_path):
    if way == "configuration":
        config = copy.deepcopy(model.config)
        half = type(model)._from_config(config, dtype=dtype).eval()
        half.load_state_dict(model.state_dict())
    elif way == "to":
        half = copy.deepcopy(model).to(dtype)
    else:
        model.save_pretrained(tmp_path)
        half = CodecModel.from_pretrained(tmp_path, dtype=dtype).eval()
    assert half.dtype == dtype and half.encoder_dtype == torch.float32
    clips = [speech_like(count, count) for count in (1500, 997, 30)]
    alone = [model.encode(clip[None, None]).audio_codes[0, 0] for clip in clips]
    inputs = CodecFeatureExtractor()([clip.numpy() for clip in clips], sampling_rate=16_000, return_tensors="pt")
    batch = half.encode(**inputs)
    for row, (clip, ids) in enumerate(zip(clips, alone, strict=True)):
        stream = StreamingEncoder(half)
        streamed = torch.cat([*stream.push(clip[:333]), *stream.push(clip[333:]), *stream.flush()])
        chunked = half.encode(clip[None, None], chunk_seconds=0.005).audio_codes[0, 0]
        near = model.quantizer.near_boundary(model.encode(clip[None, None]).latents[0])
        assert torch.equal(half.encode(clip[None, None]).audio_codes[0, 0], ids)
        for others in (streamed, chunked, batch.audio_codes[row, 0, batch.audio_codes_mask[row, 0]]):
            assert not ((others != ids) & ~near).any()
    assert half.decode(batch.audio_codes, batch.audio_codes_mask).audio_values.dtype == dtype
    decoder = StreamingDecoder(half)
    assert torch.cat([*decoder.push(alone[0]), *decoder.flush()]).dtype == dtype


def test_double_precision_reaches_every_weight(model):
    assert {tensor.dtype for tensor in model.double().parameters()} == {torch.float64}


# ---------------------------------------------------------------------------------------------- padding, Trainer

LENGTHS = (500, 300, 700, 120)


@pytest.mark.parametrize("form", ["np", "pt", "lists", "rows"])
def test_the_extractor_pads_its_own_output(form):
    extractor = CodecFeatureExtractor()
    clips = [speech_like(length).numpy() for length in LENGTHS]
    wanted = extractor(clips, sampling_rate=16_000, return_tensors="np")
    tensors = "pt" if form == "pt" else "np"
    singles = [dict(extractor(clip, sampling_rate=16_000, return_tensors=tensors)) for clip in clips]
    if form == "lists":
        singles = [{name: value.tolist() for name, value in single.items()} for single in singles]
    if form == "rows":
        singles = [{name: value[0] for name, value in single.items()} for single in singles]
    padded = extractor.pad([{**single, "label": index} for index, single in enumerate(singles)], padding="longest")
    assert isinstance(padded["input_values"], torch.Tensor if form == "pt" else np.ndarray)
    for name in wanted:
        np.testing.assert_array_equal(np.asarray(padded[name]), wanted[name])
    assert np.asarray(padded["label"]).tolist() == [0, 1, 2, 3]
    longer = extractor.pad(padded, padding="max_length", max_length=800, return_tensors="pt")
    assert longer["input_values"].shape == longer["padding_mask"].shape == (4, 1, 800)
    assert longer["padding_mask"].sum(-1).flatten().tolist() == list(LENGTHS)
    cut = extractor.pad(singles, padding="max_length", max_length=400, truncation=True, return_tensors="np")
    assert cut["padding_mask"].sum(-1).flatten().tolist() == [400, 300, 400, 120]


def test_trainer_predicts_clips_of_unequal_length(tmp_path):
    extractor, model = CodecFeatureExtractor(), tiny("tiny")
    rows = [
        {name: value[0] for name, value in extractor(speech_like(length).numpy(), sampling_rate=16_000).items()}
        for length in LENGTHS
    ]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), per_device_eval_batch_size=2, use_cpu=True, report_to=[], disable_tqdm=True
        ),
        data_collator=DataCollatorWithPadding(extractor, return_tensors="pt"),
    )
    latents = torch.from_numpy(trainer.predict(rows).predictions)
    assert latents.shape == (4, -(-max(LENGTHS) // 12), 3)
    for row, length in zip(latents, LENGTHS, strict=True):
        ids = model.encode(speech_like(length)[None, None]).audio_codes[0, 0]
        assert torch.equal(model.quantizer.latents_to_ids(row[: len(ids)]), ids)
    assert "eval_runtime" in trainer.evaluate(rows)
