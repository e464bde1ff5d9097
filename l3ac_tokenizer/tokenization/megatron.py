"""`write_megatron`: a tokenized corpus as the `.bin` and `.idx` files of Megatron-LM's indexed datasets.

`PREFIX.bin` has the tokens of all documents, one after another, as int32. `PREFIX.idx` is, little-endian, for S
sequences of which each is a document:

    9 bytes    MMIDIDX and two zeros
    uint64     version, 1
    uint8      type of the tokens, 4: int32
    uint64     S
    uint64     S + 1
    int32 (S,)       length of each sequence, in tokens
    int64 (S,)       its position in the `.bin` file, in bytes
    int64 (S + 1,)   first sequence of each document, and S

(`megatron/core/datasets/indexed_dataset.py` of NVIDIA's Megatron-LM.)
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..files import atomic_write, make_folder
from .audio_tokens import AudioTokens
from .errors import CorpusError
from .reader import TokenizedCorpus

_AT_ONCE = 1 << 20
"""Sequences of which the index is written together, and ids of documents that are joined together."""


def write_megatron(
    folder: str | os.PathLike[str],
    prefix: str | os.PathLike[str],
    *,
    audio_offset: int = 0,
    audio_start_id: int | None = None,
    audio_end_id: int | None = None,
) -> dict[str, int]:
    """Write `PREFIX.bin` and `PREFIX.idx`, a document for each clip in the corpus' order, of which Megatron makes its
    packed and shuffled sequences; memory does not grow with the corpus.

    A pair that is there is replaced. The `.idx` file appears last, so that where it is, both are whole.

    Args:
        folder: with the shards.
        prefix: path of the files without their suffixes.
        audio_offset: token of the id 0.
        audio_start_id: token before each document; None: none.
        audio_end_id: token after each document, Megatron's end of document; None: none.

    Returns:
        `documents`, `tokens`, and `vocab_size`, the least that has all of the tokens.

    Raises:
        CorpusError: the folder holds no tokenized corpus or no tokens, or an id is out of range.
        ValueError: a token is out of range.
        OSError: a file cannot be read or written.
    """
    corpus = TokenizedCorpus(folder)
    tokens = AudioTokens.of(
        corpus.metadata, audio_offset=audio_offset, audio_start_id=audio_start_id, audio_end_id=audio_end_id
    )
    ids_file, index_file = (Path(f"{os.fspath(prefix)}{suffix}") for suffix in (".bin", ".idx"))
    make_folder(ids_file.parent)
    with tempfile.TemporaryFile(dir=ids_file.parent) as lengths:
        with atomic_write(ids_file) as file:
            for sizes, ids in _documents(corpus, str(folder), tokens):
                last = np.cumsum(sizes)
                total = int(last[-1]) + len(sizes) * tokens.separators
                file.write(tokens.join(ids, last - sizes, last, 0, total)[0].astype("<i4", copy=False).data)
                lengths.write((sizes + tokens.separators).astype("<i4").data)
            if not file.tell():
                raise CorpusError(f"{folder}: there are no tokens to export.")
            index_file.unlink(missing_ok=True)
        documents = lengths.tell() // 4
        with atomic_write(index_file) as file:
            size = _write_index(file, lengths, documents)
    return {"documents": documents, "tokens": size, "vocab_size": tokens.vocab_size}


def _documents(corpus: TokenizedCorpus, where: str, tokens: AudioTokens) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some documents at a time: the number of stored ids of each, and all of them, flattened."""
    for table in corpus.tables(["ids"]):
        stored = corpus.stored_ids(table)
        sizes = np.array([ids.size for ids in stored], np.int64)
        edges = np.flatnonzero(np.diff(np.cumsum(sizes) // _AT_ONCE)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(stored)]):
            ids = np.concatenate(stored[start:stop]).reshape(-1)
            tokens.check(ids, where)
            yield sizes[start:stop], ids


def _write_index(file: BinaryIO, lengths: BinaryIO, documents: int) -> int:
    """Write the `.idx` file from the lengths (int32) of all documents, and return their sum."""
    file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, documents, documents + 1))
    for chunk in _chunks(lengths):
        file.write(chunk.data)
    total = 0
    for chunk in _chunks(lengths):
        ends = total + np.cumsum(chunk, dtype=np.int64)
        file.write(((ends - chunk) * 4).astype("<i8", copy=False).data)
        total = int(ends[-1])
    for first in range(0, documents + 1, _AT_ONCE):
        file.write(np.arange(first, min(first + _AT_ONCE, documents + 1), dtype="<i8").data)
    return total


def _chunks(lengths: BinaryIO) -> Iterator[np.ndarray]:
    lengths.seek(0)
    while data := lengths.read(4 * _AT_ONCE):
        yield np.frombuffer(data, dtype="<i4")
