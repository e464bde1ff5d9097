"""Resuming tokenization: compares an uninterrupted run with one that is killed (SIGKILL) several times.

    OMP_NUM_THREADS=1 python -m benchmarks.resume FOLDER --output SCRATCH [--kills 3] [--shard-rows 50]

The kills are spread over the run, each at a random moment (seed 0) during the work on a shard.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from l3ac_tokenizer.children import module_command


def command(folder: str, output: Path, shard_rows: int, model: str) -> list[str]:
    """Command line of a run."""
    arguments = [folder, "-o", str(output), "--shard-rows", str(shard_rows), "--model", model, "--json"]
    return module_command("l3ac_tokenizer.cli", "tokenize", *arguments)


def shards_done(output: Path) -> int:
    """Number of finished shards in a folder."""
    manifest = output / "manifest.jsonl"
    return max(0, manifest.read_bytes().count(b"\n") - 1) if manifest.exists() else 0


def rows_digest(output: Path) -> tuple[int, str]:
    """Number of rows, and a digest of all rows in order."""
    count, digest = 0, hashlib.sha256()
    for path in sorted(output.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            digest.update(json.dumps(row).encode())
            count += 1
    return count, digest.hexdigest()


def main() -> None:
    """Run, kill and compare; exits with status 1 if the rows differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="corpus to tokenize")
    parser.add_argument("--output", required=True, type=Path, help="empty scratch folder")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=50)
    parser.add_argument("--model", default="l3ac-1k")
    options = parser.parse_args()

    whole, killed = options.output / "whole", options.output / "killed"
    began = time.perf_counter()
    done = subprocess.run(
        command(options.folder, whole, options.shard_rows, options.model), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.perf_counter() - began
    summary = json.loads(done.stdout)
    print(
        f"uninterrupted: {summary['clips']} clips, {summary['hours']:.2f} h, {summary['failures']} failures, "
        f"{seconds:.0f} s"
    )

    chance = random.Random(0)
    shards = shards_done(whole)
    for kill in range(1, options.kills + 1):
        run = subprocess.Popen(
            command(options.folder, killed, options.shard_rows, options.model),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while shards_done(killed) < kill * shards // (options.kills + 1) and run.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, seconds / shards))
        run.kill()
        print(f"kill {kill}: status {run.wait()}, {shards_done(killed)} of {shards} shards done")
    last = subprocess.run(command(options.folder, killed, options.shard_rows, options.model), capture_output=True)
    first, second = rows_digest(whole), rows_digest(killed)
    files = sum(
        (killed / path.name).read_bytes() == path.read_bytes()
        for path in whole.glob("*.parquet")
        if last.returncode == 0
    )
    same = last.returncode == 0 and first == second
    print(
        f"resumed to the end: status {last.returncode}, {second[0]} rows of {first[0]}; rows {first[1][:16]}…, ", end=""
    )
    print(f"{second[1][:16]}…: {'equal' if same else 'DIFFERENT'}; {files} of {shards} files are identical")
    sys.exit(not same)


if __name__ == "__main__":
    main()
