"""Plot of a training run from its log.

python -m benchmarks.training_curve RUN/log.jsonl -o docs/reports/training.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mode

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = (
    ("training losses", "raw value", {"stft": "multi-scale STFT", "cosine": "1 - cosine"}),
    ("held-out speech", "STOI", {"held_out/speech/stoi": "STOI"}),
    ("held-out clips", "SI-SDR, dB", {f"held_out/{d}/si_sdr": d for d in ("speech", "music", "general")}),
    ("ids", "distinct ids among {frames:,} (training)", {"ids_in_use": "ids in use"}),
)


def draw_training_curves(log: Path, picture: Path) -> None:
    """Write a plot of losses, STOI, SI-SDR and ids in use over minutes of training.

    Only the most frequent number of frames per record is shown for losses and ids, which depend on it.
    """
    records = [json.loads(line) for line in log.read_text().splitlines()]
    frames = mode(record["frames"] for record in records if "frames" in record)
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    for axis, (title, unit, curves) in zip(axes.flat, PANELS, strict=True):
        for name, label in curves.items():
            points = [(r["minutes"], r[name]) for r in records if name in r and r.get("frames", frames) == frames]
            marker = "o" if name.startswith("held_out") else None
            axis.plot(*zip(*points, strict=True), label=label, marker=marker, linewidth=1)
        axis.set(title=title, xlabel="minutes", ylabel=unit.format(frames=round(frames)))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Parse the arguments and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="log.jsonl of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG or SVG")
    options = parser.parse_args()
    draw_training_curves(options.log, options.output)


if __name__ == "__main__":
    main()
