"""Train a codec.

    accelerate launch recipes/train_codec.py --config recipes/configs/l3ac-1k.yaml --data DIR... --run RUN

Any configuration value can be given as well (`--lr 1e-4 --augment.polarity true`). The same command resumes a run that
was stopped or killed. A run of minutes on two CPU cores:

    accelerate launch --cpu recipes/train_codec.py --config recipes/configs/l3ac-1k-cpu.yaml --data DIR... \
        --run RUN --max-minutes 20

The light network, in stages, on CPU cores:

    accelerate launch --cpu recipes/train_codec.py --config recipes/configs/l3ac-1k-light.yaml --data DIR... \
        --run RUN --max-minutes 240
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from l3ac_tokenizer.markup import printable
from l3ac_tokenizer.training.chain import load_chain, train_chain
from l3ac_tokenizer.training.config import load_config, parse_overrides
from l3ac_tokenizer.training.loop import Run, TrainingError, leave_process_group


def main() -> int:
    """Run the recipe.

    Returns:
        Exit status: 0 done, 1 failed on the data or the machine, 2 wrong usage, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        description="Train a codec.", epilog="Every other --key is a configuration value.", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="YAML file, e.g. recipes/configs/l3ac-1k.yaml")
    parser.add_argument("--data", required=True, nargs="+", help="dataset roots, folders and manifests of audio")
    parser.add_argument(
        "--held-out", nargs="+", default=[], help="the same, for audio to choose the best weights by; never trained on"
    )
    parser.add_argument("--run", required=True, help="run folder (states, logs, weights); a run in it is resumed")
    arguments, rest = parser.parse_known_args()
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if is_main else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        overrides = parse_overrides(rest)
        stages = load_chain(arguments.config, overrides)
        config = load_config(arguments.config, overrides) if stages is None else None
    except ValueError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    try:
        audio = (arguments.data, arguments.run, arguments.held_out)
        ended = Run(config, *audio).train() if config is not None else train_chain(stages or (), *audio)
    except (TrainingError, ValueError, OSError) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        leave_process_group()
    return 0 if ended else 130


if __name__ == "__main__":
    sys.exit(main())
