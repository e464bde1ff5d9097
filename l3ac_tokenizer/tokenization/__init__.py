"""Tokenization of corpora: audio files, archives and datasets to Parquet shards of ids, resumable, on any machines.

`open_source` and `tokenize_corpus` do the work of `l3ac tokenize`; `tokenize_dataset` maps a `datasets` dataset.
`PackedCorpus` is a tokenized corpus as training reads it, and `write_npy_index`, `write_megatron` and
`write_packed_parquet` do the work of `l3ac export-tokens`. Names are imported on first use, as `datasets` and `pyarrow`
come with the extra `data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .dataset import tokenize_dataset
    from .megatron import write_megatron
    from .npy_index import write_npy_index
    from .packed_parquet import write_packed_parquet
    from .packing import PackedCorpus
    from .run import tokenize_corpus
    from .sources.open import open_source

_HOME = {
    "PackedCorpus": "packing",
    "open_source": "sources.open",
    "tokenize_corpus": "run",
    "tokenize_dataset": "dataset",
    "write_megatron": "megatron",
    "write_npy_index": "npy_index",
    "write_packed_parquet": "packed_parquet",
}

__all__ = [
    "PackedCorpus",
    "open_source",
    "tokenize_corpus",
    "tokenize_dataset",
    "write_megatron",
    "write_npy_index",
    "write_packed_parquet",
]


__getattr__ = lazy_names(__name__, _HOME)
