"""`l3ac export-onnx`: write a codec as two ONNX graphs, for programs without torch.

The folder gets `encoder.onnx` and `decoder.onnx`, or `streaming_encoder.onnx` and `streaming_decoder.onnx`, which
onnxruntime and numpy run; see the guide to deploying.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .loading import load_model
from .options import add_model, positive_integer
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
    parser.add_argument(
        "--streaming",
        nargs="?",
        const=2,
        type=positive_integer,
        metavar="FRAMES",
        help="graphs for streams instead, which process this many ids at once and take and return their state "
        "(default: %(const)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Export, and print the files with their sizes."""
    if options.int8 and options.streaming:
        raise ValueError("--int8 is not there for streams; leave out either --int8 or --streaming.")
    model = load_model(options.model)

    from ..onnx import FILES, STREAMING_FILES, export_onnx, export_streaming, quantize_int8

    try:
        if options.streaming:
            export_streaming(model, options.output, options.streaming)
        else:
            export_onnx(model, options.output)
        if options.int8:
            quantize_int8(options.output, options.int8)
    except ImportError as error:  # a sentence that names the extra
        raise ValueError(str(error)) from error
    written = STREAMING_FILES if options.streaming else FILES
    sizes = {str(options.output / name): (options.output / name).stat().st_size for name in written}
    if options.json:
        show_json(sizes)
    else:
        show_table([(path, f"{size / 1e6:.1f} MB") for path, size in sizes.items()])
    return 0
