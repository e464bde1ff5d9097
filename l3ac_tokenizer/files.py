"""Atomic file writes and folder listings."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for binary writing (and seeking) under a temporary name beside it, renamed on success.

    On any exception the temporary file is removed and what stood at `path` before is untouched. A path that
    is a device or a pipe (`/dev/null`) has no half-written state to hide and is written directly.

    Raises:
        OSError: the folder is missing or not writable, `path` is a directory, the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory; name a file in it.")
    if target.exists() and not target.is_file():
        with _named_failure(path), open(target, "wb") as file:
            yield file
        return
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with _named_failure(path):
            with open(temporary, "xb") as file:
                yield file
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def _named_failure(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's error for a temporary name into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # already a sentence of ours
            raise
        reason = error.strerror[0].lower() + error.strerror[1:]
        raise type(error)(f"cannot write {path}: {reason}; free or choose another place for it.") from error


def files_below(folder: str | os.PathLike[str], suffixes: Collection[str]) -> Iterator[str]:
    """Paths of the files at any depth of `folder` that end in one of `suffixes` (lower case), in no order.

    Hidden files and folders are passed over. Links to folders are followed, and each folder is read once, so loops end.
    What lies in `folder` itself bears its own name, whatever links to it.
    """
    read: set[str] = set()
    roots = [os.fspath(folder)]
    for root in roots:  # grows by the links that are met
        for where, folders, names in os.walk(root):
            if (real := os.path.realpath(where)) in read:
                folders.clear()
                continue
            read.add(real)
            folders[:] = sorted(filter(_is_shown, folders))  # of two links to one folder always the same is followed
            paths = (os.path.join(where, name) for name in folders)
            roots += filter(os.path.islink, paths)
            wanted = (name for name in filter(_is_shown, names) if Path(name).suffix.lower() in suffixes)
            yield from (os.path.join(where, name) for name in wanted)


def _is_shown(name: str) -> bool:
    return not name.startswith(".")
