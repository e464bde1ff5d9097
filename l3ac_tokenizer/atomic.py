"""Writing a file so that its final name never shows half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
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
