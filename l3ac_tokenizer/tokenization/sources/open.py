"""From a path or a name to its source."""

from __future__ import annotations

import os

from ...files import files_below
from ...listing.layouts import open_layout
from ...listing.manifest import open_manifest
from ..errors import CorpusError
from .base import Source
from .hub import open_hub
from .parquet import ParquetSource
from .webdataset import open_tars


def open_source(corpus: str, hub_config: str | None = None, hub_split: str = "train") -> Source:
    """The source that a path or a name stands for.

    A folder of audio (LibriSpeech, LJSpeech, Common Voice and VCTK are recognised), of Parquet files or of tar
    shards; one such file; a manifest (`.jsonl`, `.csv`, `.tsv`); or else the name of a dataset on the hub, with the
    configuration and split to take of it.

    Raises:
        CorpusError: it is none of these, or holds nothing to read.
        OSError: it cannot be read.
    """
    if os.path.isdir(corpus):
        return _open_folder(corpus)
    suffix = os.path.splitext(corpus)[1].lower()
    if os.path.exists(corpus):
        if suffix in (".jsonl", ".ndjson", ".csv", ".tsv"):
            return open_manifest(corpus)
        if suffix == ".parquet":
            return ParquetSource([corpus])
        if suffix == ".tar":
            return open_tars([corpus])
        raise CorpusError(
            f"{corpus} is no corpus that is known by its name: give a folder, a .jsonl, .csv or .tsv manifest, a "
            ".parquet file or a .tar shard."
        )
    if suffix or corpus.startswith(("/", ".", "~")) or corpus.endswith("/") or corpus.count("/") > 1:
        raise FileNotFoundError(f"there is no file or folder {corpus}: check the path.")
    return open_hub(corpus, hub_config, hub_split)


def _open_folder(folder: str) -> Source:
    for suffix in (".parquet", ".tar"):
        files = sorted(path for path in files_below(folder, {suffix}) if not os.path.basename(path).startswith("."))
        if files and suffix == ".parquet":
            return ParquetSource(files)
        if files:
            return open_tars(files)
    return open_layout(folder)
