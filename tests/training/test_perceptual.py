"""The perceptual loss on the real Whisper encoder equals the golden numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from l3ac_tokenizer.training.perceptual import WhisperFeatures, perceptual_loss


@pytest.fixture(scope="module")
def source() -> str:
    shared = os.environ.get("L3AC_SHARED")
    if not shared:
        pytest.skip("L3AC_SHARED is not set: the Whisper encoder is not at hand")
    return str(Path(shared) / "models" / "whisper-tiny.en-encoder")


def test_published_window_is_golden(golden_losses, source):
    g = golden_losses
    features = WhisperFeatures(source, window_seconds=30.0)
    torch.testing.assert_close(features.log_mel(g["x"])[:, :, :50], g["mel.x"], atol=1e-5, rtol=0)
    torch.testing.assert_close(features(g["x"])[:, ::100], g["perc.feat_x"], atol=1e-3, rtol=0)
    y = g["y"].clone().requires_grad_()
    loss = perceptual_loss(features, y, g["x"])
    loss.backward()
    torch.testing.assert_close(loss, g["perc.value"], rtol=1e-5, atol=0)
    assert (y.grad - g["perc.grad"]).norm() <= 1e-4 * g["perc.grad"].norm()
    assert all(parameter.grad is None for parameter in features.parameters())


def test_without_a_window_a_position_stands_for_twenty_milliseconds(golden_losses, source):
    assert WhisperFeatures(source)(golden_losses["x"][:, :8640]).shape == (3, 27, 384)
