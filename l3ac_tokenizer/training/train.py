"""`train`: a configuration and audio to a checkpoint, in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .chain import load_chain, train_chain
from .config import load_config
from .export import run_checkpoint
from .loop import Run

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def train(
    config: str | os.PathLike[str],
    data: Paths,
    run: str | os.PathLike[str],
    *,
    held_out: Paths = (),
    **values: Any,
) -> Path:
    """Train a codec, or resume the run in a folder, and return the folder of its checkpoint.

    Args:
        config: Name of a bundled configuration, such as `"l3ac-1k-light"` or `"l3ac-1k-light-finetune"`, or a YAML
            file; a run, or a chain of stages, each of which is a run.
        data: Dataset roots, folders and manifests of audio to train on, one or several.
        run: Folder of the run, with training states, logs and weights; it is created if necessary.
        held_out: Like `data`, for audio to choose the best weights by; never trained on.
        values: Values of the configuration to replace, by the names of `TrainingConfig`: `max_minutes=30`, `lr=1e-4`.

    Returns:
        The checkpoint directory with the best score on the held-out audio or, without any, that of the end of the run.

    Raises:
        ConfigError: The configuration is invalid (a ValueError).
        DataError: The audio is missing, empty or mostly unusable (a ValueError).
        TrainingError: Training cannot continue, for instance because a loss is not finite (a RuntimeError).
        KeyboardInterrupt: The run was interrupted; its state is saved, and the same call resumes it.
    """
    stages = load_chain(Path(config), values)
    folder = Path(run)
    audio, held = _listed(data), _listed(held_out)
    if stages is None:
        ended = Run(load_config(Path(config), values), audio, folder, held).train()
    else:
        ended = train_chain(stages, audio, folder, held)
        folder = folder / stages[-1].name
    if not ended:
        raise KeyboardInterrupt
    return run_checkpoint(folder)


def _listed(paths: Paths) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
