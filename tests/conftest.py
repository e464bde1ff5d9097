"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from networks import tiny

from l3ac_tokenizer import L3ACModel


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real audio and golden files; skips where there is none."""
    folder = os.environ.get("L3AC_SHARED")
    if not folder:
        pytest.skip("L3AC_SHARED is not set: no real audio and golden files at hand")
    return Path(folder)


@pytest.fixture(scope="module")
def short_count():
    """Multiply–accumulates of half a second of audio: those of ten take longer than all the rest at a hop of 12."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l3ac_tokenizer.evaluation.cost.MAC_SECONDS", 0.5)
        yield


@pytest.fixture
def tiny_model() -> L3ACModel:
    """A tiny network whose ids vary."""
    return tiny("tiny")
