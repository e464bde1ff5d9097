"""The discriminator and its losses equal the golden numbers; weights by the rule of the golden run."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from l3ac_tokenizer.training.config import DiscriminatorOptions, LossWeights, TrainingConfig
from l3ac_tokenizer.training.discriminator import BandDiscriminator, Discriminator, normalized
from l3ac_tokenizer.training.discriminator_trainer import DiscriminatorTrainer
from l3ac_tokenizer.training.losses import (
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    hinge_adversarial_loss,
    relative_feature_matching_loss,
)
from l3ac_tokenizer.training.network import Prediction
from l3ac_tokenizer.training.objective import Objective


@pytest.fixture(scope="module")
def golden(shared) -> dict[str, torch.Tensor]:
    reference = shared / "reference"
    signals = load_file(reference / "losses.safetensors")
    return load_file(reference / "discriminator.safetensors") | {name: signals[name] for name in ("x", "y")}


@pytest.fixture(scope="module")
def discriminator() -> Discriminator:
    """The published sizes with standard normals seeded by each entry's name: 1 + 0.1 u, u and 0.05 u."""
    model = Discriminator()
    state = {}
    for name, tensor in model.state_dict().items():
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(f"discriminator/{name}".encode())))
        u = generator.standard_normal(tuple(tensor.shape))
        kinds = {"original0": 1 + 0.1 * u, "original1": u, "bias": 0.05 * u}
        state[name] = torch.from_numpy(kinds[name.rpartition(".")[2]]).float()
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def maps(discriminator, golden):
    """Feature maps of the generated and of the reference signals."""
    with torch.no_grad():
        return discriminator(golden["y"]), discriminator(golden["x"])


def flat(maps) -> list[torch.Tensor]:
    return [one for of_one_judge in maps for one in of_one_judge]


def of_audio(y: torch.Tensor) -> Prediction:
    return Prediction(torch.zeros(0), torch.zeros(0), audio=y)


def test_entries_and_their_order_are_golden(discriminator, golden):
    tensors = list(discriminator.state_dict().values())
    assert sum(tensor.numel() for tensor in tensors) == 42_991_090
    torch.testing.assert_close(torch.stack([t.flatten()[0] for t in tensors]), golden["weights.first"])
    torch.testing.assert_close(torch.stack([t.double().norm().float() for t in tensors]), golden["weights.norm"])


