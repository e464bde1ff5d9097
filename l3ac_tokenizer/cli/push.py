"""`l3ac push`: publish a checkpoint on the Hugging Face hub.

The repository gets the weights bit for bit, and the model card with the metadata by which the hub finds a codec and the
lines that load it. The model is loaded and run once before anything is uploaded. Log in with `hf auth login`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .options import MODEL_HELP, UsageError
from .report import show_facts, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac push`."""
    parser.add_argument("repository", nargs="?", metavar="OWNER/NAME", help="repository, created if necessary")
    parser.add_argument("--model", required=True, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="also write what is uploaded here; without OWNER/NAME, do only that"
    )
    parser.add_argument("--private", action="store_true", help="create a private repository")


def run(options: argparse.Namespace) -> int:
    """Make the folder, upload it, and print its address and weights digest."""
    if options.repository is None and options.output is None:
        raise UsageError("give OWNER/NAME to upload to, or -o FOLDER to write.")

    from transformers.utils import logging

    from ..publishing import export_folder, upload_folder

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.output or Path(scratch, "hub"))
        facts = {"weights_digest": export_folder(options.model, folder, options.repository)}
        if options.output is not None:
            facts["folder"] = str(folder)
        if options.repository is not None:
            facts["commit"] = upload_folder(folder, options.repository, private=options.private)
    if options.json:
        show_json(facts)
    else:
        show_facts({name.replace("_", " "): value for name, value in facts.items()})
    return 0
