"""The state of a run on disk: one file a checkpoint, written whole or not at all, the oldest dropped."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..atomic import atomic_write


@dataclass
class Position:
    """Where a run stands; with the seed it decides everything that follows."""

    step: int = 0
    """Updates made."""
    items: int = 0
    """Items of the stream consumed, by all processes together."""
    audio_seconds: float = 0.0
    minutes: float = 0.0
    """Wall time spent in training, over all sessions."""
    best: float = -math.inf
    """Highest score on the held-out clips."""


_NAME = re.compile(r"state-(\d+)\.pt")


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `state` as the checkpoint after `step` updates and drop all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{step:08d}.pt"
    with atomic_write(path) as file:
        torch.save(state, file)
    for old in _states(folder)[:-keep]:
        old.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint in the folder, on the CPU, or None where there is none."""
    states = _states(folder)
    return torch.load(states[-1], map_location="cpu", weights_only=True) if states else None


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("state-*.pt") if _NAME.fullmatch(path.name))
