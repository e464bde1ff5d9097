"""Names and paths that come from data: components of paths, containment in a folder, and names for others to read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from .urls import is_below, is_url, joined, public_text, without_query

MAX_COMPONENT_BYTES = 200
"""Largest component that `path_component` makes, below the 255 bytes of file systems: suffixes follow it."""

_PLAIN = re.compile(r"[\w+@=,-][\w.+@=,-]*")
_OTHER = re.compile(r"[^\w.+@=,-]")


class OutsideError(ValueError):
    """A path in data that leads out of the folder whose files it may name."""


def path_component(name: str) -> str:
    """A name as one component of a path: no separators, not hidden, bounded, and another one for every other name.

    Names of letters, digits and `._+@=,-` are unchanged. In all others, those that are too long among them, other
    characters become `_`, and `~` and a digest of the name follow, which no unchanged name has.
    """
    if _PLAIN.fullmatch(name) and len(name.encode()) <= MAX_COMPONENT_BYTES:
        return name
    digest = "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    plain = _OTHER.sub("_", name).encode()[: MAX_COMPONENT_BYTES - len(digest)].decode("utf-8", "ignore")
    return (f"_{plain[1:]}" if plain.startswith(".") else plain) + digest


def is_within(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> bool:
    """Whether a path is that of `root` or of something in it, wherever links on the way lead; so for URLs."""
    if is_url(root) or is_url(path):
        return is_below(os.fspath(path), os.fspath(root))
    try:
        real, folder = os.path.realpath(path), os.path.realpath(root)
    except ValueError:  # a null byte
        return False
    return real == folder or real.startswith(os.path.join(folder, ""))


def file_within(path: str, root: str | os.PathLike[str], *, allow_outside: bool = False) -> str:
    """The file or URL that a path in data names, relative to `root`.

    Args:
        path: as it is written in the data.
        root: folder that a corpus reads within.
        allow_outside: take any path.

    Raises:
        OutsideError: it is not in `root`, or a link on the way leads out.
    """
    file = joined(os.fspath(root), path)
    if not allow_outside and not is_within(file, root):
        raise OutsideError(
            f"{public_text(path)} lies outside its corpus: move it there, or allow such paths (--allow-outside, in "
            "Python allow_outside=True) if you know where they come from."
        )
    return file


def common_folder(paths: Iterable[str], root: str) -> str:
    """Folder that all absolute paths, or all URLs, outside `root` have in common; "" if there are none."""
    folders = {os.path.dirname(path) for path in paths if _is_absolute(path) and _below(path, root) is None}
    schemes = {folder.partition("://")[0] if is_url(folder) else "" for folder in folders}
    if len(schemes) != 1:
        return ""
    (scheme,) = schemes
    if not scheme:
        return os.path.commonpath(folders)
    return f"{scheme}://" + os.path.commonpath([folder.partition("://")[2] for folder in folders])


def public_path(path: str, root: str, common: str = "") -> str:
    """A path of a corpus for others to read: relative paths as they are, absolute ones and URLs from a folder on.

    Args:
        path: as it is written in the data.
        root: absolute path of the corpus.
        common: of paths outside the corpus, see `common_folder`; "": only their last part is shown.
    """
    if not _is_absolute(path):
        return path
    path = without_query(path)
    return _below(path, root) or (common and _below(path, common)) or os.path.basename(path)


def _is_absolute(path: str) -> bool:
    return os.path.isabs(path) or is_url(path)


def _below(path: str, folder: str) -> str | None:
    """An absolute path as seen from a folder that it begins with; None if it begins with another one."""
    start = os.path.join(folder, "")
    return path.removeprefix(start) if path.startswith(start) else None


_FOLDERS = re.compile(r"(?<![\w:/.~\\-])(?:~?/|[A-Za-z]:[\\/])(?:[^\s/\\'\"`()<>|]+[/\\])+")


_PREFIXES = re.compile(r"\b(?:s3a?|gs|gcs|abfss?|az)://(?:[^\s/'\"`()<>|]+/)+")


def without_folders(text: str) -> str:
    """A message for others to read: of absolute paths and URLs of buckets in it, only the last part stays."""
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = text.replace(home, "~")
    return _FOLDERS.sub("", _PREFIXES.sub("", text))


def public_name(model: str) -> str:
    """Name of a model for others to read: a hub name as it is, of a path the last part; `KIND:` before it stays."""
    kind, colon, name = model.rpartition(":")
    if os.path.isabs(name) or name.startswith((".", "~")) or os.path.isdir(name):
        name = os.path.basename(os.path.abspath(name))
    return kind + colon + name
