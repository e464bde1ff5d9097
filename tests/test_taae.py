"""What is special to TAAE: sizes, levels chosen afterwards, residual stages, sliding attention, the causal variant."""

from __future__ import annotations

import math

import pytest
import torch
from networks import TINY, TINY_TAAE, speech_like, tiny
from torch.nn.functional import scaled_dot_product_attention

from l3ac_tokenizer import (
    L3ACConfig,
    L3ACModel,
    StreamingDecoder,
    StreamingEncoder,
    TAAEConfig,
    TAAEModel,
    preset_config,
)
from l3ac_tokenizer.inference import decode_clips, encode_clips
from l3ac_tokenizer.modeling.taae.attention import BLOCK, attend_in_window, rotate
from l3ac_tokenizer.quantization import RandomLevelsFSQ, digits_to_ids, ids_to_digits, residual_levels, split_ids

# hop, latent dimensions, parameters with weight-norm magnitudes.
PUBLISHED = {
    "taae-950m": (640, 6, 953_319_756),
    "taae-540m": (640, 6, 537_263_436),
    "taae-240m": (640, 6, 239_696_204),
    "taae-950m-12hz5": (1280, 8, 961_724_752),
    "taae-tiny": (640, 6, 3_351_116),
    "taae-tiny-12hz5": (1280, 8, 2_427_984),
}


@pytest.fixture
def taae():
    return tiny("tiny-taae")


@pytest.fixture
def clip():
    return speech_like(1000)[None, None]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_has_the_published_rates_and_number_of_parameters(preset):
    hop, dimensions, parameters = PUBLISHED[preset]
    config = preset_config(preset)
    assert (config.sampling_rate, config.hop_length, len(config.levels)) == (16_000, hop, dimensions)
    with torch.device("meta"):
        model = TAAEModel(config)
        model.apply_weight_norm()
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_tiny_network_is_below_a_million_parameters_and_the_small_one_below_twenty(taae):
    assert taae.num_parameters() < 1_000_000
    with torch.device("meta"):
        small = TAAEModel(preset_config("taae-small"))
    assert small.num_parameters() == 13_782_534 and small.config.frame_rate == 50


@pytest.mark.parametrize(
    ("preset", "stages", "level", "bits"),
    [
        ("taae-950m", 1, 3, 250),
        ("taae-950m", 1, 5, 350),
        ("taae-950m", 1, 6, 400),
        ("taae-950m", 1, 9, 500),
        ("taae-950m", 1, 17, 625),
        ("taae-950m", 2, 5, 700),
        ("taae-950m", 4, 3, 1000),
        ("taae-950m-12hz5", 1, 4, 200),
        ("taae-950m-12hz5", 2, 3, 325),
        ("taae-950m-12hz5", 4, 3, 650),
    ],
)
def test_bits_a_second_are_those_of_the_paper(preset, stages, level, bits):
    dimensions = PUBLISHED[preset][1]
    config = preset_config(preset, levels=[level] * dimensions, num_quantizers=stages)
    assert config.whole_bits_per_second == bits
    exact = config.frame_rate * stages * dimensions * math.log2(level)
    assert config.bits_per_second == pytest.approx(exact)
    assert bits - config.frame_rate * stages < exact <= bits


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depths", [8]),
        ("strides", [1, 3]),
        ("hidden_size", 1001),
        ("attention_window", [63]),
        ("attention_window", [0, 64]),
        ("causal", True),
        ("training_levels", []),
        ("levels", [1, 6]),
        ("num_quantizers", 0),
    ],
)
def test_a_bad_value_is_refused_by_the_field_s_name(field, value):
    with pytest.raises(Exception, match="attention_window" if field == "causal" else field):
        TAAEConfig(**{field: value})


@torch.no_grad()
def test_levels_are_chosen_afterwards_and_saved(taae, clip, tmp_path):
    latents = taae.encode(clip).latents
    for levels in ([6, 6, 6], [17, 3, 4]):
        taae.set_levels(levels)
        encoded = taae.encode(clip)
        assert torch.equal(encoded.latents, latents)
        digits = ids_to_digits(encoded.audio_codes[:, 0], levels)
        steps = torch.tensor(levels) - 1
        assert torch.equal(digits, torch.round((latents.tanh() + 1) * steps / 2).long())
        assert taae.config.codebook_size == math.prod(levels)
    taae.save_pretrained(tmp_path)
    loaded = TAAEModel.from_pretrained(tmp_path)
    assert list(loaded.config.levels) == [17, 3, 4]
    assert torch.equal(loaded.encode(clip).audio_codes, encoded.audio_codes)
    assert list(TAAEModel.from_pretrained(tmp_path, levels=[6, 6, 6]).quantizer.levels) == [6, 6, 6]
    with pytest.raises(ValueError, match="has 2 entries; give one for each of the 3 latent dimensions"):
        taae.set_levels([6, 6])


