"""`l3ac convert`: convert published weights to a checkpoint directory.

SOURCE is a folder. For L3AC and SQCodec it holds the five published files `encoder`, `quantizer`, `decoder`,
`en_encoder` and `en_decoder`, each as `.pt` or `.pth` (no code in them is run) or `.safetensors`. For `taae-950m` it
holds the files of `stabilityai/stable-codec-speech-16k` (Stability AI Community License): `model.safetensors` or
`model.ckpt`, and `model_config.json`, which must describe the preset.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from .options import UsageError
from .report import say, show_facts, show_json, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `l3ac convert`."""
    parser.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help="folder with the published files")
    parser.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="checkpoint directory to write")
    parser.add_argument("--preset", metavar="NAME", help="published network, e.g. l3ac-1k or taae-950m")
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="FOLDER",
        help="instead of converting, report the deviation of every network from the golden files in FOLDER",
    )


def run(options: argparse.Namespace) -> int:
    """Convert a folder of published weights, or verify parity (status 1 where it does not hold)."""
    converts = (options.source, options.output, options.preset)
    if options.verify is not None and not any(converts):
        return _verify(options.verify, as_json=options.json)
    if options.verify is not None or not all(converts):
        raise UsageError("give SOURCE, -o DIRECTORY and --preset NAME, or --verify FOLDER alone.")

    from transformers.utils import logging

    from ..conversion.convert import convert_checkpoint

    logging.disable_progress_bar()
    digest = convert_checkpoint(options.source, options.preset, options.output)
    facts = {"directory": str(options.output), "preset": options.preset, "weights_digest": digest}
    if options.json:
        show_json(facts)
    else:
        show_facts({name.replace("_", " "): value for name, value in facts.items()})
    return 0


def _verify(folder: Path, *, as_json: bool) -> int:
    """Print a table of the largest deviations; 0 if every network has a golden file and agrees with it, else 1."""
    from ..conversion.parity import tolerance, verify

    results, status = [], 0
    for path, parity in verify(folder):
        if parity is None:
            say(f"the golden file {path} is missing; give a folder that has all of them.")
        else:
            results.append(parity)
        if parity is None or not parity.holds():
            status = 1
    if as_json:
        show_json([{**asdict(parity), "holds": parity.holds()} for parity in results])
    elif results:
        rows = [
            (
                parity.preset,
                f"{parity.deviations[parity.worst()]:.1e}",
                f"{tolerance(parity.worst()):.0e}",
                parity.worst(),
                str(parity.ids),
                str(parity.changed_ids),
                str(parity.frames_near_boundary),
                "yes" if parity.holds() else "NO",
            )
            for parity in results
        ]
        header = ("preset", "deviation", "tolerance", "of", "ids", "changed", "near boundary", "holds")
        show_table(rows, header)
    return status
