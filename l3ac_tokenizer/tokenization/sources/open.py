"""`open_source`: the source that a path or a dataset name stands for."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ...audio import AUDIO_SUFFIXES, OTHER_AUDIO_SUFFIXES, readable_suffixes
from ...files import files_below
from ...listing.errors import DataError
from ...listing.folder import links_outside, not_listed
from ...listing.table import TABLE_SUFFIXES
from ...listing.text import read_lines
from ...names import file_within
from ...storage import exists, objects_below, suffix_of
from ...urls import absolute, is_url, joined, public_text
from ..errors import CorpusError
from ..output import read_shard_manifest
from ..record import MANIFEST
from .audio_folder import open_audio_folder, open_audio_objects
from .base import Source
from .datasets import open_hub
from .manifest import open_manifest
from .parquet import ParquetSource, audio_column, lists_paths, read_schema, unlisted
from .webdataset import open_tars

KINDS = ("folder", "parquet", "tar", "manifest", "hub")
"""Kinds of corpus, as `open_source` and the command line name them."""
LIST_SUFFIXES = (".txt", ".lst")
"""Suffixes of lists of tar shards or Parquet files, one path or URL a line."""
FILE_SUFFIXES = {
    *TABLE_SUFFIXES,
    *AUDIO_SUFFIXES,
    *OTHER_AUDIO_SUFFIXES,
    *(".parquet", ".arrow", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".txt", ".lst", ".yaml"),
    *(".npy", ".h5", ".hdf5", ".pt", ".pkl"),
}
"""Suffixes by which a name that does not exist is that of a missing file, not of a dataset on the hub."""


def open_source(
    corpus: str,
    hub_config: str | None = None,
    hub_split: str = "train",
    *,
    kind: str | None = None,
    output: str | os.PathLike[str] | None = None,
    allow_outside: bool = False,
) -> Source:
    """Open audio to tokenize, recognized by its name and the layout of its root.

    A folder with files of several kinds is of that kind whose files lie nearest to the root; at the same depth, Parquet
    that lists paths comes first, then audio, Parquet that holds audio, and tar shards. Parquet without audio, and
    tokenized corpora inside the folder, are not read.

    Args:
        corpus: a folder of audio (LibriSpeech, LJSpeech, Common Voice and VCTK are recognized), of Parquet files or of
            tar shards; one such file; a manifest (`.json`, `.jsonl`, `.ndjson`, `.csv`, `.tsv`); a list of tar shards
            or Parquet files (`.txt`, `.lst`); the URL of any of these; or else the name of a dataset on the hub.
        hub_config: configuration of a hub dataset.
        hub_split: its split.
        kind: one of `KINDS`; None: recognize it.
        output: folder of the job's own output, which is not read.
        allow_outside: also read what paths and links in the corpus name outside of it (of a folder, or of the folder of
            a file; of a dataset on the hub, what `datasets` downloads). Without it, such clips are failures, and such
            links are left out.

    Raises:
        DataError: it is none of these, or holds no audio.
        OSError: it cannot be read.
    """
    if kind == "hub":
        return open_hub(corpus, hub_config, hub_split, allow_outside=allow_outside)
    suffix = suffix_of(corpus)
    if os.path.isdir(corpus) or (is_url(corpus) and suffix not in FILE_SUFFIXES):
        return _open_folder(corpus, kind, output, allow_outside)
    if exists(corpus):
        if kind == "manifest" or (kind is None and suffix in TABLE_SUFFIXES):
            return open_manifest(corpus, allow_outside=allow_outside)
        if kind == "parquet" or (kind is None and suffix == ".parquet"):
            return ParquetSource([corpus], allow_outside=allow_outside)
        if kind == "tar" or (kind is None and suffix == ".tar"):
            return open_tars([corpus])
        if kind is None and suffix in LIST_SUFFIXES:
            return _open_list(corpus, allow_outside)
        raise DataError(
            f"{public_text(corpus)} has a suffix that is not known: give a folder, a manifest (.jsonl, .json, .csv or "
            ".tsv), a .parquet file, a .tar shard or a list of them (.txt), or name its kind."
        )
    if is_url(corpus) or not _may_be_on_the_hub(corpus):
        raise FileNotFoundError(f"no file or folder {public_text(corpus)} exists: check the path.")
    return open_hub(corpus, hub_config, hub_split, allow_outside=allow_outside)


def _open_list(path: str, allow_outside: bool) -> Source:
    """The tar shards, or the Parquet files, that a list names, in its order."""
    folder = os.path.dirname(absolute(path))
    lines = [line.strip() for line in read_lines(path)]
    files = [file_within(line, folder, allow_outside=allow_outside) for line in lines if line and line[0] != "#"]
    suffixes = {suffix_of(file) for file in files}
    if suffixes == {".tar"}:
        return open_tars(files)
    if suffixes == {".parquet"}:
        return ParquetSource(files, root=folder, allow_outside=allow_outside)
    raise DataError(
        f"{public_text(path)} lists {'files of several kinds' if suffixes else 'nothing'}: give the paths or URLs of "
        ".tar shards, or of .parquet files, one a line."
    )


def _files_below(
    folder: str,
    suffixes: Collection[str],
    unreadable: Callable[[OSError], object],
    outside: Callable[[str], object] | None,
) -> Iterable[str]:
    """The files of a folder, see `files_below`, or the objects below a URL."""
    if not is_url(folder):
        return files_below(folder, suffixes, unreadable, outside)
    if folder.startswith(("http://", "https://")):
        raise DataError(
            f"{public_text(folder)} has no suffix of a file, and web servers list no folders: give a list of its .tar "
            "shards (.txt), or a manifest."
        )
    names = objects_below(folder)
    if not names:
        raise FileNotFoundError(f"there is nothing below {public_text(folder)}: check the URL.")
    return (joined(folder, name) for name in names if suffix_of(name) in suffixes)


def _open_folder(folder: str, kind: str | None, output: str | os.PathLike[str] | None, allow_outside: bool) -> Source:
    """Decide what kind of corpus a folder is, and open it."""
    if kind in ("manifest", "hub"):
        raise DataError(f"{folder} is a folder, which is not a corpus of the kind {kind}: name another kind.")
    kinds = {**dict.fromkeys(readable_suffixes(), "folder"), ".parquet": "parquet", ".tar": "tar"}
    found: dict[str, list[str]] = {"folder": [], "parquet": [], "tar": []}
    unreadable: list[OSError] = []
    outside: list[str] = []
    left_outside = None if allow_outside else outside.append
    for path in sorted(_files_below(folder, kinds, unreadable.append, left_outside)):
        found[kinds[suffix_of(path)]].append(path)
    remarks = []
    own = None if output is None else _real(os.fspath(output))
    found["parquet"] = [path for path in found["parquet"] if os.path.dirname(_real(path)) != own]
    corpora = {path for path in {os.path.dirname(path) for path in found["parquet"]} if _is_tokenized(path)}
    ids = [path for path in found["parquet"] if os.path.dirname(path) in corpora]
    if ids:
        remarks.append(f"{len(ids)} Parquet files below {folder} are left out, such as {ids[0]}: they hold ids.")
    schemas = {path: read_schema(path) for path in found["parquet"] if os.path.dirname(path) not in corpora}
    found["parquet"] = [path for path, schema in schemas.items() if kind == "parquet" or audio_column(schema)]
    without = sorted(schemas.keys() - set(found["parquet"]))
    if without:
        remarks.append(f"{len(without)} Parquet files in {folder} are left out, such as {without[0]}: none has audio.")
    lists = any(lists_paths(schemas[path]) for path in found["parquet"])
    order = ["parquet", "folder", "tar"] if lists else ["folder", "parquet", "tar"]
    present = [name for name in order if found[name]]
    chosen = kind or min(present, key=lambda name: min(map(_depth, found[name])), default="folder")
    unused = {name: found[name] for name in present if name != chosen}
    if chosen == "parquet" and lists:
        unused["folder"] = unlisted({path: schemas[path] for path in found["parquet"]}, unused.get("folder", []))
    for name, paths in unused.items():
        if paths:
            what = f"{len(paths)} files of {_NAMES[name]}"
            remarks.append(
                f"{folder} is read as {_NAMES[chosen]}; {what} in it are left out, such as {paths[0]}: --kind {name} "
                "reads them."
            )
    if chosen == "folder" and is_url(folder):
        return open_audio_objects(folder, remarks)
    if chosen == "folder":  # which says itself what cannot be listed
        return open_audio_folder(folder, remarks, allow_outside=allow_outside)
    if not found[chosen]:
        raise DataError(f"{folder} holds no {_NAMES[chosen]}: check the path, or name another kind.")
    remarks += [*map(not_listed, unreadable), *links_outside(folder, outside)]
    if chosen == "parquet":
        return ParquetSource(found[chosen], remarks, folder, allow_outside=allow_outside)
    return open_tars(found[chosen], remarks)


_NAMES = {"folder": "audio", "parquet": "Parquet", "tar": "tar shards"}


def _depth(path: str) -> int:
    return path.count(os.sep)


def _real(path: str) -> str:
    return absolute(path) if is_url(path) else os.path.realpath(path)


def _is_tokenized(folder: str) -> bool:
    if is_url(folder):
        return exists(joined(folder, MANIFEST))
    try:
        return read_shard_manifest(folder)[0] is not None
    except CorpusError:  # another `manifest.jsonl`
        return False


def _may_be_on_the_hub(name: str) -> bool:
    """True for `owner/name`, or a bare name without a dot, in characters of hub names and without a file's suffix."""
    if os.path.splitext(name)[1].lower() in FILE_SUFFIXES or ("." in name and "/" not in name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
