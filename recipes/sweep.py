"""Hyperparameter sweep: train a SpeechBrain recipe with each value of one setting, and print a table of the results.

    python recipes/sweep.py LibriSpeech/ASR lstm_small --key embedding --values codes digits table codec \
        --runs RUNS -- --data_folder CORPUS --cached_data_folder CACHE
    python recipes/sweep.py LJSpeech/TTS transformer_small --key head --values chained independent split full \
        --runs RUNS -- --data_folder CORPUS --cached_data_folder CACHE

Arguments after `--` are passed to the recipe's `train.py` unchanged. Each run has its folder `RUNS/KEY-VALUE`, resumes
after an interruption, and is not repeated once it has finished. The table has the number of parameters, the minutes of
training on this machine, and the best and last value of the metric that selects checkpoints: WER in percent, or nats
per id, on the validation set.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from l3ac_tokenizer.markup import markdown_code, table_row

MEASURES = {"LibriSpeech/ASR": ("valid WER", "WER %"), "LJSpeech/TTS": ("valid nats", "nats per id")}
MINUTES = "minutes.txt"
"""File of a run with the minutes that it has trained."""

FINISHED = "ended.json"
"""File of a finished run with its arguments."""


def logged(log: str, name: str) -> list[float]:
    """All values of a name in the text of a `train_log.txt`."""
    return [float(value) for value in re.findall(rf"{re.escape(name)}: ([-+.\de]+)", log)]


def train(recipe: str, hparams: str, folder: Path, arguments: Sequence[str]) -> None:
    """Run `train.py` of a recipe unless it has finished with these arguments, and add to the minutes it has trained.

    Raises:
        subprocess.CalledProcessError: the training failed.
    """
    finished, spent = folder / FINISHED, folder / MINUTES
    if finished.exists() and json.loads(finished.read_text("utf-8")) == list(arguments):
        return
    home = Path(__file__).parent / recipe
    script, settings = str(home / "train.py"), str(home / f"hparams/{hparams}.yaml")
    command = [sys.executable, script, settings, f"--output_folder={folder}"]
    folder.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()
    try:
        subprocess.run([*command, *arguments], check=True, stdout=sys.stderr)
        finished.write_text(json.dumps(list(arguments)), encoding="utf-8")
    finally:
        before = float(spent.read_text()) if spent.exists() else 0.0
        spent.write_text(f"{before + (time.monotonic() - since) / 60:.2f}")


def row(recipe: str, value: str, folder: Path) -> str:
    """The row of a finished run."""
    log = (folder / "train_log.txt").read_text("utf-8")
    curve = logged(log, MEASURES[recipe][0])
    parameters = logged(log, "million parameters")[-1]
    minutes = float((folder / MINUTES).read_text())
    cells = [f"{parameters:.2f}", str(len(curve)), f"{minutes:.0f}", f"{min(curve):.2f}", f"{curve[-1]:.2f}"]
    return table_row([markdown_code(value), *cells])


def main(argv: Sequence[str] | None = None) -> None:
    """Train unfinished runs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(MEASURES))
    parser.add_argument("hparams", help="name of one of the recipe's YAML files, without .yaml")
    parser.add_argument("--key", required=True, help="setting of the YAML file to vary")
    parser.add_argument("--values", nargs="+", required=True, help="values to train with")
    parser.add_argument("--runs", type=Path, required=True, help="parent folder of the runs")
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    options, arguments = parser.parse_args(given[:end]), given[end + 1 :]
    lines = []
    for value in options.values:
        folder = options.runs / f"{options.key}-{value}"
        train(options.recipe, options.hparams, folder, [f"--{options.key}={value}", *arguments])
        lines.append(row(options.recipe, value, folder))
    measure = MEASURES[options.recipe][1]
    print(f"| {options.key} | million parameters | epochs | minutes | best {measure} | last {measure} |")
    print("|---|---:|---:|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
