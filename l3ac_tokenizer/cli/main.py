"""Entry point of `l3ac`: argument parser, exit status and error messages.

Exit status: 0 success, 1 failure on the data or the machine, 2 wrong usage, 130 interrupted. An error is one sentence
on standard error; `--debug` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from ..version import __version__
from . import (
    analyze,
    convert,
    decode,
    demo,
    detokenize,
    download,
    encode,
    evaluate,
    export_onnx,
    export_tokens,
    info,
    merge,
    models,
    push,
    serve,
    stats,
    tokenize,
    train,
)
from .options import UsageError, add_common
from .report import one_sentence, say

COMMANDS = {
    "encode": encode,
    "decode": decode,
    "info": info,
    "models": models,
    "download": download,
    "demo": demo,
    "serve": serve,
    "tokenize": tokenize,
    "detokenize": detokenize,
    "merge": merge,
    "stats": stats,
    "export-tokens": export_tokens,
    "evaluate": evaluate,
    "analyze": analyze,
    "train": train,
    "push": push,
    "export-onnx": export_onnx,
    "convert": convert,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `l3ac` with these arguments (default: those of the process) and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # file names may hold characters that the terminal cannot show
    options = parse_arguments(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        say("interrupted.")
        return 130
    except BrokenPipeError:  # the reader of standard output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        if isinstance(error, (UsageError, ValueError, OSError)):
            say(one_sentence(error))
        else:
            say(f"unexpected {type(error).__name__}: {one_sentence(error)} (--debug shows where).")
        return 2 if isinstance(error, UsageError) else 1


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; exits with status 2 if it is wrong.

    Arguments that are not of its command end up in `further`, if the command has such an attribute.
    """
    parser = make_parser()
    options, further = parser.parse_known_args(arguments)
    if hasattr(options, "further"):
        options.further = further
    elif further:
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    return options


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `l3ac` with all commands."""
    parser = argparse.ArgumentParser(
        prog="l3ac", description="Neural audio codec: audio to token ids and back.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"l3ac_tokenizer {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2].strip()
        command = commands.add_parser(
            name, help=summary.splitlines()[0].rstrip("."), description=summary, allow_abbrev=False
        )
        module.add_arguments(command)
        add_common(command)
        command.set_defaults(run=module.run)
    return parser
