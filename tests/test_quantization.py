"""Finite scalar quantization: ids and digits, rounding, noise, gradients, precision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l3ac_tokenizer.quantization import (
    FSQ,
    digits_to_ids,
    digits_to_values,
    ids_to_digits,
    join_ids,
    split_ids,
    split_sizes,
)

LEVELS = st.lists(st.sampled_from([3, 5, 7, 9]), min_size=1, max_size=6)
QUANTIZERS = ["super_fsq", "fsq"]


@given(LEVELS, st.randoms())
@settings(deadline=None)
def test_digits_and_ids_are_inverse(levels, rng):
    size = math.prod(levels)
    ids = torch.tensor([0, size - 1] + [rng.randrange(size) for _ in range(20)])
    digits = ids_to_digits(ids, levels)
    assert (digits >= 0).all() and (digits < torch.tensor(levels)).all()
    assert torch.equal(digits_to_ids(digits, levels), ids)


def test_ids_enumerate_the_digits_with_the_first_one_fastest():
    levels = [3, 5, 7]
    digits = torch.tensor([d[::-1] for d in itertools.product(range(7), range(5), range(3))])
    assert torch.equal(digits_to_ids(digits, levels), torch.arange(3 * 5 * 7))


def test_codes_are_spread_evenly_over_minus_one_to_one():
    assert torch.equal(digits_to_values(torch.arange(5)[:, None], [5])[:, 0], torch.tensor([-1.0, -0.5, 0, 0.5, 1]))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_id_is_reached_and_comes_back_through_its_own_latents(quantizer):
    levels = (3, 5, 7)
    fsq = FSQ(8, levels, quantizer, 0.5)
    ids = torch.arange(fsq.codebook_size)
    codes = digits_to_values(ids_to_digits(ids, levels), levels)
    assert torch.equal(fsq.latents_to_ids(torch.atanh(codes * 0.999)), ids)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_the_digit_is_the_published_rounding(quantizer):
    """Reference values in float64, computed by the formulas of the papers."""
    level = 7
    z = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    if quantizer == "super_fsq":
        wanted = torch.round((torch.tanh(z) + 1) / 2 * (level - 1))
    else:
        wanted = torch.round((level - 1) * 1.001 / 2 * torch.tanh(z)) + (level - 1) / 2
    digits = FSQ(4, (level,), quantizer, 0.5).latents_to_ids(z[:, None].float())
    assert (digits != wanted).sum() == 0


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_training_replaces_the_given_share_of_elements_by_noise_of_one_level(quantizer):
    fsq = FSQ(4, (7, 7), quantizer, 0.3).train()
    torch.nn.init.eye_(fsq.project_out.weight)
    torch.nn.init.zeros_(fsq.project_out.bias)
    latents = torch.randn(20_000, 2)
    out = fsq.straight_through(latents)[:, :2].detach()
    rounded = digits_to_values(ids_to_digits(fsq.latents_to_ids(latents), (7, 7)), (7, 7))
    noised = (out - rounded).abs() > 1e-6
    assert noised.float().mean() == pytest.approx(0.3, abs=0.01)
    distance = (out - fsq._to_values(fsq.scale(latents)))[noised].abs()
    half_level = 1 / 7 if quantizer == "super_fsq" else 1 / 6
    assert distance.max() <= half_level + 1e-6
    assert distance.mean() == pytest.approx(half_level / 2, rel=0.02)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_is_that_of_the_unrounded_value(quantizer, training):
    fsq = FSQ(6, (7, 5, 3), quantizer, 0.5).train(training)
    latents = torch.randn(50, 3, requires_grad=True)
    fsq.straight_through(latents).sum().backward()
    through = latents.grad.clone()
    latents.grad = None
    fsq.latents_to_features(latents).sum().backward()
    assert torch.allclose(through, latents.grad, atol=1e-6)


def test_evaluation_decodes_what_the_ids_say():
    fsq = FSQ(6, (7, 5, 3), "super_fsq", 0.5).eval()
    latents = torch.randn(50, 3)
    assert torch.allclose(fsq.straight_through(latents), fsq.ids_to_features(fsq.latents_to_ids(latents)), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_quantizer_computes_in_float32_whatever_its_type_and_autocast(dtype):
    fsq = FSQ(6, (7, 5, 3), "super_fsq", 0.5).eval()
    fsq.load_state_dict({name: value.to(dtype).float() for name, value in fsq.state_dict().items()})
    features = torch.randn(4, 9, 6).to(dtype)
    wanted = fsq.project_in(features.float())
    assert torch.equal(fsq.to(dtype).project_in(features), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fsq.project_in(features), wanted)
        assert fsq.ids_to_features(fsq.latents_to_ids(wanted)).dtype == torch.float32


@given(LEVELS, st.data())
@settings(deadline=None)
def test_split_ids_and_join_ids_are_inverse_for_arrays_and_tensors(levels, data):
    groups = data.draw(st.integers(1, len(levels)))
    size, sizes = math.prod(levels), split_sizes(levels, groups)
    assert math.prod(sizes) == size and len(sizes) == groups
    ids = torch.tensor([[0, size - 1, *data.draw(st.lists(st.integers(0, size - 1), min_size=3, max_size=3))]])
    streams = split_ids(ids, levels, groups)
    assert streams.shape == (1, 5, groups) and streams.dtype == torch.int64
    assert (streams >= 0).all() and (streams < torch.tensor(sizes)).all()
    assert torch.equal(join_ids(streams, levels, groups), ids)
    array = split_ids(ids.numpy().astype(np.int32), levels, groups)
    assert array.dtype == np.int64 and np.array_equal(array, streams.numpy())
    joined = join_ids(array.astype(np.int32), levels, groups)
    assert joined.dtype == np.int64 and np.array_equal(joined, ids.numpy())


def test_each_stream_is_its_own_digits_in_mixed_radix():
    levels = [3, 5, 7, 9, 3]
    ids = torch.arange(math.prod(levels))
    digits = ids_to_digits(ids, levels)
    assert split_sizes(levels, 2) == [105, 27]
    low, high = split_ids(ids, levels, 2).unbind(-1)
    assert torch.equal(low, digits_to_ids(digits[:, :3], levels[:3]))
    assert torch.equal(high, digits_to_ids(digits[:, 3:], levels[3:]))
    assert torch.equal(split_ids(ids, levels, 5), digits)
    assert torch.equal(split_ids(ids, levels, 1)[:, 0], ids)


def test_joining_small_types_does_not_overflow():
    streams = np.array([[342, 342]], dtype=np.int16)
    assert join_ids(streams, [7] * 6).tolist() == [117_648]
    assert join_ids(torch.from_numpy(streams), [7] * 6).tolist() == [117_648]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: split_ids(np.array([15]), [3, 5]), "holds 15; ids are 0 to 14"),
        (lambda: split_ids(torch.tensor([-1]), [3, 5]), "holds -1; ids are 0 to 14"),
        (lambda: split_ids(torch.tensor([1.0]), [3, 5]), "float32; ids are whole numbers"),
        (lambda: split_ids(np.array([1.0]), [3, 5]), "float64; ids are whole numbers"),
        (lambda: split_ids(np.array([1]), [3, 5], groups=3), "`groups` is 3"),
        (lambda: join_ids(np.array([[0, 5]]), [3, 5]), r"`parts\[..., 1\]` holds 5; ids are 0 to 4"),
        (lambda: join_ids(np.array([[0, 1, 2]]), [3, 5]), r"shape \(1, 3\)"),
    ],
)
def test_ids_and_streams_out_of_range_are_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()
