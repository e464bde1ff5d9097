"""`open_source`: the source that a path or a dataset name stands for."""

from __future__ import annotations

import os

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ...audio import AUDIO_SUFFIXES
from ...files import files_below
from ...listing.errors import DataError
from ...listing.table import TABLE_SUFFIXES
from .audio_folder import open_audio_folder
from .base import Source
from .datasets import open_hub
from .manifest import open_manifest
from .parquet import ParquetSource
from .webdataset import open_tars

FILE_SUFFIXES = {
    *TABLE_SUFFIXES,
    *AUDIO_SUFFIXES,
    *(".parquet", ".arrow", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".txt", ".lst", ".yaml"),
    *(".m4a", ".aac", ".webm", ".mp4", ".sph", ".wma", ".npy", ".h5", ".hdf5", ".pt", ".pkl"),
}
"""Suffixes by which a name that does not exist is that of a missing file, not of a dataset on the hub."""


def open_source(corpus: str, hub_config: str | None = None, hub_split: str = "train") -> Source:
    """Open audio to tokenize, recognized by its name and contents.

    Args:
        corpus: a folder of audio (LibriSpeech, LJSpeech, Common Voice and VCTK are recognized), of Parquet files or of
            tar shards; one such file; a manifest (`.json`, `.jsonl`, `.ndjson`, `.csv`, `.tsv`); or else the name of a
            dataset on the hub.
        hub_config: configuration of a hub dataset.
        hub_split: its split.

    Raises:
        DataError: it is none of these, or holds no audio.
        OSError: it cannot be read.
    """
    if os.path.isdir(corpus):
        return _open_folder(corpus)
    suffix = os.path.splitext(corpus)[1].lower()
    if os.path.exists(corpus):
        if suffix in TABLE_SUFFIXES:
            return open_manifest(corpus)
        if suffix == ".parquet":
            return ParquetSource([corpus])
        if suffix == ".tar":
            return open_tars([corpus])
        raise DataError(
            f"{corpus} has a suffix that is not known: give a folder, a manifest (.jsonl, .json, .csv or .tsv), a "
            ".parquet file or a .tar shard."
        )
    if not _may_be_on_the_hub(corpus):
        raise FileNotFoundError(f"no file or folder {corpus} exists: check the path.")
    return open_hub(corpus, hub_config, hub_split)


def _may_be_on_the_hub(name: str) -> bool:
    """True for `owner/name`, or a bare name without a dot, in characters of hub names and without a file's suffix."""
    if os.path.splitext(name)[1].lower() in FILE_SUFFIXES or ("." in name and "/" not in name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _open_folder(folder: str) -> Source:
    for suffix in (".parquet", ".tar"):
        files = sorted(path for path in files_below(folder, {suffix}) if not os.path.basename(path).startswith("."))
        if files and suffix == ".parquet":
            return ParquetSource(files)
        if files:
            return open_tars(files)
    return open_audio_folder(folder)
