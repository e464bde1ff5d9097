"""Memory of `l3ac tokenize` over time, as a picture.

    python -m benchmarks.memory run RUN.csv CORPUS -o OUT [further options of l3ac tokenize]
    python -m benchmarks.memory draw PICTURE.png "ten hours in one file=RUN.csv" …

Memory is the proportional set size (PSS) of the command and its child processes, every five seconds.
"""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import psutil

from l3ac_tokenizer.children import module_command
from l3ac_tokenizer.files import atomic_write

POLL_SECONDS = 5.0


def megabytes(process: psutil.Process) -> float:
    """PSS of a process and its children."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += each.memory_full_info().pss / 1e6
    return total


def run(output: Path, arguments: list[str]) -> int:
    """Run `l3ac tokenize`, write seconds and megabytes to a CSV file, and return the exit status."""
    began = time.monotonic()
    process = subprocess.Popen(module_command("l3ac_tokenizer.cli", "tokenize", *arguments))
    with open(output, "w", newline="") as file:
        rows = csv.writer(file)
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                rows.writerow([round(time.monotonic() - began, 1), round(megabytes(psutil.Process(process.pid)), 1)])
            time.sleep(POLL_SECONDS)
    return process.returncode


def draw(picture: Path, runs: Mapping[str, Path]) -> None:
    """Draw the memory of runs over the share of their time."""
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for label, path in runs.items():
        values = [[float(row[0]), float(row[1])] for row in csv.reader(path.read_text().splitlines())]
        axes.plot([100 * seconds / values[-1][0] for seconds, _ in values], [size for _, size in values], label=label)
    axes.set(xlabel="% of the run", ylabel="memory, MB", ylim=(0, None), xlim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    with atomic_write(picture) as file:
        file.write(image.getvalue())


def main() -> int:
    """Read the arguments, and run or draw."""
    match sys.argv[1:]:
        case ["run", output, *arguments] if arguments:
            return run(Path(output), arguments)
        case ["draw", picture, *runs] if runs:
            draw(Path(picture), {label: Path(path) for label, _, path in (each.rpartition("=") for each in runs)})
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
