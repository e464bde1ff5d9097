"""Export of a checkpoint directory to a folder for the Hugging Face hub, optionally with upload, as by `l3ac push`.

python -m hf_integration.export CHECKPOINT -o FOLDER [--push OWNER/NAME [--private]]
"""

from __future__ import annotations

import argparse
import sys

from l3ac_tokenizer.cli import main as l3ac


def main(arguments: list[str] | None = None) -> int:
    """Run `l3ac push` with these arguments and return the exit status."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to a folder for the Hugging Face hub.")
    parser.add_argument("checkpoint", help="checkpoint directory, bundled name, or hub name")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this repository")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    options = parser.parse_args(arguments)
    given = [f"--model={options.checkpoint}", f"--output={options.output}", *["--private"] * options.private]
    return l3ac(["push", *given, *([] if options.push is None else [options.push])])


if __name__ == "__main__":
    sys.exit(main())
