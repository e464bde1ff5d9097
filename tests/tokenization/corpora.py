"""Small corpora of made clips, and what a tokenized one holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from networks import speech_like

from l3ac_tokenizer import L3ACModel

RATE = 16_000
LENGTHS = [900, 2500, 47, 13, 4000, 1200, 1201, 6000, 12, 333]
"""Samples of the clips of a corpus: none, some and several times the hop of the tiny network, 12."""


def wave(samples: int, seed: int = 0) -> np.ndarray:
    """A made clip (T,) float32 whose beginning differs from seed to seed."""
    return speech_like(samples + 500 * seed, seed)[-samples:].numpy()


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
