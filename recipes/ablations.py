"""Train the paper's ablations one after the other for the same minutes, and print what each reached.

    python recipes/ablations.py --data DIR... --held-out DIR... --runs FOLDER --minutes 20 [--key value ...]

Further `--key value` pairs are configuration values of every run, for example crops and batches that fit the machine:
`--phases "[{crop_seconds: 1, batch_size: 8}]" --accumulation 1`. A run that has ended is not repeated. Add `--cpu` to
train on the CPU, otherwise the configuration of `accelerate config` holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parent
CONFIGS = [RECIPES / "configs/l3ac-1k.yaml", *sorted((RECIPES / "configs/ablations").glob("*.yaml"))]
COLUMNS = {"speech STOI": "stoi", "speech PESQ-WB": "pesq_wb", "SI-SDR (dB)": "si_sdr"}


def table(runs: dict[str, Path], minutes: float) -> str:
    """Markdown table of the last scores and losses in the runs' logs, means over domains."""
    rows = []
    for name, folder in runs.items():
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        last = {key: value for record in records for key, value in record.items()}
        cells = [name, f"{last['step']:.0f}", f"{last['hours_of_audio']:.2f}"]
        for measure in COLUMNS.values():
            values = [value for key, value in last.items() if key.startswith("held_out/") and key.endswith(measure)]
            cells.append(f"{sum(values) / len(values):.3f}" if values else "–")
        cells += [f"{last.get('held_out/ids', 0):.0f}", f"{last['l1']:.4f}", f"{last['stft']:.3f}"]
        rows.append(f"| {' | '.join(cells)} |")
    head = ["run", "updates", "hours of audio", *COLUMNS, "ids in use", "training L1", "training STFT"]
    title = f"Short runs: {minutes:g} minutes each, one seed. They compare beginnings, not trained codecs."
    return "\n".join([title, "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|", *rows])


def main() -> int:
    """Run what has not ended yet, then print the table; 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", required=True, nargs="+", help="as for train_codec.py")
    parser.add_argument("--held-out", nargs="+", default=[], help="as for train_codec.py")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the runs' folders")
    parser.add_argument("--minutes", required=True, type=float, help="of each run")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU")
    arguments, rest = parser.parse_known_args()
    launch = [sys.executable, "-m", "accelerate.commands.launch", *(["--cpu"] if arguments.cpu else [])]
    held_out = ["--held-out", *arguments.held_out] if arguments.held_out else []
    runs = {config.stem: arguments.runs / config.stem for config in CONFIGS}
    for config in CONFIGS:
        folder = runs[config.stem]
        if (folder / "export").is_dir():
            continue
        command = [*launch, RECIPES / "train_codec.py", "--config", config, "--data", *arguments.data, *held_out]
        limits = ["--run", folder, "--max-minutes", str(arguments.minutes), "--max-steps", "null"]
        if subprocess.run([*map(str, command), *map(str, limits), *rest]).returncode:
            print(f"error: the run {config.stem} failed; its messages are above.", file=sys.stderr)
            return 1
    print(table(runs, arguments.minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
