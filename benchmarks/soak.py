"""Soak test of tokenization: generated clips of every kind, some of them broken, tokenized with kills in between.

    OMP_NUM_THREADS=1 python -m benchmarks.soak SCRATCH [--clips 20000] [--kills 4] [--broken 0.03]

The clips have the formats of `FORMATS` and lengths of 0.05 to 0.4 s; broken ones are damaged in the ways of `BREAK`.
The run is killed (SIGKILL) at random moments and started again. In the end every good clip must be there exactly once,
with its length, and every broken one must be a failure that names it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
from tqdm import tqdm

from benchmarks.resume import command, shards_done
from l3ac_tokenizer import L3ACConfig, L3ACModel

RATE = 16_000
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_24"),
    ".au": ("AU", "FLOAT"),
    ".w64": ("W64", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
}
"""soundfile's format and subtype for each suffix."""


def _halve(path: Path, chance: random.Random) -> None:
    """Keep a random part of the file, from a tenth to nine tenths of it."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * chance.uniform(0.1, 0.9))])


def _replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def _link(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _not_finite(path: Path, chance: random.Random) -> None:
    samples = np.zeros(2000, np.float32)
    samples[chance.randrange(2000)] = chance.choice([np.nan, np.inf, 1e9])
    soundfile.write(path, samples, RATE, "FLOAT", format="WAV")


BREAK: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _halve,
    "empty": lambda path, chance: _replace(path, b""),
    "text": lambda path, chance: _replace(path, b"<html>404</html>"),
    "noise": lambda path, chance: _replace(path, chance.randbytes(3000)),
    "link to nowhere": _link,
    "samples that are not audio": _not_finite,
    "no samples": lambda path, chance: soundfile.write(path, np.zeros(0), RATE, "PCM_16", format="WAV"),
}
"""Ways in which a clip can be broken, by name."""


def generate(folder: Path, clips: int, broken: float, seed: int = 0) -> tuple[dict[str, int], dict[str, str]]:
    """Write the clips: id → length in samples of the good ones, path → kind of damage of the others."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    good: dict[str, int] = {}
    bad: dict[str, str] = {}
    for number in tqdm(range(clips), desc="generating", file=sys.stderr, disable=None):
        suffix = chance.choice(list(FORMATS))
        path = folder / f"{number // 1000:03d}" / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind, subtype = FORMATS[suffix]
        samples = 0.1 * noise.standard_normal(chance.randrange(800, 6400)).astype(np.float32)
        soundfile.write(path, samples, RATE, subtype, format=kind)
        name = path.relative_to(folder).as_posix()
        if chance.random() < broken:
            bad[name] = chance.choice(list(BREAK))
            BREAK[bad[name]](path, chance)
        else:
            good[os.path.splitext(name)[0]] = len(soundfile.read(path)[0]) if suffix == ".mp3" else len(samples)
    return good, bad


def run_with_kills(
    corpus: Path, output: Path, model: Path, clips: int, kills: int, shard_rows: int, seed: int = 0
) -> list[int]:
    """Tokenize, killed at random moments spread over the run; the numbers of shards that stood at each kill."""
    chance = random.Random(seed)
    arguments = command(str(corpus), output, shard_rows, str(model))
    shards = -(-clips // shard_rows)
    stood = []
    for moment in sorted(chance.uniform(0, shards - 1) for _ in range(kills)):
        run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while shards_done(output) < moment and run.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        run.kill()
        run.wait()
        stood.append(shards_done(output))
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return stood


def faults(output: Path, good: dict[str, int], bad: dict[str, str]) -> list[str]:
    """Everything that is not as it should be: one sentence each."""
    rows = [row for path in sorted(output.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    failures = [json.loads(line) for line in (output / "failures.jsonl").read_text("utf-8").splitlines()]
    counts = Counter(row["id"] for row in rows)
    lengths = {row["id"]: row["num_samples"] for row in rows}
    failed = Counter(failure["path"] for failure in failures)
    found = [f"{name} is there {counts[name]} times." for name in good if counts[name] != 1]
    found += [
        f"{name} has {lengths[name]} samples and not {samples}."
        for name, samples in good.items()
        if lengths.get(name, samples) != samples
    ]
    found += [f"{name} ({kind}) failed {failed[name]} times." for name, kind in bad.items() if failed[name] != 1]
    found += [f"{path} failed and is not broken." for path in failed if path not in bad]
    found += [
        f"the reason of {failure['path']} does not name it: {failure['error']}"
        for failure in failures
        if Path(failure["path"]).name not in failure["error"]
    ]
    return found


def tiny_model(folder: Path) -> Path:
    """A tiny random network, so that reading takes most of the time."""
    torch.manual_seed(0)
    encoder, decoder = [4, 6, 8, 12], [16, 12, 8, 8, 6]
    config = L3ACConfig(
        feature_dim=16, encoder_dims=encoder, decoder_dims=decoder, num_attention_heads=2, attention_window=20
    )
    L3ACModel(config).save_pretrained(folder)
    return folder


def main() -> None:
    """Generate, run, kill and compare; exits with status 1 if anything is lost, repeated or not named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="empty folder")
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--broken", type=float, default=0.03, help="share of broken clips")
    parser.add_argument("--shard-rows", type=int, default=1000)
    options = parser.parse_args()

    good, bad = generate(options.scratch / "in", options.clips, options.broken)
    print(f"{len(good)} good clips; {len(bad)} broken: {dict(Counter(bad.values()))}")
    began = time.perf_counter()
    output = options.scratch / "out"
    model = tiny_model(options.scratch / "model")
    stood = run_with_kills(options.scratch / "in", output, model, options.clips, options.kills, options.shard_rows)
    print(f"{options.kills} kills, with {stood} shards done; {time.perf_counter() - began:.0f} s in all")
    found = faults(output, good, bad)
    for fault in found[:20]:
        print(fault)
    print(f"{len(found)} faults")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
