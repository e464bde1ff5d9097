"""Train the paper's ablations one after the other for the same time, and print a table of their scores.

    python recipes/ablations.py --data DIR... --held-out DIR... --runs FOLDER --minutes 20 [--key value ...]

Further `--key value` pairs are configuration values of every run, for example crops and batches that fit the machine:
`--phases "[{crop_seconds: 1, batch_size: 8}]" --accumulation 1`. Finished runs are not repeated, interrupted ones
resume. `--cpu` trains on the CPU; otherwise the configuration of `accelerate config` applies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from l3ac_tokenizer.children import module_command
from l3ac_tokenizer.training.config_files import bundled_configs

TRAIN = Path(__file__).parent / "train_codec.py"
CONFIGS = ["l3ac-1k", *(name for name in bundled_configs() if name.startswith("ablations/"))]
"""The paper's own configuration, and one for each ablation."""
COLUMNS = {"speech STOI": "stoi", "speech PESQ-WB": "pesq_wb", "SI-SDR (dB)": "si_sdr"}


def ablation_table(runs: dict[str, Path], minutes: float) -> str:
    """Markdown table of the last scores and losses in each run's log, means over domains."""
    rows = []
    for name, folder in runs.items():
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        last = {key: value for record in records for key, value in record.items()}
        cells = [name, _cell(last, "step", 0), _cell(last, "hours_of_audio", 2)]
        for measure in COLUMNS.values():
            values = [value for key, value in last.items() if key.startswith("held_out/") and key.endswith(measure)]
            cells.append(f"{sum(values) / len(values):.3f}" if values else "–")
        cells += [_cell(last, "held_out/ids", 0), _cell(last, "l1", 4), _cell(last, "stft", 3)]
        rows.append(f"| {' | '.join(cells)} |")
    head = ["run", "updates", "hours of audio", *COLUMNS, "ids in use", "training L1", "training STFT"]
    title = f"Short runs: {minutes:g} minutes each, one seed. They compare beginnings, not trained codecs."
    return "\n".join([title, "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|", *rows])


def _cell(figures: dict[str, float], name: str, digits: int) -> str:
    return f"{figures[name]:.{digits}f}" if name in figures else "–"


def _share_corpus(folder: Path) -> None:
    """Make the run use the folder of decoded audio that all runs share; the first run fills it."""
    shared = folder.parent / "corpus"
    shared.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    if not (folder / "corpus").exists():
        (folder / "corpus").symlink_to(Path("..", "corpus"))


def main() -> int:
    """Train unfinished runs, then print the table; returns 1 if a run failed or was interrupted, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, nargs="+", help="as for train_codec.py")
    parser.add_argument("--held-out", nargs="+", default=[], help="as for train_codec.py")
    parser.add_argument("--runs", required=True, type=Path, help="parent folder of the runs")
    parser.add_argument("--minutes", required=True, type=float, help="training time of each run")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU")
    arguments, rest = parser.parse_known_args()
    launch = module_command("accelerate.commands.launch", *(["--cpu"] if arguments.cpu else []))
    held_out = ["--held-out", *arguments.held_out] if arguments.held_out else []
    runs = {config: arguments.runs / config.rpartition("/")[2] for config in CONFIGS}
    for config in CONFIGS:
        folder = runs[config]
        if (folder / "export").is_dir():
            continue
        command = [*launch, TRAIN, "--config", config, "--data", *arguments.data, *held_out]
        limits = ["--run", folder, "--max-minutes", str(arguments.minutes), "--max-steps", "null"]
        _share_corpus(folder)
        process = subprocess.Popen([*map(str, command), *map(str, limits), *rest])
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the run received it too, and saves its state
            process.wait()
            return 130
        if status or not (folder / "export").is_dir():
            print(f"error: the run {folder.name} did not finish; see its messages above.", file=sys.stderr)
            return 1
    print(ablation_table({folder.name: folder for folder in runs.values()}, arguments.minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
