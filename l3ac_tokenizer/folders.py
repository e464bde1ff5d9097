"""Which files lie in a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path


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
