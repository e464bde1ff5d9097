"""`l3ac train`: train a codec, or fine-tune one.

--config names a bundled configuration or a YAML file. Every value of it can be given as well: --max-minutes 30,
--lr 1e-4, --augment.polarity true. The same command resumes a run that was stopped or killed. Several processes are
started by `accelerate launch --module l3ac_tokenizer.cli train …`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from ..training.config_files import ConfigError, bundled_configs
from .options import UsageError
from .report import needing_extra, show_facts, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac train`; all others are values of the configuration, in `further`."""
    parser.add_argument("--config", required=True, help=f"a YAML file, or one of {', '.join(bundled_configs())}")
    parser.add_argument("--data", required=True, nargs="+", help="dataset roots, folders and manifests of audio")
    parser.add_argument(
        *("--held-out", "--held_out"),  # with either, as the values of the configuration are written
        nargs="+",
        default=[],
        help="the same, for audio to choose the best weights by; never trained on",
    )
    parser.add_argument(
        "--run",
        required=True,
        dest="folder",
        metavar="RUN",
        help="folder of states, logs and weights; a run in it is resumed",
    )
    parser.epilog = "Every other --key value is a value of the configuration; see the training guide."
    parser.set_defaults(further=[])


def run(options: argparse.Namespace) -> int:
    """Train, and print the folder of the checkpoint."""
    with needing_extra("train"):
        from ..training.config import parse_overrides
        from ..training.loop import TrainingError, leave_process_group
        from ..training.train import train

    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if is_main else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        values: dict[str, Any] = parse_overrides(options.further)
        checkpoint = train(options.config, options.data, options.folder, held_out=options.held_out, **values)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    except TrainingError as error:
        raise ValueError(str(error)) from error
    finally:
        leave_process_group()
    if is_main:
        show = show_json if options.json else show_facts
        show({"checkpoint": str(checkpoint)})
    return 0
