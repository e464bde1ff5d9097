"""Small corpora of made clips and of made ids, and what a tokenized one holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from networks import speech_like

from l3ac_tokenizer import L3ACModel, split_ids
from l3ac_tokenizer.tokenization.arrow import ids_array, shard_schema
from l3ac_tokenizer.tokenization.spec import CorpusMetadata, shard_name

RATE = 16_000
LENGTHS = [900, 2500, 47, 13, 4000, 1200, 1201, 6000, 12, 333]
"""Samples of the clips of a corpus: none, some and several times the hop of the tiny network, 12."""


def wave(samples: int, seed: int = 0) -> np.ndarray:
    """A made clip (T,) float32 whose beginning differs from seed to seed."""
    return speech_like(samples + 500 * (seed % 10), seed)[-samples:].numpy()


def write_clip(path: Path, samples: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave(samples, seed), RATE, subtype="PCM_16")
    return path


def write_corpus(folder: Path, lengths: list[int] = LENGTHS) -> Path:
    """Clips `000.flac`, … of these lengths."""
    for number, samples in enumerate(lengths):
        write_clip(folder / f"{number:03d}.flac", samples, number)
    return folder


def file_bytes(samples: int, seed: int = 0) -> bytes:
    import io

    file = io.BytesIO()
    soundfile.write(file, wave(samples, seed), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def ids_of(model: L3ACModel, path: Path) -> list[int]:
    """The ids of one file, encoded alone."""
    samples, _ = soundfile.read(path, dtype="float32")
    with torch.inference_mode():
        return model.encode(torch.from_numpy(samples)[None, None]).audio_codes[0, 0].tolist()


def rows_of(folder: Path) -> list[dict]:
    """All rows of a tokenized corpus, in order."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet"))).to_pylist()


def write_tokenized(
    folder: Path, documents: list[list[int]], split: int = 1, shard_rows: int = 3, digest: str = "0" * 64
) -> Path:
    """A tokenized corpus of the l3ac-1k codebook with these ids, as `l3ac tokenize` would write it."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"split": split, "max_seconds": None}
    schema = shard_schema({}, CorpusMetadata("made", digest, (7,) * 6, 270, RATE, options))
    for shard, first in enumerate(range(0, len(documents), shard_rows)):
        ids = [np.array(document, np.int32) for document in documents[first : first + shard_rows]]
        stored = [each if split == 1 else split_ids(each, (7,) * 6, split) for each in ids]
        names = [f"{first + number}" for number in range(len(ids))]
        columns = [names, ids_array(stored, split), [270 * len(each) for each in ids], [RATE] * len(ids), names]
        table = pa.table(columns, names=schema.names).cast(schema)
        pq.write_table(table, folder / shard_name(shard))
    return folder
