"""Tokenization of corpora: audio files, archives and datasets to Parquet shards of ids, resumable, on any machines.

`open_source` and `tokenize_corpus` do the work of `l3ac tokenize`; `tokenize_dataset` maps a `datasets` dataset. Names
are imported on first use, as `datasets` and `pyarrow` come with the extra `data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .dataset import tokenize_dataset
    from .run import tokenize_corpus
    from .sources.open import open_source

_HOME = {"open_source": "sources.open", "tokenize_corpus": "run", "tokenize_dataset": "dataset"}

__all__ = ["open_source", "tokenize_corpus", "tokenize_dataset"]


__getattr__ = lazy_names(__name__, _HOME)
