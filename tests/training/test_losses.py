"""Losses and clamp equal the golden numbers, values in float32 and gradients in float64."""

from __future__ import annotations

import pytest
import torch
from transformers.audio_utils import mel_filter_bank

from l3ac_tokenizer.training.losses import (
    PAPER_SCALES,
    PUBLISHED_SCALES,
    SPECTRAL_RESOLUTIONS,
    clamp_max,
    cosine_loss,
    l1_loss,
    mel_loss,
    multi_scale_stft_loss,
    spectral_loss,
    stft_linear_and_log,
    stft_modulus,
)

SETS = {"published": PUBLISHED_SCALES, "paper": PAPER_SCALES}


def gradient(loss, y, x):
    """d loss(y, x) / dy in float64."""
    y = y.double().requires_grad_()
    loss(y, x.double()).backward()
    return y.grad


def assert_gradient(found, golden):
    assert (found - golden.double()).norm() <= 1e-4 * golden.double().norm()


def test_l1_is_golden(golden_losses):
    g = golden_losses
    torch.testing.assert_close(l1_loss(g["y"], g["x"]), g["l1.value"], rtol=2e-6, atol=0)
    assert_gradient(gradient(l1_loss, g["y"], g["x"]), g["l1.grad"])


def test_the_cosine_loss_is_a_function_of_si_sdr_and_blind_to_level():
    x = torch.randn(3, 4000)
    y = x + torch.randn(3, 4000)
    cosine = 1 - torch.stack([cosine_loss(y[i : i + 1], x[i : i + 1]) for i in range(len(x))])
    projected = (y * x).sum(-1, keepdim=True) / x.square().sum(-1, keepdim=True) * x
    si_sdr = 10 * torch.log10(projected.square().sum(-1) / (y - projected).square().sum(-1))
    torch.testing.assert_close(10 * torch.log10(cosine**2 / (1 - cosine**2)), si_sdr, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cosine_loss(0.1 * y, x), cosine_loss(y, x))


def test_the_cosine_loss_of_silence_is_one_with_a_finite_gradient():
    x = torch.randn(3, 4000)
    assert cosine_loss(torch.zeros_like(x), x) == 1
    assert gradient(cosine_loss, torch.zeros_like(x), x).isfinite().all()


def test_a_floor_bounds_the_gradient_of_near_silence():
    x, quiet = torch.randn(2, 4000), 1e-6 * torch.randn(2, 4000)
    floored = gradient(lambda y, x: multi_scale_stft_loss(y, x, floor=1e-3), quiet, x).norm()
    assert floored < 1e-3 * gradient(multi_scale_stft_loss, quiet, x).norm()


def test_the_spectral_loss_is_zero_for_equal_magnitudes_whatever_the_phase():
    x = torch.randn(2, 4000)
    assert spectral_loss(x, x) == 0 and spectral_loss(-x, x) < 1e-5
    assert spectral_loss(0.5 * x, x) > 1


def test_the_spectral_loss_of_silence_has_a_finite_gradient():
    silence, x = torch.zeros(2, 4000), torch.randn(2, 4000)
    for y, reference in ((silence, silence), (silence, x), (x, silence), (x, x)):
        assert spectral_loss(y, reference).isfinite()
        assert gradient(spectral_loss, y, reference).isfinite().all()
    assert gradient(spectral_loss, silence, silence).abs().max() == 0


def test_the_spectral_loss_is_its_three_terms_at_each_resolution():
    x, y = torch.randn(2, 1, 4000)
    expected = 0.0
    for scale, bands, floor in SPECTRAL_RESOLUTIONS:
        of_y, of_x = stft_modulus(y, scale)[0], stft_modulus(x, scale)[0]
        filters = torch.from_numpy(
            mel_filter_bank(len(of_x), bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
        ).float()
        expected += (of_y.clamp_min(floor).log() - of_x.clamp_min(floor).log()).abs().mean()
        mel_y, mel_x = ((filters.T @ modulus).clamp_min(1e-4).log() for modulus in (of_y, of_x))
        expected += (mel_y - mel_x).abs().mean() + (of_x - of_y).square().sum().sqrt() / of_x.square().sum().sqrt()
    torch.testing.assert_close(spectral_loss(y, x), expected / 5, rtol=1e-5, atol=0)


def test_the_mel_loss_is_that_of_both_spectrograms_and_half_that_of_the_first_ones_differences():
    predicted = torch.tensor([[[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]]])  # two bands of the first, one of the second
    assert mel_loss(predicted, torch.zeros(1, 2, 3), bands=2) == 2.5 + 6.0 + 0.5 * 2.0
    assert mel_loss(predicted, predicted, bands=2) == 0


@pytest.mark.parametrize("scale", PAPER_SCALES)
def test_one_scale_is_golden(golden_losses, scale):
    g = golden_losses
    linear, log = stft_linear_and_log(g["y"], g["x"], scale)
    torch.testing.assert_close(linear, g[f"stft.{scale}.linear"], rtol=2e-6, atol=0)
    torch.testing.assert_close(log, g[f"stft.{scale}.log"], rtol=2e-6, atol=0)
    found = gradient(lambda y, x: multi_scale_stft_loss(y, x, [scale]), g["y"], g["x"])
    assert_gradient(found, g[f"stft.{scale}.grad"])


@pytest.mark.parametrize("name", SETS)
def test_mean_over_scales_is_golden(golden_losses, name):
    g = golden_losses
    value = multi_scale_stft_loss(g["y"], g["x"], SETS[name])
    torch.testing.assert_close(value, g[f"stft.{name}.value"], rtol=2e-6, atol=0)
    found = gradient(lambda y, x: multi_scale_stft_loss(y, x, SETS[name]), g["y"], g["x"])
    assert_gradient(found, g[f"stft.{name}.grad"])


def test_silence_in_part_of_the_output_is_golden(golden_losses):
    g = golden_losses
    values = [multi_scale_stft_loss(g["y_sil"], g["x"], [scale]) for scale in PAPER_SCALES]
    torch.testing.assert_close(torch.stack(values), g["stft_sil.values"], rtol=2e-6, atol=0)
    assert_gradient(gradient(multi_scale_stft_loss, g["y_sil"], g["x"]), g["stft_sil.published.grad"])


def test_silence_against_silence_is_zero_with_zero_gradient():
    y = torch.zeros(1, 4000, requires_grad=True)
    loss = multi_scale_stft_loss(y, torch.zeros(1, 4000))
    loss.backward()
    assert loss == 0 and torch.equal(y.grad, torch.zeros_like(y))


def test_clamp_is_golden(golden_losses):
    g = golden_losses
    for i, scale in enumerate(g["clamp.scale"]):
        p = g["clamp.p"].clone().requires_grad_()
        loss = clamp_max(scale * p.square().sum(), g["clamp.max"].item())
        loss.backward()
        torch.testing.assert_close(loss, g["clamp.value"][i])
        torch.testing.assert_close(p.grad, g["clamp.grad"][i])


def test_clamp_lets_nan_pass():
    assert clamp_max(torch.tensor(float("nan")), 5.0).isnan()


def test_an_infinite_clamp_is_none():
    assert clamp_max(torch.tensor(1e9), float("inf")) == 1e9
