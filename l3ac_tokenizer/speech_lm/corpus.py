"""A tokenized corpus for `SpeechLM`: parts by speaker, in chunks of the model's context."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_dataset
from torch import Tensor

from ..language_model import IGNORED_ID
from ..quantization import join_ids
from ..tokenization.reader import TokenizedCorpus

PARTS = ("train", "validation", "held_out")
"""Parts of a corpus, which share no speaker."""


def part_of(row: dict[str, Any], held_out: float, validation: float) -> str:
    """Return the part of the corpus that a clip belongs to, by the hash of its speaker or, without one, of its id."""
    voice = row.get("speaker") or row["id"]
    place = int.from_bytes(hashlib.sha256(voice.encode()).digest()[:8], "big") / 2**64
    return "held_out" if place < held_out else "validation" if place < held_out + validation else "train"


def split_corpus(
    corpus: TokenizedCorpus, context: int, held_out: float, validation: float, cache: Path
) -> dict[str, Dataset]:
    """Split the clips of each of `PARTS` into chunks of at most `context` ids; no chunk crosses clips.

    Args:
        corpus: Tokenized corpus.
        context: Ids of a chunk at most.
        held_out: Share of speakers that is measured.
        validation: Share of speakers that chooses the epoch.
        cache: Folder for the chunks.

    Raises:
        ValueError: A part is empty.
    """
    split, levels = corpus.metadata.split, corpus.metadata.levels
    rows = load_dataset("parquet", data_files=list(map(str, corpus.files)), split="train", cache_dir=str(cache))

    def chunks(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        clips = [np.asarray(ids, dtype=np.int64) for ids in batch["ids"]]
        if split > 1:
            clips = [join_ids(clip.reshape(-1, split), levels, split) for clip in clips]
        starts = [range(0, len(clip), context) for clip in clips]
        return {"ids": [clip[i : i + context] for clip, each in zip(clips, starts, strict=True) for i in each]}

    parts = {}
    for name in PARTS:
        part = rows.filter(lambda row, name=name: part_of(row, held_out, validation) == name)
        if len(part) == 0:
            raise ValueError(f"The corpus of {len(rows)} clips has none in the part {name!r}; give more clips.")
        parts[name] = part.map(chunks, batched=True, remove_columns=part.column_names).with_format("numpy")
    return parts


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Batch chunks, padded on the right."""
    chunks = [torch.tensor(row["ids"], dtype=torch.long) for row in rows]
    return {
        "ids": torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True),
        "labels": torch.nn.utils.rnn.pad_sequence(chunks, batch_first=True, padding_value=IGNORED_ID),
    }


def all_ids(part: Dataset) -> np.ndarray:
    """Return all ids (N,) of a part, int64."""
    return np.concatenate([row["ids"] for row in part]).astype(np.int64)
