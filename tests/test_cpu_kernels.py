"""CPU kernels: equal to torch up to rounding, gradients included."""

from __future__ import annotations

import pytest
import torch
from networks import speech_like
from torch import nn

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.modeling import cpu_kernels
from l3ac_tokenizer.modeling.cpu_kernels import (
    MIN_PACKED_STEPS,
    apply_linear,
    convolve_small,
    convolves_small,
    linear,
    product,
    sine,
)
from l3ac_tokenizer.modeling.l3ac.attention import TransformerLayer
from l3ac_tokenizer.modeling.layers import ConvNeXtBlock, filtered_envelopes, pooled_filters, tpooling
from l3ac_tokenizer.modeling.span import Past, WholeSpan


@pytest.mark.parametrize("size", [(64, 32), (192, 192), (1000, 333)])
@pytest.mark.parametrize("shape", [(1,), (700,), (2, 7)])
@torch.no_grad()
def test_a_product_is_that_of_a_linear_layer_whatever_is_packed(size, shape):
    weight, bias, x = torch.randn(size), torch.randn(size[0]), torch.randn(*shape, size[1])
    for time_steps in (1, MIN_PACKED_STEPS):
        for summand in (bias, None):
            wanted = torch.nn.functional.linear(x.double(), weight.double(), None if summand is None else bias.double())
            assert (product(weight, summand, time_steps)(x) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(("channels", "outputs", "groups"), [(6, 4, 1), (1, 3, 1), (6, 6, 6)])
@pytest.mark.parametrize("dilation", [1, 3])
@torch.no_grad()
def test_a_small_convolution_is_that_of_torch(channels, outputs, groups, dilation):
    x, weight, bias = torch.randn(2, 31, channels), torch.randn(outputs, channels // groups, 5), torch.randn(outputs)
    assert convolves_small(x, weight, groups)
    for summand in (bias, None):
        wanted = nn.functional.conv1d(x.transpose(1, 2), weight, summand, dilation=dilation, groups=groups)
        difference = convolve_small(x, weight, summand, dilation, groups) - wanted.transpose(1, 2)
        assert difference.abs().max() < 1e-5


@torch.no_grad()
def test_envelopes_filtered_in_one_go_are_those_pooled_and_convolved_apart():
    kernels, dilations, radius, length = (1, 3, 9), (1, 2, 5), 19, 50
    u, weights = torch.randn(2, length + 2 * (radius + 4)), torch.randn(3, 2, 7)
    filters = [pooled_filters(*given, radius) for given in zip(weights, kernels, dilations, strict=True)]
    filtered = filtered_envelopes(u, kernels, torch.stack(filters))
    assert filtered.shape == (2, length, 3, 2)
    for scale, (weight, kernel, dilation) in enumerate(zip(weights, kernels, dilations, strict=True)):
        pooled = tpooling(u[:, None], kernel, None)
        wanted = nn.functional.conv1d(pooled, weight[:, None], dilation=dilation, padding=3 * dilation)
        wanted = wanted[..., radius + 4 : -radius - 4].transpose(1, 2)
        assert (filtered[:, :, scale] - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_a_long_past_is_the_end_of_all_that_came(context):
    came = torch.zeros(2, 3, 7, 4)
    past, windows = Past(came), []
    with torch.inference_mode():
        past.append(torch.zeros(2, 3, 1, 4))
    with context():
        for length in (1, 2, 5, 1, 20, 1, 1):
            new = torch.randn(2, 3, length, 4)
            came = torch.cat([came, new], dim=2)
            windows.append((past.append(new), came[:, :, -7 - length :]))
            assert past.values.equal(came[:, :, -7:])
    assert all(window.equal(wanted) for window, wanted in windows)  # also those of before


def test_a_long_past_passes_gradients_to_all_that_came():
    past, pushes = Past(torch.zeros(1, 4, 1)), [torch.ones(1, 1, 1, requires_grad=True) for _ in range(3)]
    sum(past.append(x).square().sum() for x in pushes).backward()
    assert [x.grad.item() for x in pushes] == [6.0, 4.0, 2.0]


def test_a_product_with_gradients_reaches_its_weight():
    weight = torch.randn(192, 192, requires_grad=True)
    product(weight, None, MIN_PACKED_STEPS)(torch.randn(3, 192)).sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def gradients(layer: nn.Module, x: torch.Tensor, call) -> list[torch.Tensor]:
    """Output of `call(x)`, and the gradients of its squares for x and the parameters of the layer."""
    x = x.clone().requires_grad_()
    output = call(x)
    return [output.detach(), *torch.autograd.grad(output.square().mean(), (x, *layer.parameters()), allow_unused=True)]


@pytest.fixture
def onednn(monkeypatch):
    """Count of the products by oneDNN, and a function that makes it the faster or the slower library."""
    count, original = [], cpu_kernels.onednn_linear
    monkeypatch.setattr(cpu_kernels, "onednn_linear", lambda *given: count.append(1) or original(*given))
    return count, lambda faster: monkeypatch.setattr(cpu_kernels, "onednn_trains_faster", lambda: faster)


@pytest.mark.parametrize(
    ("layer", "products"),
    [
        (lambda: ConvNeXtBlock(128), 2),
        (lambda: TransformerLayer(256, 2, 64, sliding=True), 4),
        (lambda: TransformerLayer(256, 2, 64, sliding=False), 4),
    ],
)
def test_training_is_the_same_by_either_library(layer, products, onednn):
    count, choose = onednn
    layer, x = layer(), torch.randn(2, MIN_PACKED_STEPS, 256)

    def call(x):
        if isinstance(layer, ConvNeXtBlock):
            return layer(x[..., :128], WholeSpan())
        return layer(x, torch.zeros(2, layer.attention.reach), WholeSpan())

    results = []
    for faster in (False, True):
        choose(faster)
        results.append(gradients(layer, x, call))
        assert len(count) == products * faster
    for default, by_onednn in zip(*results, strict=True):
        assert (default is None) == (by_onednn is None)
        if default is not None:
            assert (by_onednn - default).abs().max() <= 1e-5 * default.abs().max()


def test_only_wide_float32_products_with_gradients_outside_of_compilation_are_onednn_s(onednn):
    count, choose = onednn
    choose(True)
    weight, x = torch.randn(256, 256, requires_grad=True), torch.randn(MIN_PACKED_STEPS, 256)
    linear(x, weight, None)
    assert len(count) == 1
    with torch.no_grad():
        linear(x, weight, None)
    with torch.autocast("cpu", torch.bfloat16):
        linear(x, weight, None)
    linear(x.bfloat16(), weight.bfloat16(), None)
    linear(x.double(), weight.double(), None)
    linear(x[1:], weight, None)
    linear(x[:, :64], weight[:64, :64], None)
    torch.compile(linear, backend="eager")(x, weight, None)
    layer = nn.Linear(256, 256)
    layer.register_forward_hook(lambda *_: None)
    apply_linear(layer, x)
    assert len(count) == 1
    layer._forward_hooks.clear()
    apply_linear(layer, x)
    assert len(count) == 2


def test_the_faster_library_is_measured_once_and_leaves_the_random_state():
    before = torch.get_rng_state()
    cpu_kernels.onednn_trains_faster.cache_clear()
    choice = cpu_kernels.onednn_trains_faster()
    assert isinstance(choice, bool) and cpu_kernels.onednn_trains_faster() is choice
    assert cpu_kernels.onednn_trains_faster.cache_info().misses == 1
    assert torch.equal(torch.get_rng_state(), before)


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
