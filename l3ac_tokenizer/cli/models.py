"""`l3ac models`: a table of the presets, with their weights: bundled, downloaded, or available to `l3ac download`.

The license and the size in MB are those of the weights in the package where they are bundled, else of the published.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .report import show_json, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `l3ac models` takes only the common arguments."""


def run(options: argparse.Namespace) -> int:
    """Print the table of presets."""
    from ..families import preset_config
    from ..hub import bundled_presets
    from ..presets import PRESETS

    weights = {name: _weights(name) for name in PRESETS}
    bundled = bundled_presets()
    configs = {name: preset_config(name) for name in PRESETS}
    if options.json:
        show_json(
            [
                {
                    "name": name,
                    "sampling_rate": config.sampling_rate,
                    "hop_length": config.hop_length,
                    "ids_per_second": config.frame_rate,
                    "bits_per_second": config.bits_per_second,
                    "levels": list(config.levels),
                    "codebook_size": config.codebook_size,
                    "bundled": name in bundled,
                    **weights[name],
                }
                for name, config in configs.items()
            ]
        )
        return 0
    rows = [
        (
            name,
            str(config.sampling_rate),
            str(config.hop_length),
            f"{config.frame_rate:.2f}",
            f"{config.bits_per_second:.0f}",
            ",".join(map(str, config.levels)),
            str(config.codebook_size),
            _state(name in bundled, weights[name]),
            "-" if weights[name]["megabytes"] is None else str(weights[name]["megabytes"]),
            weights[name]["license"] or "-",
        )
        for name, config in configs.items()
    ]
    show_table(rows, ("preset", "Hz", "hop", "ids/s", "bits/s", "levels", "codebook", "weights", "MB", "license"))
    return 0


def _weights(preset: str) -> dict[str, Any]:
    """Origin, license and size in MB of the weights of a preset."""
    from ..hub import CHECKPOINTS
    from ..hub_card import license_of
    from ..published import PUBLISHED, SUFFIX, cache_folder, is_downloaded, read_record

    published = PUBLISHED.get(preset)
    facts: dict[str, Any] = {
        "available": published is not None,
        "downloaded": published is not None and is_downloaded(preset),
        "license": published and published.license,
        "megabytes": published and published.megabytes,
    }
    bundled = CHECKPOINTS / preset / "model.safetensors"
    folder = Path(cache_folder() / f"{preset}{SUFFIX}")
    if bundled.is_file():
        facts |= {"license": license_of(bundled.parent), "megabytes": _megabytes(bundled)}
    elif facts["downloaded"]:
        record = read_record(folder) or {}
        facts |= {"license": record.get("license"), "megabytes": _megabytes(folder / "model.safetensors")}
    return facts


def _megabytes(file: Path) -> int:
    return round(file.stat().st_size / 1e6)


def _state(is_bundled: bool, facts: dict[str, Any]) -> str:
    names = [name for name in ("downloaded", "available") if facts[name]][:1]
    return ", ".join((["bundled"] if is_bundled else []) + names) or "-"
