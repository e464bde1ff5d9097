"""`l3ac export-onnx`: write a codec as two ONNX graphs, for programs without torch.

The folder gets `encoder.onnx` and `decoder.onnx`, which onnxruntime and numpy run; see the guide to deploying.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .loading import load_model
from .options import add_model
from .report import show_json, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac export-onnx`."""
    add_model(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder for the two files")
    parser.add_argument(
        "--int8",
        nargs="?",
        const="decoder",
        choices=("decoder", "both"),
        help="store the weights of matrix products in int8, in the decoder (the default) or in both graphs: smaller "
        "files; int8 of both changes ids (see the guide to deploying)",
    )


def run(options: argparse.Namespace) -> int:
    """Export, and print the files with their sizes."""
    model = load_model(options.model)

    from ..onnx import FILES, export_onnx, quantize_int8

    try:
        export_onnx(model, options.output)
        if options.int8:
            quantize_int8(options.output, options.int8)
    except ImportError as error:  # a sentence that names the extra
        raise ValueError(str(error)) from error
    sizes = {str(options.output / name): (options.output / name).stat().st_size for name in FILES}
    if options.json:
        show_json(sizes)
    else:
        show_table([(path, f"{size / 1e6:.1f} MB") for path, size in sizes.items()])
    return 0
