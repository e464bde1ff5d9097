"""The losses and the discriminator of TAAE equal the golden numbers; weights by the rule of the golden run."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from l3ac_tokenizer.conversion.golden_weights import deterministic_tensor
from l3ac_tokenizer.training.losses import (
    hinge_adversarial_loss,
    hinge_discriminator_loss,
    l1_loss,
    relative_feature_matching_loss,
    stft_l1_loss,
)
from l3ac_tokenizer.training.stft_discriminator import STFTDiscriminator


@pytest.fixture(scope="module")
def golden(shared):
    arrays = load_file(shared / "reference" / "taae-losses.safetensors")
    return arrays | {name: arrays[f"{name}_int16"].float() / 32768 for name in ("x", "y")}


@pytest.fixture(scope="module")
def discriminator():
    """A small one with the published sizes."""
    model = STFTDiscriminator(channels=8)
    published = {"original0": "weight_g", "original1": "weight_v", "bias": "bias"}
    state = {}
    for name, tensor in model.state_dict().items():
        layer, part = name.replace(".parametrizations.weight", "").rsplit(".", 1)
        place = f"taae-discriminator/discriminators.{layer}.conv.{published[part]}"
        state[name] = deterministic_tensor(place, tuple(tensor.shape))
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def maps(discriminator, golden):
    """Feature maps of the generated and of the reference signals."""
    with torch.no_grad():
        return discriminator(golden["y"]), discriminator(golden["x"])


def close(value, golden, tolerance=2e-6):
    assert (value - golden).abs().max() <= tolerance * golden.abs().max(), (value, golden)


def test_the_sizes_of_the_published_discriminator():
    with torch.device("meta"):
        assert sum(p.numel() for p in STFTDiscriminator().parameters()) == 47_335_440


def test_element_wise_and_spectral_losses(golden):
    close(l1_loss(golden["y"], golden["x"]), golden["l1.value"])
    y = golden["y"].clone().requires_grad_()
    loss = stft_l1_loss(y, golden["x"])
    close(loss.detach(), golden["stft.value"])
    loss.backward()
    close(y.grad, golden["stft.grad"], 1e-5)


def test_the_spectrum_before_scaling(discriminator, golden):
    spectrum = discriminator.discriminators[2].spectrum(golden["x"])[0, :, :4]
    close(spectrum, golden["spec.206.x"], 1e-5)


def test_every_feature_map_and_output(maps, golden):
    for signal, of_signal in zip("yx", maps, strict=True):
        features = [one for judge in of_signal for one in judge[:-1]]
        statistics = [
            torch.stack([one.double().mean(), one.double().std(correction=0), one.double().abs().sum()])
            for one in features
        ]
        deviation = (torch.stack(statistics) - golden[f"maps.{signal}"]).abs() / golden[f"maps.{signal}"].abs()
        assert deviation.median() < 2e-6 and deviation.max() < 1e-4
        for judge in range(2, 8):
            close(of_signal[judge][-1], golden[f"logits.{judge}.{signal}"], 1e-5)
    means = torch.stack([torch.stack([x[-1].mean(), y[-1].mean()]) for y, x in zip(*maps, strict=True)])
    close(means, golden["logits.mean"], 1e-5)


def test_losses_on_the_maps(maps, golden):
    fake, real = maps
    close(relative_feature_matching_loss(fake, real), golden["disc.feature_matching"])
    close(hinge_discriminator_loss(fake, real), golden["disc.hinge"])
    close(hinge_adversarial_loss(fake), golden["disc.adversarial"], 2e-5)
    terms = [
        [relative_feature_matching_loss([[y, y]], [[x, x]]) for y, x in zip(*pair, strict=True)][:-1]
        for pair in zip(*maps, strict=True)
    ]
    close(torch.tensor(terms), golden["fm.terms"])


def test_the_gradient_of_feature_matching(discriminator, golden):
    judge = discriminator.double()
    y = golden["y"].double().requires_grad_()
    relative_feature_matching_loss(judge(y), judge(golden["x"].double())).backward()
    discriminator.float()
    close(y.grad, golden["disc.feature_matching_grad"].double(), 1e-5)
