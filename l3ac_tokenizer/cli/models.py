"""`l3ac models`: a table of the presets, which also shows the bundled ones."""

from __future__ import annotations

import argparse

from .report import show_json, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `l3ac models` takes only the common arguments."""


def run(options: argparse.Namespace) -> int:
    """Print the table of presets."""
    from ..families import preset_config
    from ..hub import bundled_presets
    from ..presets import PRESETS

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
            "bundled" if name in bundled else "-",
        )
        for name, config in configs.items()
    ]
    show_table(rows, ("preset", "Hz", "hop", "ids/s", "bits/s", "levels", "codebook", "weights"))
    return 0
