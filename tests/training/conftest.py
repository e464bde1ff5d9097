"""Golden losses, and a corpus of seconds that the tests make themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpora import write_corpus
from safetensors.torch import load_file


@pytest.fixture(scope="session")
def golden_losses():
    """Tensors of the reference file of losses and schedule."""
    shared = os.environ.get("L3AC_SHARED")
    if not shared:
        pytest.skip("L3AC_SHARED is not set: the golden losses are not at hand")
    return load_file(Path(shared) / "reference" / "losses.safetensors")


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("audio"))