@torch.no_grad()
@pytest.mark.parametrize(("grid", "stages", "level"), [(17, 2, 5), (17, 4, 3), (5, 2, 3), (9, 3, 3)])
def test_residual_stages_say_the_nearest_point_of_their_grid(taae, clip, grid, stages, level):
    taae.set_levels([grid] * 3)
    whole = taae.encode(clip)
    taae.decompose(stages)
    assert taae.config.num_quantizers == stages and list(taae.config.levels) == [level] * 3
    parts = taae.encode(clip)
    assert parts.audio_codes.shape == (1, stages, whole.audio_codes.shape[2])
    assert parts.audio_codes.max() < taae.config.codebook_size == level**3
    # The digit of the grid is a fixed sum of the stages' digits.
    digits = ids_to_digits(parts.audio_codes, [level] * 3)[0]  # (K, N, L)
    radix = (level - 1) ** torch.arange(stages - 1, -1, -1)
    offset = ((level - 1) * radix.sum() - (grid - 1)) // 2
    joined = (digits * radix[:, None, None]).sum(0) - offset
    assert torch.equal(digits_to_ids(joined, [grid] * 3), whole.audio_codes[0, 0])
    audio = taae.decode(parts.audio_codes).audio_values
    taae.decompose(1)
    assert torch.allclose(audio, taae.decode(whole.audio_codes).audio_values, atol=1e-5)


@torch.no_grad()
def test_ids_of_frames_and_of_stages_are_the_same_digits(taae, clip):
    taae.set_levels([5] * 3)
    taae.decompose(2)
    codes = taae.encode(clip).audio_codes
    (frames,) = encode_clips(taae, [clip[0, 0].numpy()])
    streams = split_ids(torch.from_numpy(frames), taae.config.frame_levels, 2)
    assert torch.equal(streams.T, codes[0])
    (audio,) = decode_clips(taae, [frames], [1000], "clip")
    whole = taae.decode(codes, num_samples=1000).audio_values[0, 0]
    assert torch.allclose(torch.from_numpy(audio), whole, atol=1e-5)
    encoder, decoder = StreamingEncoder(taae), StreamingDecoder(taae)
    ids = torch.cat([*encoder.push(clip[0]), *encoder.flush()])
    assert torch.equal(ids, torch.from_numpy(frames))
    samples = torch.cat([*decoder.push(ids[None]), *decoder.flush()])
    assert torch.allclose(samples[:1000], whole, atol=1e-4)


@torch.no_grad()
def test_sums_beyond_one_are_clipped_where_asked_to():
    codes = {}
    for clip in (False, True):
        fsq = RandomLevelsFSQ([5] * 2, 0.5, [5], num_quantizers=2, clip=clip)
        highest = torch.tensor([25**2 - 1])
        codes[clip] = fsq.ids_to_values(highest)
    assert codes[False].tolist() == [[1.25, 1.25]] and codes[True].tolist() == [[1.0, 1.0]]


@torch.no_grad()
def test_levels_of_l3ac_decompose_where_they_are_a_power_and_one():
    clip = speech_like(1000)[None, None]
    torch.manual_seed(1)
    model = L3ACModel(L3ACConfig(**{**TINY, "levels": [9, 5, 17]})).eval()
    whole = model.encode(clip)
    audio = model.decode(whole.audio_codes).audio_values
    with pytest.raises(ValueError, match="9 levels cannot be decomposed into 2 residual stages"):
        model.decompose(2)
    model = L3ACModel(L3ACConfig(**{**TINY, "levels": [17, 5, 5]})).eval()
    whole = model.encode(clip)
    audio = model.decode(whole.audio_codes).audio_values
    model.decompose(2)
    assert list(model.config.levels) == [5, 3, 3]
    assert torch.allclose(model.decode(model.encode(clip).audio_codes).audio_values, audio, atol=1e-5)


def test_seven_levels_and_the_rounding_of_sqcodec_do_not_decompose():
    assert residual_levels([9, 9], 3) == [3, 3]
    with pytest.raises(ValueError, match="7 levels cannot be decomposed into 2 residual stages"):
        residual_levels([17, 7], 2)
    with torch.device("meta"):
        of_9_and_7 = L3ACModel(L3ACConfig.from_preset("l3ac-3k"))
        sqcodec = L3ACModel(L3ACConfig.from_preset("sqcodec-12k", levels=[9] * 6))
    with pytest.raises(ValueError, match="7 levels"):
        of_9_and_7.decompose(3)
    with pytest.raises(ValueError, match="num_quantizers"):
        sqcodec.decompose(3)
    assert sqcodec.config.num_quantizers == 1


def test_training_draws_levels_and_noise_for_each_item():
    fsq = RandomLevelsFSQ([6] * 4, 0.5, [5, 9, 17]).train()
    latents = torch.randn(3000, 7, 4)
    bounded = latents.tanh()
    seen = fsq.straight_through(latents)
    distance = (seen - bounded).abs()

    def on_grid(level):
        scaled = (seen + 1) / 2 * (level - 1)
        return ((scaled - scaled.round()).abs() < 1e-3).flatten(1).all(dim=1)

    rounded = on_grid(17)  # the grids of 5 and 9 levels lie in that of 17
    assert rounded.float().mean() == pytest.approx(0.5, abs=0.04)
    shares = [on_grid(level).float().mean() for level in (5, 9, 17)]
    assert [float(share) for share in shares] == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.04)
    farthest = distance[~rounded].flatten(1).amax(dim=1)
    assert farthest.max() <= 1 / 4 + 1e-6  # half a step of five levels
    assert (farthest < 1 / 16).float().mean() == pytest.approx(1 / 3, abs=0.05)


