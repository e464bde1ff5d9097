"""Chains of stages: one configuration for several runs, each of which starts from the weights of the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate.state import AcceleratorState

from ..logs import get_logger
from .config import TrainingConfig, load_config
from .config_files import ConfigError, config_path, read_values
from .export import run_checkpoint
from .loop import Run

logger = get_logger(__name__)


class ChainStage(NamedTuple):
    """One run of a chain."""

    name: str
    """Folder of the run inside the chain's, e.g. `1-tokens`."""
    config: TrainingConfig
    """Configuration of the run, with its share of the minutes."""


def load_chain(config: str | Path, overrides: dict[str, Any] | None = None) -> list[ChainStage] | None:
    """Read the stages of a configuration with the keys `chain`, a list of `config` and `share`, and `max_minutes`.

    `config` is the name of a bundled one or a YAML file, to which the paths in it are relative. `overrides` (dotted
    keys) apply to every stage, except for `max_minutes`, which the stages share.

    Returns:
        The stages, or None if the file describes a single run.

    Raises:
        ConfigError: The file is not a valid chain, a stage is invalid, or the shares do not add up to 1.
    """
    path = config_path(config)
    values = read_values(path)
    if "chain" not in values:
        return None
    overrides = dict(overrides or {})
    minutes = overrides.pop("max_minutes", values.get("max_minutes"))
    entries = values["chain"]
    if values.keys() - {"chain", "max_minutes"} or not _is_number(minutes) or not isinstance(entries, list):
        raise ConfigError(f"{path} is not a chain: give `chain`, a list of `config` and `share`, and `max_minutes`.")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.keys() != {"config", "share"} or not _is_number(entry["share"]):
            raise ConfigError(f"chain[{number}] in {path} is {entry!r}; give `config` (a file) and `share` (a number).")
    total = sum(entry["share"] for entry in entries)
    if abs(total - 1) > 1e-6:
        raise ConfigError(f"The shares in {path} add up to {total:g}; they must add up to 1.")
    stages = []
    for number, entry in enumerate(entries, 1):
        share = {"max_minutes": minutes * entry["share"]}
        stage = load_config(path.parent / entry["config"], overrides | share)
        stages.append(ChainStage(f"{number}-{stage.stage}", stage))
    return stages


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def train_chain(
    stages: Sequence[ChainStage],
    sources: Sequence[str | Path],
    run_folder: str | Path,
    held_out: Sequence[str | Path] = (),
) -> bool:
    """Train the stages one after the other, each in its own folder; finished ones are skipped.

    A stage starts from the best weights of the one before. The teacher of a `distill` stage is the `tokens` stage
    before it.

    Returns:
        True if all stages have ended, False if one was interrupted.

    Raises:
        Those of `Run` and `Run.train`.
    """
    weights: Path | None = None
    teacher: Path | None = None
    for stage in stages:
        folder = Path(run_folder) / stage.name
        if not (folder / "export").is_dir():
            logger.info("stage %s in %s", stage.config.stage, folder)
            config = stage.config
            if weights is not None:
                config = dataclasses.replace(config, init_from=str(weights))
            if config.stage == "distill" and teacher is not None:
                config = dataclasses.replace(config, teacher=str(teacher))
            AcceleratorState._reset_state()  # stages may differ in precision; the process group stays
            if not Run(config, sources, folder, held_out).train():
                return False
        weights = run_checkpoint(folder)
        teacher = weights if stage.config.stage == "tokens" else teacher
    logger.info("the chain has ended: %s", weights)
    return True
