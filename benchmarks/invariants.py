"""Invariants on real audio: counts ids and samples that change with batch, padding, chunks, pushes or threads.

    python -m benchmarks.invariants FOLDER… [--model l3ac-1k]

No id should change. Ids whose latents lie within rounding error of a level boundary are counted separately.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import l3ac_tokenizer  # noqa: F401 - registers the Auto classes and the bare names
from l3ac_tokenizer import CodecModel, StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.audio import AUDIO_SUFFIXES, read_audio

CHUNKS = (0.05, 0.5, 4.0)
"""Lengths in seconds of the chunks that are compared with whole clips."""


def clips(folder: Path, rate: int) -> list[Tensor]:
    """Audio (T,) of all files in a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return [torch.from_numpy(read_audio(path, rate)[0]) for path in paths]


def encode_alone(model: CodecModel, clip: Tensor) -> Tensor:
    """Ids (N,) of a clip encoded by itself."""
    return model.encode(clip[None, None]).audio_codes[0, 0]


def in_batches(model: CodecModel, batch: list[Tensor], side: str) -> list[Tensor]:
    """Ids of clips in a batch padded with noise at one side."""
    longest = max(map(len, batch)) + 777
    values, mask = torch.randn(len(batch), 1, longest), torch.zeros(len(batch), 1, longest, dtype=torch.bool)
    for row, clip in enumerate(batch):
        where = slice(0, len(clip)) if side == "right" else slice(longest - len(clip), longest)
        values[row, 0, where], mask[row, 0, where] = clip, True
    encoded = model.encode(values, mask)
    return [ids[own] for ids, own in zip(encoded.audio_codes[:, 0], encoded.audio_codes_mask[:, 0], strict=True)]


def in_random_pushes(model: CodecModel, clip: Tensor, rng: random.Random) -> Tensor:
    """Ids (N,) of a clip encoded as a stream in pushes of random size, from zero samples to half a second."""
    stream, ids, position = StreamingEncoder(model), [], 0
    while position < len(clip):
        size = rng.choice([0, 1, 160, 640, rng.randrange(8000)])
        ids += stream.push(clip[None, position : position + size])
        position += size
    return torch.cat(ids + stream.flush())


def on_threads(threads: int, run: Callable[[], Tensor]) -> Tensor:
    """Result of `run` on this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return run()
    finally:
        torch.set_num_threads(before)


def variants(model: CodecModel, clip: Tensor, rng: random.Random) -> Iterator[tuple[str, Tensor]]:
    """Ids of a clip in chunks, in pushes and on two threads, each with a name."""
    for seconds in CHUNKS:
        yield f"chunks of {seconds} s", model.encode(clip[None, None], chunk_seconds=seconds).audio_codes[0, 0]
    yield "pushes", in_random_pushes(model, clip, rng)
    yield "2 threads", on_threads(2, lambda: encode_alone(model, clip))


def decoding_deviations(model: CodecModel, ids: Tensor, rng: random.Random) -> Iterator[tuple[str, float]]:
    """Largest deviation of audio decoded in chunks and in pushes from that of the whole clip, each with a name."""
    whole = model.decode(ids[None, None]).audio_values
    for seconds in CHUNKS[1:]:
        chunked = model.decode(ids[None, None], chunk_seconds=seconds).audio_values
        yield f"decode, chunks of {seconds} s", float((chunked - whole).abs().max())
    frozen = model.decode(ids[None, None], time_norm="frozen").audio_values[0, 0]
    stream, parts, position = StreamingDecoder(model), [], 0
    while position < len(ids):
        size = rng.choice([0, 1, 3, 30])
        parts += stream.push(ids[None, position : position + size])
        position += size
    yield "decode, pushes (frozen)", float((torch.cat(parts + stream.flush()) - frozen).abs().max())


@torch.no_grad()
def main() -> None:
    """Parse the arguments and print a row for each way to encode and decode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="l3ac-1k")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng, model = random.Random(0), CodecModel.from_pretrained(options.model).eval()
    audio = [clip for folder in options.folders for clip in clips(folder, model.config.sampling_rate)]
    changed, excused, worst = Counter[str](), Counter[str](), Counter[str]()
    total = near_total = 0

    def count(way: str, ids: Tensor, reference: Tensor, near: Tensor) -> None:
        differs = ids != reference
        changed[way] += int((differs & ~near).sum())
        excused[way] += int((differs & near).sum())

    for first in tqdm(range(0, len(audio), 8), unit="batch of 8"):
        batch = audio[first : first + 8]
        plain = [model.encode(clip[None, None]) for clip in batch]
        near = [model.quantizer.near_boundary(encoded.latents[0]) for encoded in plain]
        for side in ("right", "left"):
            for ids, encoded, boundary in zip(in_batches(model, batch, side), plain, near, strict=True):
                count(f"batch of 8, padded at the {side}", ids, encoded.audio_codes[0, 0], boundary)
        for clip, encoded, boundary in zip(batch, plain, near, strict=True):
            total, near_total = total + len(boundary), near_total + int(boundary.sum())
            for way, ids in variants(model, clip, rng):
                count(way, ids, encoded.audio_codes[0, 0], boundary)
        # Decoding in chunks takes five passes, so only one clip of each batch is decoded.
        for way, deviation in decoding_deviations(model, plain[0].audio_codes[0, 0], rng):
            worst[way] = max(worst[way], deviation)  # type: ignore[assignment]
    print(f"{len(audio)} clips, {total} ids, {near_total} frames within 1e-4 of a boundary\n")
    print("| way | ids that differ | of them near a boundary |\n|---|---|---|")
    for way in changed:
        print(f"| {way} | {changed[way] + excused[way]} | {excused[way]} |")
    print("\n| way | largest deviation of a sample |\n|---|---|")
    for way, deviation in worst.items():
        print(f"| {way} | {deviation:.1e} |")


if __name__ == "__main__":
    main()