def test_the_gradient_is_that_of_tanh():
    fsq = RandomLevelsFSQ([6] * 4, 0.5, [5, 9, 17]).train()
    latents = torch.randn(5, 7, 4, requires_grad=True)
    fsq.straight_through(latents).sum().backward()
    assert torch.allclose(latents.grad, 1 - latents.detach().tanh().square(), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 5, BLOCK, 2 * BLOCK + 9])
def test_attention_in_blocks_is_attention_under_a_mask(length):
    before, after = 7, 4
    q, k, v = torch.randn(3, 2, length, 2, 8, dtype=torch.float64).unbind()
    lengths = torch.tensor([length, max(1, length - 6)])
    inside = torch.arange(length) < lengths[:, None]

    def padded(x):
        return torch.nn.functional.pad(x, (0, 0, 0, 0, before, after))

    around = torch.nn.functional.pad(inside, (before, after))
    attended = attend_in_window(q, padded(k), padded(v), around, before, after)
    place = torch.arange(length)
    distance = place - place[:, None]
    seen = (distance >= -before) & (distance <= after) & (inside[:, None] | (distance == 0))
    wanted = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), seen[:, None]).transpose(1, 2)
    assert torch.allclose(attended, wanted, atol=1e-12)


def test_rotated_scores_depend_on_distances_alone_however_far_the_stream():
    q, k = torch.randn(2, 1, 6, 1, 64).unbind()
    here = torch.arange(6)[None]
    scores = [
        torch.einsum("bqhe,bkhe->bqk", rotate(q, here + start), rotate(k, here + start)) for start in (0, 3, 10_000_000)
    ]
    assert torch.allclose(scores[0], scores[1], atol=1e-4) and torch.allclose(scores[0], scores[2], atol=1e-4)
    assert torch.equal(rotate(q, here)[..., 32:], q[..., 32:])


@torch.no_grad()
def test_a_causal_network_sees_no_later_sample_and_decodes_no_later_id():
    model, hop, frame = tiny("tiny-taae-causal").double(), 12, 9
    clip = speech_like(30 * hop).double()[None, None]
    other = clip.clone()
    other[..., hop * frame :] += 0.5
    before, after = (model.encode(x).latents for x in (clip, other))
    assert torch.equal(before[:, :frame], after[:, :frame]) and not torch.equal(before[:, frame], after[:, frame])
    ids = model.encode(clip).audio_codes
    changed = ids.clone()
    changed[..., frame:] = (ids[..., frame:] + 1) % 45
    first, second = (model.decode(x).audio_values for x in (ids, changed))
    assert (first - second)[..., : hop * frame].abs().max() < 1e-12
    assert (first - second)[..., hop * frame : hop * (frame + 1)].abs().max() > 0
    assert (model.encoder_lookahead, model.decoder_lookahead) == (0, 0)


def test_the_causal_variant_of_the_paper_s_preset_has_a_latency_of_forty_milliseconds_and_the_same_weights():
    causal = preset_config("taae-950m", causal=True, attention_window=[63, 0])
    with torch.device("meta"):
        model, published = TAAEModel(causal), TAAEModel(preset_config("taae-950m"))
        latency = causal.hop_length + StreamingEncoder(model).latency + model.decoder_lookahead
    assert latency / causal.sampling_rate == 0.040
    shapes = [{name: tuple(p.shape) for name, p in one.named_parameters()} for one in (model, published)]
    assert shapes[0] == shapes[1]


def test_a_checkpoint_becomes_causal_by_its_configuration(taae, clip, tmp_path):
    taae.save_pretrained(tmp_path)
    causal = TAAEModel.from_pretrained(tmp_path, causal=True, attention_window=[7, 0])
    assert causal.weights_digest() == taae.weights_digest()
    assert causal.encoder_lookahead == 0
    assert not torch.equal(causal.encode(clip).latents, taae.encode(clip).latents)


def test_gradient_checkpointing_changes_no_gradient(taae):
    batch = torch.stack([speech_like(300, seed) for seed in range(2)])[:, None]
    mask = torch.ones_like(batch)
    mask[1, :, 200:] = 0
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            taae.activation_checkpointing_enable()
        taae.train().zero_grad()
        torch.manual_seed(0)
        taae(batch, mask).audio_values.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in taae.named_parameters()})
    assert all(torch.allclose(gradients[0][name], grad, atol=1e-8) for name, grad in gradients[1].items())
    assert all(grad.any() for name, grad in gradients[0].items() if "k_norm.bias" not in name)


def test_configurations_of_fine_tuning_keep_what_they_do_not_name():
    assert TAAEConfig().to_diff_dict() == preset_config("taae-950m").to_diff_dict()
    assert {**TINY_TAAE}.items() <= TAAEConfig(**TINY_TAAE).to_dict().items()
