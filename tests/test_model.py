"""What users of transformers expect of a model: saving, types, devices, compilation, export, gradients, errors."""

from __future__ import annotations

import json
import re

import pytest
import torch
from networks import MIXED_NETWORKS, TINY, TINY_NETWORKS, speech_like, tiny, tiny_streams
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from l3ac_tokenizer import CodecFeatureExtractor, L3ACConfig, L3ACModel
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.quantization import digits_to_values, ids_to_digits


@pytest.fixture(params=TINY_NETWORKS)
def codec(request):
    """The tiny networks of all families, which have the same hop and levels."""
    return tiny(request.param)


@pytest.fixture(params=[*TINY_NETWORKS, *MIXED_NETWORKS])
def any_codec(request):
    """The same, and those with ends of two kinds."""
    return tiny(request.param)


@pytest.fixture
def clip():
    return speech_like(1000)[None, None]


@pytest.fixture(scope="module", params=["tiny", "tiny-light"])
def saved(request, tmp_path_factory):
    """A checkpoint directory as they are bundled: float16 weights that are loaded in float32."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny(request.param)
    model.calibrate_time_norm([speech_like(3000)])
    model.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    halves = {name: value.half() if name in dict(model.named_parameters()) else value for name, value in state.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    CodecFeatureExtractor().save_pretrained(folder)
    return folder


def test_a_checkpoint_of_float16_weights_loads_in_float32_with_nothing_missing(saved):
    model, info = L3ACModel.from_pretrained(saved, output_loading_info=True)
    assert model.dtype == torch.float32
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@torch.no_grad()
def test_saving_again_changes_neither_digest_nor_ids(saved, tmp_path, clip):
    first = L3ACModel.from_pretrained(saved)
    first.save_pretrained(tmp_path)
    second = L3ACModel.from_pretrained(tmp_path)
    assert second.weights_digest() == first.weights_digest()
    assert torch.equal(first.encode(clip).audio_codes, second.encode(clip).audio_codes)
    ids = first.encode(clip).audio_codes
    frozen = [model.decode(ids, time_norm="frozen").audio_values for model in (first, second)]
    assert torch.equal(*frozen)


@torch.no_grad()
def test_the_digest_names_the_weights(saved):
    model = L3ACModel.from_pretrained(saved)
    before = model.weights_digest()
    assert len(before) == 64 and int(before, 16) >= 0
    model.calibrate_time_norm([speech_like(2000, 3)])
    assert model.weights_digest() == before
    model.decoder.output_layer.bias += 1e-3
    assert model.weights_digest() != before


@torch.no_grad()
def test_the_digests_cover_every_tensor_that_makes_audio_and_ids(any_codec):
    codec, audio = any_codec, speech_like(1000)[None, None]
    latents, weights, encoder = codec.encode(audio).latents, codec.weights_digest(), codec.encoder_digest()
    decide_ids = set()
    for name, tensor in codec.state_dict().items():
        before = tensor.clone()
        tensor.copy_(tensor * 1.5 + torch.rand(tensor.shape))
        assert (codec.weights_digest() != weights) != ("running_" in name or "num_clips" in name), name
        if not torch.equal(codec.encode(audio).latents, latents):
            decide_ids.add(name)
        assert (codec.encoder_digest() != encoder) == (name in decide_ids), name
        tensor.copy_(before)
    assert decide_ids and codec.weights_digest() == weights


def test_a_feature_extractor_and_a_model_of_one_directory_fit_together(saved):
    extractor, model = CodecFeatureExtractor.from_pretrained(saved), L3ACModel.from_pretrained(saved)
    inputs = extractor([speech_like(700).numpy(), speech_like(333).numpy()], sampling_rate=16_000, return_tensors="pt")
    codes = model.encode(**inputs)
    assert codes.audio_codes_mask.sum(dim=-1).flatten().tolist() == [59, 28]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_with_the_quantizer_in_float32(saved, clip, dtype):
    model = L3ACModel.from_pretrained(saved, dtype=dtype)
    assert model.dtype == dtype
    out = model(clip)
    assert out.latents.dtype == torch.float32
    assert out.audio_values.dtype == dtype and out.audio_values.isfinite().all()
    full = L3ACModel.from_pretrained(saved)
    features = model._encode_features(clip.transpose(1, 2).to(dtype), None, None)
    assert torch.equal(
        model.quantizer.project_in(features),
        torch.nn.functional.linear(
            features.float(),
            model.quantizer.project_in.weight.float(),
            model.quantizer.project_in.bias.float(),
        ),
    )
    assert (out.audio_values.float() - full.decode(out.audio_codes, num_samples=1000).audio_values).abs().mean() < 0.05


def test_it_loads_by_device_map(saved, clip):
    model = L3ACModel.from_pretrained(saved, device_map="cpu")
    assert model.encode(clip).audio_codes.shape == (1, 1, 84)


def test_meta_construction_and_loading_leave_no_tensor_behind(saved):
    with torch.device("meta"):
        L3ACModel(L3ACConfig.from_preset("l3ac-1k"))
    assert not any(p.is_meta for p in L3ACModel.from_pretrained(saved).state_dict().values())


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("codec", ["tiny", "tiny-light", "tiny-taae"], indirect=True)
@torch.no_grad()
def test_a_compiled_model_gives_the_same_ids_and_audio_in_one_graph(codec, backend):
    batch = torch.stack([speech_like(300, seed)[None] for seed in range(2)])
    mask = torch.ones(2, 1, 300, dtype=torch.bool)
    mask[1, 0, 200:] = False
    eager, eager_masked = codec(batch), codec(batch, mask)
    compiled = torch.compile(codec, backend=backend, fullgraph=True, dynamic=False)
    for out, wanted in ((compiled(batch), eager), (compiled(batch, mask), eager_masked)):
        changed = out.audio_codes[:, 0] != wanted.audio_codes[:, 0]
        assert not (changed & ~codec.quantizer.near_boundary(wanted.latents)).any()
        assert (out.audio_values - wanted.audio_values).abs().max() < 1e-4


class Encoding(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_values):
        return self.model.encode(input_values).audio_codes


class Decoding(Encoding):
    def forward(self, audio_codes):
        return self.model.decode(audio_codes).audio_values


@pytest.mark.parametrize("codec", ["tiny", "tiny-light-2khz", "tiny-taae"], indirect=True)
@torch.no_grad()
def test_encode_and_decode_export_with_dynamic_length_and_batch(codec):
    hop = codec.config.hop_length
    batch, ids = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("ids", min=1)
    samples = torch.export.Dim("samples", min=hop + 1)  # torch.export takes an axis of one id for a constant
    example = torch.stack([speech_like(20 * hop + 5, seed)[None] for seed in range(2)])
    encoder = torch.export.export(
        Encoding(codec),
        (example,),
        dynamic_shapes={"input_values": {0: batch, 2: samples}},
        prefer_deferred_runtime_asserts_over_guards=True,  # its solver cannot prove that n ids are fewer than n²
    ).module()
    codes = codec.encode(example).audio_codes
    decoder = torch.export.export(
        Decoding(codec), (codes,), dynamic_shapes={"audio_codes": {0: batch, 2: ids}}
    ).module()
    for rows, length in ((1, hop + 1), (3, 2 * hop), (2, 7 * hop + 3), (1, 90 * hop)):
        audio = torch.stack([speech_like(length, seed)[None] for seed in range(rows)])
        wanted = codec.encode(audio)
        changed = encoder(audio)[:, 0] != wanted.audio_codes[:, 0]
        assert not (changed & ~codec.quantizer.near_boundary(wanted.latents)).any()
        decoded = codec.decode(wanted.audio_codes).audio_values
        assert (decoder(wanted.audio_codes) - decoded).abs().max() < 1e-4
    work = []
    for length in (250, 500):
        with FlopCounterMode(display=False) as counter:
            decoder(torch.zeros(1, 1, length, dtype=torch.int64))
        work.append(counter.get_total_flops())
    assert work[1] < 2.1 * work[0], "attention takes the square of the length"


@pytest.mark.parametrize("codec", ["tiny", "tiny-light"], indirect=True)
def test_gradients_reach_every_parameter_through_the_noised_quantizer(codec, clip):
    codec.train()
    out = codec(clip)
    (out.audio_values - clip).abs().mean().backward()
    untouched = [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.any()]
    # The time normalisation takes away what these add.
    assert all("enhance.convs" in name and name.endswith("bias") for name in untouched), untouched


@torch.no_grad()
def test_weight_norm_on_and_off_again_leaves_the_function_as_it_was(codec, clip):
    before = codec(clip).audio_values
    codec.apply_weight_norm()
    assert (codec(clip).audio_values - before).abs().max() < 1e-5
    codec.remove_weight_norm()
    assert (codec(clip).audio_values - before).abs().max() < 1e-5


@torch.no_grad()
def test_latents_decode_without_rounding(codec, clip):
    encoded = codec.encode(clip)
    codes = digits_to_values(ids_to_digits(encoded.audio_codes[:, 0], TINY["levels"]), TINY["levels"])
    rounded = codec.decode(encoded.audio_codes).audio_values
    on_levels = codec.decode(latents=torch.atanh(codes * (1 - 1e-6))).audio_values
    between = codec.decode(latents=encoded.latents).audio_values
    assert (on_levels - rounded).abs().max() < 1e-3
    assert (between - rounded).abs().max() > 1e-2


@torch.no_grad()
def test_frozen_time_normalisation_needs_statistics_and_says_how_to_get_them(tiny_model, clip):
    ids = tiny_model.encode(clip).audio_codes
    with pytest.raises(ValueError, match="calibrate_time_norm"):
        tiny_model.decode(ids, time_norm="frozen")
    with pytest.raises(ValueError, match="at least one"):
        tiny_model.calibrate_time_norm([])
    assert tiny_model.calibrate_time_norm([speech_like(2000)]) == 1
    assert tiny_model.decode(ids, time_norm="frozen").audio_values.isfinite().all()


@torch.no_grad()
def test_frozen_statistics_of_a_single_clip_are_those_of_the_clip(tiny_model, clip):
    model = tiny_model.double()
    model.calibrate_time_norm([clip[0, 0].double()])
    ids = model.encode(clip.double()).audio_codes
    assert torch.allclose(model.decode(ids, time_norm="frozen").audio_values, model.decode(ids).audio_values, atol=1e-8)


@pytest.mark.parametrize("codec", ["tiny-light", "tiny-taae"], indirect=True)
@torch.no_grad()
def test_without_time_normalization_both_modes_are_the_same_and_calibration_reads_no_clip(codec, clip):
    def unread():
        yield pytest.fail("a clip was read")

    assert codec.calibrate_time_norm(unread()) == 0
    ids = codec.encode(clip).audio_codes
    frozen, by_clip = (codec.decode(ids, time_norm=mode).audio_values for mode in ("frozen", "clip"))
    assert torch.equal(frozen, by_clip)


@torch.no_grad()
def test_decoding_in_iterated_pieces_is_decoding_the_whole(codec, clip):
    model = codec.double()
    ids = model.encode(clip.double()).audio_codes
    chunks = list(model.iter_decode(ids, chunk_seconds=0.01))
    assert len(chunks) > 3
    assert (torch.cat(chunks, dim=-1) - model.decode(ids).audio_values).abs().max() < 1e-9


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
def test_decoding_with_the_padding_mask_gives_the_audio_of_forward(codec, left):
    batch, mask = torch.zeros(3, 1, 310), torch.zeros(3, 1, 310)
    for row, samples in enumerate((310, 1, 133)):
        place = slice(310 - samples, 310) if left else slice(samples)
        batch[row, 0, place], mask[row, 0, place] = speech_like(samples, row), 1
    whole, encoded = codec(batch, mask), codec.encode(batch, mask)
    for codes_mask in (encoded.audio_codes_mask, None):
        for chunk_seconds in (None, 0.005):
            decoded = codec.decode(
                encoded.audio_codes, codes_mask, padding_mask=mask, chunk_seconds=chunk_seconds
            ).audio_values
            assert decoded.shape == batch.shape
            assert (decoded - whole.audio_values).abs().max() < 1e-4
    unpadded = codec.decode(codec.encode(batch[:1]).audio_codes, padding_mask=torch.ones(1, 310)).audio_values
    assert torch.equal(unpadded, codec.decode(codec.encode(batch[:1]).audio_codes, num_samples=310).audio_values)


@torch.no_grad()
def test_what_encode_returns_is_what_decode_takes(codec, clip):
    encoded = codec.encode(clip)
    assert torch.equal(codec.decode(**encoded).audio_values, codec.decode(encoded.audio_codes).audio_values)


@torch.no_grad()
def test_forward_decodes_ids(codec, clip):
    codes = codec.encode(clip).audio_codes
    output = codec(audio_codes=codes)
    assert output.audio_codes is codes
    assert torch.equal(output.audio_values, codec.decode(codes).audio_values)
    cut, _ = codec(audio_codes=codes, padding_mask=torch.ones(1, 1000), return_dict=False)
    assert torch.equal(cut, output.audio_values[..., :1000])


@torch.no_grad()
def test_the_encoded_length_is_the_number_of_ids(codec):
    lengths = (1, 11, 12, 13, 240, 241)
    counts = [codec.encode(speech_like(length)[None, None]).audio_codes.shape[-1] for length in lengths]
    assert [codec.get_encoded_length(length) for length in lengths] == counts
    assert codec.get_encoded_length(torch.tensor(lengths)).tolist() == counts


@torch.no_grad()
def test_the_features_of_ids_are_what_the_decoder_decodes(codec, clip):
    codes = codec.encode(clip).audio_codes
    features = codec.codes_to_features(codes)
    assert features.shape[:2] == (1, codes.shape[-1])
    assert torch.equal(codec.decoder(features, WholeSpan()).transpose(1, 2), codec.decode(codes).audio_values)
    assert torch.equal(codec.quantizer.from_codes(codes), features)


@torch.no_grad()
def test_ids_become_lists_without_padding():
    batch, mask = torch.zeros(2, 1, 100), torch.ones(2, 1, 100)
    batch[0, 0], batch[1, 0, :30], mask[1, 0, 30:] = speech_like(100), speech_like(30, 1), 0
    codec = tiny("tiny")
    encoded = codec.encode(batch, mask)
    assert encoded.to_list() == [encoded.audio_codes[0, 0].tolist(), encoded.audio_codes[1, 0, :3].tolist()]
    assert codec(batch, mask).to_list() == encoded.to_list()
    assert codec(batch[:1]).to_list() == encoded.to_list()[:1]
    two = tiny_streams().encode(batch, mask)
    assert two.to_list() == [two.audio_codes[0].tolist(), two.audio_codes[1, :, :3].tolist()]


def bad_calls():
    ids = torch.zeros(2, 1, 5, dtype=torch.int64)
    wave = torch.zeros(2, 1, 50)
    gap = torch.ones(2, 50)
    gap[0, 20] = 0
    empty = torch.ones(2, 1, 50)
    empty[1] = 0
    late = torch.ones(2, 5)
    late[0, 0] = 0
    short = torch.ones(2, 60)
    short[1, 49:] = 0
    return {
        "(2, 2, 50)": lambda m: m.encode(torch.zeros(2, 2, 50)),
        "(50,)": lambda m: m.encode(torch.zeros(50)),
        "no samples": lambda m: m.encode(torch.zeros(1, 1, 0)),
        "torch.int16": lambda m: m.encode(torch.zeros(1, 1, 50, dtype=torch.int16)),
        "Row 1": lambda m: m.encode(wave, empty),
        "must be contiguous": lambda m: m.encode(wave, gap),
        "`padding_mask` has shape": lambda m: m.encode(wave, torch.ones(2, 49)),
        "`chunk_seconds` is 0": lambda m: m.encode(wave, chunk_seconds=0),
        "either": lambda m: m.decode(),
        "(2, 5)": lambda m: m.decode(ids[:, 0]),
        "at least one frame": lambda m: m.decode(ids[..., :0]),
        "torch.float32": lambda m: m.decode(ids.float()),
        "has id 45; .*0 to 44": lambda m: m.decode(ids + 45),
        "has id -1": lambda m: m.decode(ids - 1),
        "padding before a frame": lambda m: m.decode(ids, late),
        "must be 'clip' or 'frozen'": lambda m: m.decode(ids, time_norm="batch"),
        "49 to 60": lambda m: m.decode(ids, num_samples=61),
        "divided by 12": lambda m: m.decode(ids, num_samples=torch.tensor([60, 48])),
        "`padding_mask` has 61 samples.*6 frames.*5": lambda m: m.decode(ids, padding_mask=torch.ones(2, 61)),
        "`padding_mask` has shape (3, 60)": lambda m: m.decode(ids, padding_mask=torch.ones(3, 60)),
        "`num_samples` is [60, 49]": lambda m: m.decode(
            ids, torch.arange(5) < torch.tensor([[5], [4]]), padding_mask=short
        ),
        "`num_samples` or `padding_mask`": lambda m: m.decode(ids, num_samples=60, padding_mask=torch.ones(2, 60)),
        "either `input_values`": lambda m: m(wave, audio_codes=ids),
        "exactly one": lambda m: m(),
        "must be (batch, 1, frames)": lambda m: m.codes_to_features(ids.expand(2, 2, 5)),
        "has id 45": lambda m: m.quantizer.from_codes(ids + 45),
        "`latents` has shape": lambda m: m.decode(latents=torch.zeros(1, 4, 6)),
    }


@pytest.mark.parametrize("message", bad_calls())
def test_a_bad_call_is_refused_in_one_sentence_that_names_the_value(codec, message):
    with pytest.raises(ValueError, match=re.sub(r"[()\[\]]", r"\\\g<0>", message)) as error:
        bad_calls()[message](codec)
    assert "\n" not in str(error.value)


def test_the_config_of_a_checkpoint_asks_for_float32(saved):
    assert json.loads((saved / "config.json").read_text())["dtype"] == "float32"
