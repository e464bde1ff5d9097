"""Chains of stages: one configuration that goes through several runs, each from the weights of the one before."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from .config import ConfigError, TrainingConfig, load_config, read_values
from .loop import Run

logger = logging.getLogger(__name__)


@dataclass
class ChainStage:
    """One run of a chain.

    Attributes:
        name: Folder of the run, e.g. `1-tokens`.
        config: Its configuration, with its share of the minutes.
    """

    name: str
    config: TrainingConfig


def load_chain(path: str | Path, overrides: dict[str, Any] | None = None) -> list[ChainStage] | None:
    """The stages of a configuration with the keys `chain` (a list of `config` and `share`) and `max_minutes`.

    Paths are relative to the file. `overrides` replace values in every stage, `max_minutes` that of the whole chain.

    Returns:
        None where the file describes a single run.

    Raises:
        ConfigError: A stage cannot be used, or the shares do not add up to 1.
    """
    values = read_values(path)
    if "chain" not in values:
        return None
    overrides = dict(overrides or {})
    minutes = overrides.pop("max_minutes", values.get("max_minutes"))
    unknown = values.keys() - {"chain", "max_minutes"}
    if unknown or not isinstance(minutes, int | float) or not isinstance(values["chain"], list):
        raise ConfigError(f"{path} is not a chain: give `chain`, a list of `config` and `share`, and `max_minutes`.")
    stages = []
    for number, entry in enumerate(values["chain"], 1):
        if not isinstance(entry, dict) or entry.keys() != {"config", "share"}:
            raise ConfigError(f"chain[{number - 1}] in {path} is {entry!r}; give `config` and `share`.")
        config = load_config(
            Path(path).parent / entry["config"], {**overrides, "max_minutes": minutes * entry["share"]}
        )
        stages.append(ChainStage(f"{number}-{config.stage}", config))
    total = sum(entry["share"] for entry in values["chain"])
    if abs(total - 1) > 1e-6:
        raise ConfigError(f"The shares of {path} add up to {total:g}; they must add up to 1.")
    return stages


def train_chain(
    stages: Sequence[ChainStage],
    sources: Sequence[str | Path],
    run_folder: str | Path,
    held_out: Sequence[str | Path] = (),
) -> bool:
    """Go through the stages, each in a folder of its own; what has ended before is passed over.

    A stage begins from the best weights of the one before; the teacher of `distill` is the `tokens` stage before it.

    Returns:
        Whether all stages have ended; False: one was interrupted.

    Raises:
        As `Run`.
    """
    weights: Path | None = None
    tokens: Path | None = None
    for stage in stages:
        folder = Path(run_folder) / stage.name
        if not (folder / "export").is_dir():
            logger.info("stage %s in %s", stage.config.stage, folder)
            config = stage.config
            if weights is not None:
                config = dataclasses.replace(config, init_from=str(weights))
            if config.stage == "distill" and tokens is not None:
                config = dataclasses.replace(config, teacher=str(tokens))
            if not Run(config, sources, folder, held_out).train():
                return False
            AcceleratorState._reset_state(reset_partial_state=True)  # the run has ended its processes' group
        weights = next(folder / name for name in ("best", "export") if (folder / name).is_dir())
        tokens = weights if stage.config.stage == "tokens" else tokens
    logger.info("the chain has ended: %s", weights)
    return True
