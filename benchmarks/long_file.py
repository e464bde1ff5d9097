"""Memory of encoding a long file, which must not grow with its length.

    python -m benchmarks.long_file --hours 10 --model l3ac-1k

Writes a synthetic recording of that length, encodes it with `l3ac encode` in a separate process, and prints the peak of
that process's resident memory, overall and for each tenth of the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from l3ac_tokenizer.children import module_command

RATE = 16_000
POLL_SECONDS = 2.0
ROWS = 10


def write_recording(path: Path, hours: float) -> None:
    """Write a FLAC file with a gliding tone, bursts of noise and pauses, in minutes of different pitch."""
    random = np.random.default_rng(0)
    time_axis = np.arange(60 * RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(hours * 60)):
            pitch = 100 + 80 * random.random() + 30 * np.sin(2 * np.pi * random.uniform(0.3, 1) * time_axis)
            phase = 2 * np.pi * np.cumsum(pitch) / RATE
            voice = np.sum([np.sin(k * phase) / k for k in range(1, 8)], axis=0)
            envelope = np.clip(np.sin(2 * np.pi * random.uniform(1, 4) * time_axis), 0, 1)
            file.write(0.1 * envelope * (voice + 0.3 * random.standard_normal(len(time_axis))))


def main() -> int:
    """Parse the arguments, measure and print; returns the exit status of `l3ac encode`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--model", default="l3ac-1k")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audio, ids = Path(folder) / "long.flac", Path(folder) / "long.l3ac"
        write_recording(audio, options.hours)
        command = module_command("l3ac_tokenizer.cli", "encode", str(audio), "-o", str(ids), "--model", options.model)
        start = time.monotonic()
        samples: list[tuple[float, float]] = []
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                samples.append((time.monotonic() - start, watched.memory_info().rss / 1e6))
            except psutil.NoSuchProcess:
                break
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - start
        print(f"{options.hours:g} h of audio, {options.model}: {options.hours * 3600 / seconds:.1f} x real time")
        print(f"peak resident memory {max(memory for _, memory in samples):.0f} MB\n")
        print("| share of the run | largest resident memory, MB |\n|---:|---:|")
        for row in range(ROWS):
            inside = [memory for at, memory in samples if row <= at / seconds * ROWS < row + 1]
            print(f"| {(row + 1) / ROWS:.0%} | {max(inside, default=0):.0f} |")
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
