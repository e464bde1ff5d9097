"""The state of a run on disk: one file a checkpoint, written whole or not at all, the oldest dropped."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_write

logger = logging.getLogger(__name__)


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
    evaluated: float = 0.0
    """`minutes` at the last evaluation."""


_NAME = re.compile(r"state-(\d+)\.pt")


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `state` as the checkpoint after `step` updates and drop all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{step:08d}.pt"
    with atomic_write(path) as file:
        torch.save(state, file)
    for old in saved_states(folder)[:-keep]:
        old.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint in the folder that can be read, on the CPU, or None where there is none.

    Raises:
        OSError: there are checkpoints, and none can be read.
    """
    states = saved_states(folder)
    for path in reversed(states):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file has many: of the system, of zip archives, of pickle, of torch
            logger.warning("%s cannot be read: %s", path, str(error).partition("\n")[0])
    if states:
        raise OSError(f"No state in {folder} can be read: mend one of them, or remove the folder to begin anew.")
    return None


def remove_unfinished(folder: Path) -> None:
    """Remove what `atomic_write` leaves in the folder when the process is killed."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def saved_states(folder: Path) -> list[Path]:
    """The checkpoints in the folder, oldest first."""
    return sorted(path for path in folder.glob("state-*.pt") if _NAME.fullmatch(path.name))