def test_preprocessing_is_golden(golden):
    for name in ("x", "y"):
        found = normalized(golden[name])
        torch.testing.assert_close(found[:, ::16], golden[f"pre.{name}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [126, 542, 1418, 2296])
def test_spectrum_is_golden(golden, window):
    found = BandDiscriminator(window).spectrum(normalized(golden["x"]))[0]
    torch.testing.assert_close(
        torch.cat([found[:, :4], found[:, -4:]], 1), golden[f"stft.{window}.x"], atol=2e-5, rtol=0
    )


def test_feature_maps_are_golden(maps, golden):
    for name, found in zip("yx", maps, strict=True):
        rows = [
            torch.stack([m.mean(), m.std(correction=0), m.abs().sum()]) for m in map(torch.Tensor.double, flat(found))
        ]
        torch.testing.assert_close(torch.stack(rows).float(), golden[f"maps.{name}"], atol=2e-5, rtol=1e-4)
        for k, of_one_judge in enumerate(found):
            torch.testing.assert_close(of_one_judge[-1], golden[f"final.{k}.{name}"], atol=1e-4, rtol=1e-4)


def test_losses_are_golden(maps, golden):
    fake, real = maps
    torch.testing.assert_close(adversarial_loss(fake), golden["gen.adv"], rtol=1e-5, atol=0)
    torch.testing.assert_close(feature_matching_loss(fake, real), golden["gen.feat"], rtol=1e-5, atol=0)
    torch.testing.assert_close(discriminator_loss(fake, real), golden["dis.loss"], rtol=1e-5, atol=0)


def test_gradients_of_the_generator_are_golden(discriminator, golden):
    double = Discriminator().double()
    double.load_state_dict(discriminator.state_dict())
    y = golden["y"].double().requires_grad_()
    fake = double(y)
    with torch.no_grad():
        real = double(golden["x"].double())
    adversarial = adversarial_loss(fake)
    total = adversarial + 2 * feature_matching_loss(fake, real)
    for name, loss in (("gen.adv_grad", adversarial), ("gen.total_grad", total)):
        (found,) = torch.autograd.grad(loss, y, retain_graph=True)
        assert (found - golden[name].double()).norm() <= 1e-4 * golden[name].double().norm(), name


def test_gradients_of_the_discriminator_are_golden(discriminator, golden):
    discriminator.zero_grad()
    discriminator_loss(discriminator(golden["y"]), discriminator(golden["x"])).backward()
    norms = torch.stack([parameter.grad.norm() for parameter in discriminator.parameters()])
    torch.testing.assert_close(norms, golden["dis.param_grad_norm"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(norms.norm(), golden["dis.total_grad_norm"], rtol=1e-4, atol=0)


def test_the_objective_of_a_run_is_golden_in_each_term_in_sum_and_in_gradient(discriminator, golden, shared):
    config = TrainingConfig(perceptual_encoder=str(shared / "models" / "whisper-tiny.en-encoder"))
    objective = Objective(config).double()
    trainer = DiscriminatorTrainer(config.discriminator, Accelerator(cpu=True), seed=0)
    trainer.network.load_state_dict(discriminator.state_dict())
    trainer.network.double()
    x, y = golden["x"].double(), golden["y"].double().requires_grad_()

    total, terms = objective(of_audio(y), x, config.weights, trainer)
    generator = terms["adversarial"] + 2 * terms["feature_matching"]
    found = torch.stack([terms["l1"], terms["stft"], terms["perceptual"], generator])
    torch.testing.assert_close(found, golden["total.terms"].double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(total, golden["total.value"].double(), rtol=1e-5, atol=0)
    total.backward()
    expected = golden["total.grad"].double()
    assert (y.grad - expected).norm() <= 1e-4 * expected.norm()

    objective.float()
    trainer.network.float()
    nothing = LossWeights(l1=0.0, stft=0.0, perceptual_max=0.0, adversarial_max=0.0)
    with torch.no_grad():
        names = ("l1", "stft", "perceptual_max", "adversarial_max")
        for name, weighted in zip(names, golden["total.weighted_terms"], strict=True):
            alone = replace(nothing, **{name: getattr(config.weights, name)})
            value, _ = objective(of_audio(golden["y"]), golden["x"], alone, trainer)
            torch.testing.assert_close(value, weighted, rtol=1e-5, atol=0)


def test_an_item_is_judged_by_itself(maps, discriminator, golden):
    with torch.no_grad():
        alone = discriminator(golden["y"][1:2])
    for together, single in zip(flat(maps[0]), flat(alone), strict=True):
        torch.testing.assert_close(together[1:2], single, atol=1e-4, rtol=1e-4)


def small(**options) -> DiscriminatorTrainer:
    values = dict(kind="small", every=1, lr=3e-3, fft_sizes=[64, 32], channels=4, samples=800)
    return DiscriminatorTrainer(DiscriminatorOptions(**(values | options)), Accelerator(cpu=True), seed=0)


def test_the_small_one_adds_hinge_and_relative_feature_matching_to_the_loss():
    trainer, x = small(samples=None), torch.randn(2, 1600)
    y = torch.randn(2, 1600, requires_grad=True)
    loss, terms = trainer.generator_loss(y, x)
    fake, real = trainer.network(y), trainer.network(x)
    assert set(terms) == {"adversarial", "feature_matching"}
    torch.testing.assert_close(terms["adversarial"], hinge_adversarial_loss(fake))
    torch.testing.assert_close(terms["feature_matching"], relative_feature_matching_loss(fake, real))
    torch.testing.assert_close(loss, 0.5 * terms["adversarial"] + 5 * terms["feature_matching"])
    loss.backward()
    assert y.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert trainer.generator_loss(x, x)[1]["feature_matching"] == 0


def test_the_small_one_sees_the_same_excerpt_of_both():
    trainer, x = small(), torch.arange(4000.0).expand(2, -1)
    y, x = trainer._crops(-x, x)
    assert torch.equal(y, -x) and x.shape == (2, 800) and torch.equal(x[0].diff(), torch.ones(799))
    y, x = trainer._crops(torch.zeros(2, 500), torch.ones(2, 500))
    assert y.shape == x.shape == (2, 500)


def test_the_small_one_learns_to_tell_noise_from_tones():
    trainer = small()
    time = torch.arange(1600) / 16_000
    losses = []
    for _ in range(30):
        x = (2 * torch.pi * 1000 * torch.rand(4, 1) * time).sin()
        figures = trainer.update([x], lambda x: 0.5 * torch.randn_like(x), progress=0.5)
        losses.append(float(figures["discriminator"]))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("frames", [104, 105])
def test_bands_of_one_bin_are_finite_in_bfloat16(frames):
    torch.manual_seed(0)
    discriminator = BandDiscriminator(126)
    for _ in range(8):  # memory that oneDNN must not read holds other values each time
        audio = 0.1 * torch.randn(1, 31 * frames)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halves = discriminator(audio)
        for half, whole in zip(halves, discriminator(audio), strict=True):
            assert (half - whole).abs().max() < 0.05 * whole.abs().max()


@pytest.mark.parametrize(("kind", "exponent"), [("small", 0.5), ("taae", 1.5)])
def test_the_small_one_hears_compressed_spectra_and_the_published_one_expanded_ones(kind, exponent):
    (first, *_) = small(kind=kind).network.discriminators
    loud = torch.full((1, 2, 1, 1), 1.0)
    for quieter in (0.5, 0.1):
        ratio = first.scaled(quieter * loud) / first.scaled(loud)
        torch.testing.assert_close(ratio, torch.full_like(loud, quieter**exponent), rtol=0.01, atol=0)
    zero = torch.zeros(1, 2, 1, 1, requires_grad=True)
    first.scaled(zero).sum().backward()
    assert zero.grad.isfinite().all()
