"""Loss sensitivity: even for an even loss, otherwise with the period that the loss prefers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import speech_like, tiny

from l3ac_tokenizer.analysis.loss_sensitivity import measure_sensitivity, sensitivity_section, unevenness
from l3ac_tokenizer.training.losses import l1_loss


@pytest.fixture(scope="module")
def recordings():
    return [speech_like(16_000, seed).numpy() for seed in range(3)]


def every_tenth(y, x):
    return (y - x)[:, ::10].square().mean() + 0.01 * l1_loss(y, x)


def loud_band(y, x):
    kernel = torch.cos(torch.pi / 2 * torch.arange(64.0))[None, None]  # a quarter of the rate
    return torch.nn.functional.conv1d((y - x)[:, None], kernel).abs().mean()


@pytest.mark.parametrize("name", ["tiny", "tiny-light", "tiny-taae"])
def test_what_a_loss_prefers_is_found(name, recordings):
    losses = {"L1": l1_loss, "tenth": every_tenth, "band": loud_band}
    found = {one.loss: one for one in measure_sensitivity(tiny(name), recordings, losses)}
    assert unevenness(found["L1"].samples) < 1e-6
    assert unevenness(found["tenth"].samples) > 3 and found["tenth"].period in (10, 5, 10 / 3, 2.5, 2)
    bins = found["band"].bins
    assert len(bins) == len(found["band"].samples) // 2 + 1
    assert abs(int(bins.argmax()) / (len(bins) - 1) - 0.5) < 0.02
    page = sensitivity_section(list(found.values()), "a codec")
    assert "| L1 | 0.00 |" in page and page.count(" samples |") == 3


def test_recordings_that_are_too_short_or_silent_are_left_out(recordings):
    model = tiny("tiny")
    both = measure_sensitivity(
        model, [np.zeros(16_000, np.float32), recordings[0][:100], recordings[0]], {"L1": l1_loss}
    )
    (alone,) = measure_sensitivity(model, recordings[:1], {"L1": l1_loss})
    np.testing.assert_array_equal(both[0].bins, alone.bins)
    with pytest.raises(ValueError, match=r"No recording is as long as 0.75 s; give longer ones\."):
        measure_sensitivity(model, [recordings[0][:100]], {"L1": l1_loss})
