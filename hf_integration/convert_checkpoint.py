"""Conversion of published weights to a checkpoint directory, as by `l3ac convert`.

python -m hf_integration.convert_checkpoint --preset l3ac-1k --weights FOLDER --output DIRECTORY
python -m hf_integration.convert_checkpoint --verify FOLDER
"""

from __future__ import annotations

import argparse
import sys

from l3ac_tokenizer.cli import main as l3ac


def main(arguments: list[str] | None = None) -> int:
    """Run `l3ac convert` with these arguments and return the exit status."""
    parser = argparse.ArgumentParser(description="Convert published L3AC, SQCodec or TAAE weights.")
    parser.add_argument("--preset", help="published network, e.g. l3ac-1k or taae-950m")
    parser.add_argument("--weights", help="folder with the published files")
    parser.add_argument("--output", help="checkpoint directory to write")
    parser.add_argument("--verify", metavar="FOLDER", help="report the deviation from the golden files in FOLDER")
    options = vars(parser.parse_args(arguments))
    source = options.pop("weights")
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return l3ac(["convert", *given, *([] if source is None else [source])])


if __name__ == "__main__":
    sys.exit(main())
