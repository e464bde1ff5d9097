"""CPU inference kernels: equal to torch up to rounding, and without effect on gradients."""

from __future__ import annotations

import pytest
import torch
from networks import speech_like
from torch import nn

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.modeling import cpu_kernels
from l3ac_tokenizer.modeling.cpu_kernels import MIN_PACKED_STEPS, product, sine
from l3ac_tokenizer.modeling.layers import ConvNeXtBlock
from l3ac_tokenizer.modeling.span import WholeSpan


@pytest.mark.parametrize("size", [(64, 32), (192, 192), (1000, 333)])
@pytest.mark.parametrize("shape", [(1,), (700,), (2, 7)])
@torch.no_grad()
def test_a_product_is_that_of_a_linear_layer_whatever_is_packed(size, shape):
    weight, bias, x = torch.randn(size), torch.randn(size[0]), torch.randn(*shape, size[1])
    for time_steps in (1, MIN_PACKED_STEPS):
        for summand in (bias, None):
            wanted = torch.nn.functional.linear(x.double(), weight.double(), None if summand is None else bias.double())
            assert (product(weight, summand, time_steps)(x) - wanted).abs().max() < 1e-4


def test_a_product_with_gradients_reaches_its_weight():
    weight = torch.randn(192, 192, requires_grad=True)
    product(weight, None, MIN_PACKED_STEPS)(torch.randn(3, 192)).sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@torch.no_grad()
def test_the_sine_is_torch_s_to_rounding(dtype):
    x = torch.cat([torch.linspace(-9, 9, 999), torch.linspace(-1e5, 1e5, 999), torch.tensor([0.0])]).to(dtype)
    before = x.clone()
    assert (sine(x).double() - torch.sin(x).double()).abs().max() <= 2 * torch.finfo(dtype).eps
    assert torch.equal(x, before) and sine(x).dtype == dtype
    assert torch.equal(sine(x[::2]), sine(x)[::2])


@torch.no_grad()
def test_the_bundled_weights_give_the_same_ids_packed_or_not_by_numpy_or_torch(monkeypatch):
    model = L3ACModel.from_pretrained("l3ac-1k").eval()
    clip = speech_like(64_000)[None, None]  # enough time steps for weights to be packed
    quick = model.encode(clip)
    audio = model.decode(quick.audio_codes).audio_values
    monkeypatch.setattr(cpu_kernels, "_at_inference", lambda x: False)
    plain = model.encode(clip)
    changed = (quick.audio_codes != plain.audio_codes)[:, 0]
    assert not (changed & ~model.quantizer.near_boundary(plain.latents)).any()
    assert (quick.latents - plain.latents).abs().max() < 1e-4
    assert (model.decode(quick.audio_codes).audio_values - audio).abs().max() < 1e-5


@torch.no_grad()
def test_a_layer_put_in_the_place_of_another_is_called(tiny_model):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    unit = tiny_model.decoder.convolutions.stages[0].units[0]
    codes = tiny_model.encode(speech_like(2000)[None, None]).audio_codes
    before, expand = tiny_model.decode(codes).audio_values, unit.expand
    unit.expand = Doubled(expand.in_features, expand.out_features)
    unit.expand.load_state_dict({name: value / 2 for name, value in expand.state_dict().items()})
    assert (tiny_model.decode(codes).audio_values - before).abs().max() < 1e-5
    unit.expand.weight.zero_()
    assert (tiny_model.decode(codes).audio_values - before).abs().max() > 1e-5


@torch.no_grad()
def test_under_autocast_a_wide_block_takes_inputs_in_half_precision():
    block = ConvNeXtBlock(256).eval()
    x = torch.randn(1, MIN_PACKED_STEPS, 256)
    with torch.autocast("cpu", torch.bfloat16):
        halved = block(x, WholeSpan())
    assert (halved.float() - block(x, WholeSpan())).abs().max() < 0.1
