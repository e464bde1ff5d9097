"""Fixtures of the tests of what strangers may send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from limited import Outcome, run_limited
from networks import tiny

from l3ac_tokenizer import L3ACModel


@pytest.fixture(scope="session")
def limited() -> Callable[[Callable[[], Any]], Outcome]:
    """A function that runs another under the limits and returns its `Outcome`."""
    return run_limited


@pytest.fixture(scope="session")
def network() -> L3ACModel:
    """A tiny codec of hop 12."""
    return tiny("tiny")


@pytest.fixture(scope="session")
def checkpoint(network, tmp_path_factory) -> Path:
    """The directory of the tiny codec."""
    folder = tmp_path_factory.mktemp("checkpoint")
    network.save_pretrained(folder)
    return folder
