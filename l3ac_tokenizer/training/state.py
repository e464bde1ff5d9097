"""The state of a run on disk: one file a checkpoint, written whole or not at all, the oldest dropped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ..atomic import atomic_write

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
