"""`write_packed_parquet`: the sequences of a `PackedCorpus` as Parquet shards, which `datasets` streams."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..files import explained, make_folder
from .errors import CorpusError
from .packing import PackedCorpus

METADATA_KEY = b"l3ac_packed"
"""Key in the Parquet metadata of the state before the first sequence, as JSON, with the number of sequences."""

GROUP_TOKENS = 1 << 20
"""Tokens of a row group, which is read as a whole: 4 MB of them."""

SHARD_GROUPS = 64

COLUMNS = ("input_ids", "labels", "position_ids", "document_ids")


def write_packed_parquet(corpus: PackedCorpus, folder: str | os.PathLike[str]) -> dict[str, int]:
    """Write every sequence as a row, with the columns of `PackedCorpus` as list<int32>[L], in their order.

    The folder appears when it is complete; memory is that of a row group.

    Args:
        corpus: whose sequences are written, those of all its epochs.
        folder: of `packed-00000.parquet`, …; must not exist.

    Returns:
        `sequences`, `shards`, `tokens` of an epoch, and `vocab_size`.

    Raises:
        CorpusError: the folder exists, or the index of a corpus is damaged.
        OSError: the disk is full, or cannot be written for another reason.
    """
    target = Path(folder)
    if target.exists():
        raise CorpusError(f"{folder} exists: choose another output, or remove it.")
    make_folder(target.parent)
    rows = max(1, GROUP_TOKENS // corpus.length)
    shards = range(0, len(corpus), rows * SHARD_GROUPS)
    facts = {**corpus.state_dict(), "sequences": len(corpus), "vocab_size": corpus.vocab_size}
    kind = pa.list_(pa.int32(), corpus.length)
    schema = pa.schema([(name, kind) for name in COLUMNS], metadata={METADATA_KEY: json.dumps(facts)})
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        with explained(f"cannot write {folder}", "free some space, or choose another place"):
            for number, first in enumerate(shards):
                path = temporary / f"packed-{number:05d}.parquet"
                # positions and numbers of documents rise by one or stay: their differences take hardly any space
                encodings = {f"{name}.list.element": "DELTA_BINARY_PACKED" for name in COLUMNS[2:]}
                with pq.ParquetWriter(
                    path, schema, compression="zstd", use_dictionary=False, column_encoding=encodings
                ) as writer:
                    for start in range(first, min(first + rows * SHARD_GROUPS, len(corpus)), rows):
                        writer.write_table(_table(corpus, range(start, min(start + rows, len(corpus))), schema))
            os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return {
        "sequences": len(corpus),
        "shards": len(shards),
        "tokens": corpus.num_tokens,
        "vocab_size": corpus.vocab_size,
    }


def _table(corpus: PackedCorpus, numbers: range, schema: pa.Schema) -> pa.Table:
    sequences = [corpus[number] for number in numbers]
    columns = [
        pa.FixedSizeListArray.from_arrays(
            np.concatenate([sequence[name].numpy() for sequence in sequences]).astype(np.int32), corpus.length
        )
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)
