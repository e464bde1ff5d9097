from __future__ import annotations

from pathlib import Path

import pytest

from .corpora import write_corpus


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A folder of ten clips."""
    return write_corpus(tmp_path / "corpus")
