"""Encoding on a GPU: speed by size of batch, and the ids that differ from those of the CPU.

    python -m benchmarks.gpu FOLDER [--device cuda] [--models l3ac-1k-light l3ac-1k] [--batches 1 4 16 64]

Ids whose latents lie within rounding noise of a boundary are counted apart: they may differ on any two machines. With
`--device cpu`, it compares the CPU with itself, batches with clips alone, which shows that it runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import machine, machine_line
from l3ac_tokenizer import CodecEncoderModel
from l3ac_tokenizer.audio import AUDIO_SUFFIXES, read_audio
from l3ac_tokenizer.evaluation.report.tables import table

RATE = 16_000


def synchronized() -> float:
    """The time, once the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def speed(model: CodecEncoderModel, batch: int, seconds: float, least: float = 2.0) -> float:
    """Seconds of audio encoded per second, in batches of clips of `seconds`, over at least `least` seconds."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    audio = (0.1 * torch.randn(batch, 1, round(seconds * RATE), generator=generator)).to(device)
    for _ in range(2):
        model.encode(audio)
    began, rounds = synchronized(), 0
    while (elapsed := synchronized() - began) < least or not rounds:
        model.encode(audio)
        rounds += 1
    return rounds * batch * seconds / elapsed


@torch.inference_mode()
def differences(model: CodecEncoderModel, waves: Sequence[np.ndarray], device: str, batch: int) -> tuple[int, int, int]:
    """Number of ids, of those that differ on `device`, and of those of them that are not near a boundary.

    On the CPU clips are encoded alone, on `device` in padded batches.
    """
    count = changed = unexplained = 0
    for start in range(0, len(waves), batch):
        clips = [torch.from_numpy(wave) for wave in waves[start : start + batch]]
        longest = max(map(len, clips))
        audio = torch.stack([torch.nn.functional.pad(clip, (0, longest - len(clip))) for clip in clips])[:, None]
        mask = torch.stack([torch.arange(longest) < len(clip) for clip in clips])
        theirs = model.to(torch.device(device)).encode(audio.to(device), mask.to(device)).audio_codes.cpu()  # type: ignore[arg-type]
        model.to(torch.device("cpu"))  # type: ignore[arg-type]
        for clip, codes in zip(clips, theirs, strict=True):
            alone = model.encode(clip[None, None])
            ids = alone.audio_codes[0]
            differs = (ids != codes[:, : ids.shape[1]]).any(dim=0)
            near = model.quantizer.near_boundary(alone.latents[0])
            count += ids.shape[1]
            changed += int(differs.sum())
            unexplained += int((differs & ~near).sum())
    return count, changed, unexplained


def main() -> None:
    """Parse the arguments, measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of audio files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=["l3ac-1k-light", "l3ac-1k"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip of the batches")
    parser.add_argument("--clips", type=int, default=60, help="clips whose ids are compared")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    waves = [read_audio(path, RATE)[0] for path in paths[: options.clips]]
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(f"{name}; {machine_line(machine(torch.get_num_threads()))}\n")
    speeds = [["model", *(f"batch of {batch}" for batch in options.batches)]]
    ids = [["model", "ids", "differ", "not near a boundary"]]
    for source in options.models:
        model = CodecEncoderModel.from_pretrained(source).eval()
        ids.append([source, *map(str, differences(model, waves, options.device, max(options.batches)))])
        model.to(torch.device(options.device))
        speeds.append([source, *(f"{speed(model, batch, options.seconds):.0f}" for batch in options.batches)])
    print(f"Seconds of audio encoded per second, clips of {options.seconds:g} s:\n\n{table(speeds)}\n")
    print(f"Ids of {len(waves)} clips on {name} and on the CPU:\n\n{table(ids)}")


if __name__ == "__main__":
    main()
