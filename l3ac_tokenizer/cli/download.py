"""`l3ac download`: download published weights and convert them to a checkpoint directory.

NAME is a preset with published weights, see `l3ac models`; the result is loaded as `NAME-published`. Or it is a place
on the Hugging Face hub, `owner/repo[@revision][:folder]`, together with `--preset`. Files are verified, and no code in
them is run. A complete download is not repeated, and a damaged one is made again. HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE are respected; L3AC_CACHE is the folder to write to, by default ~/.cache/l3ac_tokenizer.
"""

from __future__ import annotations

import argparse

from .report import show_facts, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `l3ac download`."""
    parser.add_argument("name", metavar="NAME", help="preset, e.g. l3ac-1k, or owner/repo[@revision][:folder]")
    parser.add_argument("-o", "--output", metavar="DIRECTORY", help="directory to write (default: in the cache)")
    parser.add_argument("--preset", metavar="PRESET", help="network of the weights in owner/repo")
    parser.add_argument(
        "--calibrate",
        metavar="FOLDER",
        help="folder with ten minutes of audio or more, from which streaming gets its statistics (frozen time norm)",
    )
    parser.add_argument(
        "--any-sound", action="store_true", help="keep weights that decode speech to other sounds (default: refuse)"
    )


def run(options: argparse.Namespace) -> int:
    """Download, convert and try the weights, and print where they are."""
    from transformers.utils import logging

    from ..conversion.download import download
    from ..published import read_record

    logging.disable_progress_bar()
    folder = download(
        options.name,
        options.output,
        preset=options.preset,
        calibrate=options.calibrate,
        any_sound=options.any_sound,
    )
    record = read_record(folder) or {}
    if options.json:
        show_json({"directory": str(folder), **record})
        return 0
    calibration = record["calibration"]
    facts = {
        "directory": str(folder),
        "preset": record["preset"],
        "source": f"{record['repository']} {record['folder']}".strip(),
        "commit": record["commit"],
        "license": record["license"],
        "weights digest": record["weights_digest"],
        **{name.replace("_", " "): f"{value:.4g}" for name, value in record["trial"].items()},
        "frozen time norm": f"{calibration['minutes']:.1f} minutes" if calibration else "not calibrated (--calibrate)",
    }
    show_facts(facts)
    return 0
