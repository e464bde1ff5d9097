"""Training states on disk: each file is written atomically, and only the newest are kept."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..causes import with_causes
from ..files import atomic_write
from ..logs import get_logger

logger = get_logger(__name__)


@dataclass
class Counters:
    """Progress of a run; together with the seed it determines all later items."""

    step: int = 0
    """Updates so far."""
    items: int = 0
    """Items trained on so far, by all processes together."""
    audio_seconds: float = 0.0
    minutes: float = 0.0
    """Wall time of training so far, over all sessions."""
    best: float = -math.inf
    """Highest score on the held-out clips so far."""
    evaluated: float = 0.0
    """`minutes` at the last evaluation."""


_NAME = re.compile(r"state-(\d+)\.pt")


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write the training state after `step` updates and delete all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"state-{step:08d}.pt"
    with atomic_write(path) as file:
        torch.save(state, file)
    for old in saved_states(folder)[:-keep]:
        old.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """Load the newest readable training state in the folder to the CPU; None if the folder holds none.

    Raises:
        OSError: The folder holds training states, but none can be read.
    """
    states = saved_states(folder)
    for path in reversed(states):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files raise errors of the system, zipfile, pickle or torch
            logger.warning("%s cannot be read: %s", path, with_causes(error))
    if states:
        raise OSError(
            f"No training state in {folder} can be read: restore one of them, or remove the folder to start again."
        )
    return None


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of an `atomic_write` that was killed."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def saved_states(folder: Path) -> list[Path]:
    """Training states in the folder, oldest first."""
    return sorted(path for path in folder.glob("state-*.pt") if _NAME.fullmatch(path.name))
