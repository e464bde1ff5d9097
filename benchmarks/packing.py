"""Tokens a second from a tokenized corpus on disk into training, beside bare reads of the same array.

    OMP_NUM_THREADS=1 python -m benchmarks.packing SCRATCH [--million 64] [--length 2048] [--rounds 5]

Makes a corpus of random ids in the folder SCRATCH, once with clips of 10 s and once of 1 s (593 and 59 ids on average,
half to one and a half times as many), and reads it in every way in turn, in one process and one thread. Before each
read its files are dropped from the system's cache, which needs Linux. Bare reads are slices of the memory-mapped array
in random order, as tensors of int64: no documents, separators, labels or positions. Prints Markdown tables; results are
medians over the rounds.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader

from benchmarks.report import machine, machine_line
from l3ac_tokenizer import PackedCorpus, preset_config
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import Timing, median, timed
from l3ac_tokenizer.tokenization import write_megatron, write_npy_index, write_packed_parquet
from l3ac_tokenizer.tokenization.arrow import ids_array, shard_schema
from l3ac_tokenizer.tokenization.spec import CorpusMetadata, shard_name

SHARD_ROWS = 10_000
SEPARATORS = {"audio_offset": 2, "audio_start_id": 0, "audio_end_id": 1}
BATCH = 8


def make_corpus(folder: Path, tokens: int, ids_of_a_clip: int) -> None:
    """Write the shards of a corpus of random ids that has this many tokens with the separators of its clips."""
    config = preset_config("l3ac-1k")
    codec = (tuple(config.levels), config.hop_length, config.sampling_rate)
    schema = shard_schema({}, CorpusMetadata("random", "0" * 64, *codec, {"split": 1, "max_seconds": None}))
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    clips = tokens // (ids_of_a_clip + 2)
    for shard, first in enumerate(range(0, clips, SHARD_ROWS)):
        rows = min(SHARD_ROWS, clips - first)
        sizes = generator.integers(ids_of_a_clip // 2, 3 * ids_of_a_clip // 2, rows, endpoint=True)
        ids = np.split(generator.integers(0, config.codebook_size, sizes.sum(), np.int32), np.cumsum(sizes)[:-1])
        names = [str(number) for number in range(first, first + rows)]
        columns = [names, ids_array(ids, 1), sizes * config.hop_length, [config.sampling_rate] * rows, names]
        pq.write_table(pa.table(columns, names=schema.names).cast(schema), folder / shard_name(shard))


def drop_from_cache(folder: Path) -> None:
    """Make the system forget what it has in memory of the files of a folder, if nothing has them open."""
    gc.collect()  # maps of earlier reads
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def bare_slices(folder: Path, length: int) -> Iterable[torch.Tensor]:
    """Slices of the array in random order."""
    ids = np.load(folder / "ids.npy", mmap_mode="r")
    for number in np.random.default_rng(0).permutation(len(ids) // length):
        yield torch.from_numpy(ids[number * length : (number + 1) * length].astype(np.int64))


def packed(folder: Path, length: int) -> PackedCorpus:
    """The corpus as packed sequences."""
    return PackedCorpus(folder, length, **SEPARATORS)


def streamed(folder: Path, length: int) -> datasets.IterableDataset:
    """The packed Parquet as tensors."""
    files = str(folder / "*.parquet")
    return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True).with_format("torch")


def loaded(folder: Path, length: int) -> DataLoader:
    """Batches of packed sequences."""
    return DataLoader(packed(folder, length), batch_size=BATCH)


def read_all(read: Callable[[Path, int], Any], folder: Path, length: int) -> int:
    """Number of sequences or batches, once all are read."""
    return sum(1 for _ in read(folder, length))


READS: dict[str, tuple[str, Callable[[Path, int], Any]]] = {
    "bare slices of the array": ("corpus", bare_slices),
    "PackedCorpus": ("corpus", packed),
    "PackedCorpus, DataLoader, batches of 8": ("corpus", loaded),
    "packed Parquet, streamed by datasets as tensors": ("packed", streamed),
    "packed Parquet, streamed in batches of 8": (
        "packed",
        lambda folder, length: streamed(folder, length).batch(BATCH),
    ),
}
"""Name → folder that is read, and how."""


def main() -> None:
    """Make the corpora, read them, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, metavar="SCRATCH", help="folder that does not exist yet, on the disk")
    parser.add_argument("--million", type=int, default=64, help="millions of tokens (default: %(default)s)")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a sequence (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    print(machine_line(machine(torch.get_num_threads())))
    for seconds, ids in ((10, 593), (1, 59)):
        folder = options.scratch / f"{seconds}s"
        make_corpus(folder / "corpus", options.million * 10**6, ids)
        writes = {
            "npy-index": lambda folder=folder: write_npy_index(folder / "corpus"),
            "megatron": lambda folder=folder: write_megatron(folder / "corpus", folder / "megatron", **SEPARATORS),
            "parquet": lambda folder=folder: write_packed_parquet(
                packed(folder / "corpus", options.length), folder / "packed"
            ),
        }
        exports = {name: timed(write)[1] for name, write in writes.items()}
        tokens = packed(folder / "corpus", options.length).num_tokens
        times: dict[str, list[Timing]] = {name: [] for name in READS}
        for _ in range(options.rounds):
            for name, (part, read) in READS.items():
                drop_from_cache(folder / part)
                times[name].append(timed(functools.partial(read_all, read, folder / part, options.length))[1])
        medians = {name: median(each) for name, each in times.items()}
        bare = medians["bare slices of the array"]
        rows = [
            [name, f"{tokens / took.wall / 1e6:.1f}", f"{took.wall / bare.wall:.2f}", f"{tokens / took.cpu / 1e6:.1f}"]
            for name, took in medians.items()
        ]
        print(f"\nClips of {seconds} s: {tokens:,} tokens, median of {options.rounds} rounds.\n")
        print(table([["read", "million tokens/s", "× time of bare slices", "million tokens per CPU second"], *rows]))
        for name, took in exports.items():
            print(f"export-tokens --format {name}: {tokens / took.wall / 1e6:.1f} million tokens/s, ", end="")
            print(f"{tokens / took.cpu / 1e6:.1f} per CPU second")


if __name__ == "__main__":
    main()
