"""Arguments shared by several commands."""

from __future__ import annotations

import argparse

from ..hub import DEFAULT_MODEL

MODEL_HELP = "bundled name, directory, or hub name (owner/name)"


OF_MODEL = "model"
"""`--lufs`: as the feature extractor of the model."""


class UsageError(Exception):
    """Arguments that are valid one by one but contradict each other; exit status 2."""


def add_model(parser: argparse.ArgumentParser, default: str | None = DEFAULT_MODEL, otherwise: str = "") -> None:
    """Add the model of the command; `otherwise` says which one it is without this option and `default`."""
    without = f"default: {default or otherwise}"
    parser.add_argument("--model", default=default, metavar="MODEL", help=f"{MODEL_HELP}; {without}")


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Add the device and the amount of audio that the network processes at once."""
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cuda (default: %(default)s)")
    parser.add_argument(
        "--chunk-seconds",
        type=positive_number,
        default=30.0,
        metavar="S",
        help="seconds of audio to process at once: longer files are split into chunks, shorter ones are batched; "
        "affects memory, not results (default: %(default)g)",
    )


def add_lufs(parser: argparse.ArgumentParser) -> None:
    """Add the loudness to which clips are leveled."""
    parser.add_argument(
        "--lufs",
        type=_loudness,
        default=OF_MODEL,
        metavar="LUFS",
        help="level each clip to this loudness, e.g. -20, and store the scale that restores its level; none: keep the "
        "level; model: as its preprocessor_config.json says (default: %(default)s)",
    )


def add_truncated(parser: argparse.ArgumentParser) -> None:
    """Add the option to use truncated files."""
    parser.add_argument(
        "--allow-truncated",
        action="store_true",
        help="use what is there of truncated audio files, and count them (default: they are failures)",
    )


def add_outside(parser: argparse.ArgumentParser) -> None:
    """Add the option to read outside of a corpus."""
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="also read files outside the folder or the manifest's folder that paths or links in it name (default: "
        "they are left out, or failures)",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _loudness(text: str) -> float | str | None:
    """Parse a loudness in LUFS, `none` or `model`."""
    from ..loudness import checked_lufs

    if text == OF_MODEL:
        return text
    try:
        return None if text == "none" else checked_lufs(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a loudness from -70 to 0 nor none") from error


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def positive_integer(text: str) -> int:
    """Parse an integer above 0."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer above 0")
    return int(text)
