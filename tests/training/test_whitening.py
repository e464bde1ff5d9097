"""Whitening spreads the latents while training and folds into the layer that gives them afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import speech_like, tiny
from torch import nn

from l3ac_tokenizer.training.network import TrainableCodec
from l3ac_tokenizer.training.whitening import Whitened


def features(batches: int, spread: float = 0.05, offset: float = 1.0):
    """Batches (4, 50, 16) whose directions differ in size, far from zero."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 16, generator=generator) * torch.logspace(0, -0.7, 16)[:, None]
    return [torch.randn(4, 50, 16, generator=generator) @ mixing * spread + offset for _ in range(batches)]


@pytest.fixture
def trained():
    torch.manual_seed(0)
    layer = Whitened(nn.Linear(16, 6), 6)
    for x in features(200):
        layer(x)
    return layer


def test_latents_get_unit_variance_and_no_correlation(trained):
    rows = torch.cat([trained.eval()(x).flatten(0, 1) for x in features(200)])
    torch.testing.assert_close(rows.T.cov(), torch.eye(6), atol=0.15, rtol=0)
    assert rows.mean(0).abs().max() < 0.1


def test_folding_is_exact(trained):
    trained.eval()
    folded = copy.deepcopy(trained.linear)
    trained.fold_into(folded)
    x = torch.cat(features(20))
    torch.testing.assert_close(folded.double()(x.double()).float(), trained(x), atol=1e-4, rtol=0)


def test_runs_in_float32_under_autocast(trained):
    trained.eval()
    x = features(1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        inside = trained(x)
    assert inside.dtype == torch.float32 and torch.equal(inside, trained(x))


def test_statistics_are_taken_anew(trained):
    trained.eval()
    other = [3 * x - 7 for x in features(20)]
    with trained.reestimated():
        for x in other:
            trained(x)
    rows = trained(torch.cat(other)).flatten(0, 1)
    torch.testing.assert_close(rows.T.cov(correction=0), torch.eye(6), atol=0.02, rtol=0)
    torch.testing.assert_close(rows.mean(0), torch.zeros(6), atol=1e-3, rtol=0)


def test_latents_that_are_not_finite_stay_so_without_an_error(trained):
    x = features(1)[0]
    x[0, 0, 0] = torch.nan
    assert trained.train()(x).isnan().all()


def test_gradients_reach_the_projection(trained):
    trained.train()
    trained(features(1)[0]).pow(4).mean().backward()
    assert trained.linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["tiny", "tiny-light", "tiny-taae"])
@torch.no_grad()
def test_a_whitened_codec_becomes_a_plain_one(name):
    codec = TrainableCodec(tiny(name), whiten=True).train()
    for seed in range(5):
        codec(speech_like(6000, seed)[None, None])
    codec.eval()
    plain = type(codec.model)(codec.model.config).eval()
    plain.load_state_dict(codec.plain_state())
    audio = speech_like(3000, seed=9)[None, None]
    expected = codec.model.encode(audio).latents
    assert expected.std() > 0.5
    torch.testing.assert_close(plain.encode(audio).latents, expected, atol=1e-4, rtol=0)
