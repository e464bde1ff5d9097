"""Atomic file writes, folder listings, paths as text, and system errors in plain sentences."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

from .limits import Limit
from .names import is_within


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for binary writing (and seeking) under a temporary name beside it, renamed on success.

    On any exception the temporary file is removed and a file already at `path` is left as it was. A file that is
    replaced hands on its permissions. A link at `path` is replaced, too: the file that it leads to stays as it was.
    Devices and pipes (`/dev/null`, `/dev/stdout`) are written directly.

    Raises:
        OSError: the folder is missing or not writable, `path` is a directory, the disk is full.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory; name a file in it.")
    if _is_written_directly(target):
        with explained(f"cannot write {path}", _FREE_SPACE), open(target, "wb") as file:
            yield file
        return
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with explained(f"cannot write {path}", _FREE_SPACE):
            with _new_file(temporary, _permissions(target)) as file:
                yield file
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _is_written_directly(path: Path) -> bool:
    """Whether a path is, or leads to, a device or pipe, or is a name that the system gives an open file."""
    if path.exists() and not path.is_file():
        return True
    return _OPEN_FILES.fullmatch(os.path.abspath(path)) is not None


_OPEN_FILES = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def _permissions(path: Path) -> int | None:
    """Permission bits of a file; None for a link, and without a file."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None


def _new_file(path: Path, permissions: int | None) -> BinaryIO:
    """Create a file for writing, never opening one that exists; None: with the permissions that the umask leaves."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o666 if permissions is None else permissions), "wb")
    if permissions is not None and hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), permissions)
    return file


def open_own(path: str | os.PathLike[str], mode: Literal["ab", "r+b"]) -> BinaryIO:
    """Open a file of an output folder for appending or changing, unbuffered; a link in its place is refused.

    Raises:
        OSError: it cannot be opened, or is a link.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    with explained(f"cannot write {path}", "remove it if it is a link, or choose another output"):
        return cast(BinaryIO, open(path, mode, buffering=0, encoding=None, opener=opener))


_FREE_SPACE = "free some space, or choose another place"


@contextlib.contextmanager
def explained(action: str, remedy: str) -> Iterator[None]:
    """Turn a system error inside into one sentence: `action`, the system's reason, `remedy`.

    Raises:
        OSError: of the same class, `ACTION: REASON; REMEDY.`; one that already is a sentence of ours is unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        reason = error.strerror[0].lower() + error.strerror[1:]
        sentence = type(error)(f"{action}: {reason}; {remedy}.")
        sentence.errno = error.errno
        raise sentence from error


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; pipes and devices, which may never end, are refused without being opened.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    name = os.fspath(path).encode("utf-8", "backslashreplace").decode()  # a name need not be UTF-8, a message must
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot read {name}: it is a directory; name a file in it.")
    irregular = f"cannot read {name}: it is not a regular file; name one, or give a pipe as standard input."
    with explained(f"cannot read {name}", "check the path"):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(irregular)
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - returned
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # replaced in between
            file.close()
            raise OSError(irregular)
    return cast(BinaryIO, file)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: str | os.PathLike[str], most: Limit) -> bytes:
    """The bytes of a regular file, at most `most`.

    Raises:
        LimitError: it has more.
        OSError: see `open_regular`.
    """
    with open_regular(path) as file, explained(f"cannot read {path}", "check its permissions"):
        size = os.fstat(file.fileno()).st_size
        most.check(size, f"{path} has {size:,} bytes")
        return file.read(size or 1 << 20)  # some files of the system state no size


def concerns_all_files(error: BaseException) -> bool:
    """Whether a failed write would fail for every other file as well: the disk is full or broken."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Create a folder, unless it exists, with all above it.

    Raises:
        OSError: it cannot be created.
    """
    with explained(f"cannot make the folder {folder}", "choose another output"):
        os.makedirs(folder, exist_ok=True)


def files_below(
    folder: str | os.PathLike[str],
    suffixes: Collection[str],
    unreadable: Callable[[OSError], object],
    outside: Callable[[str], object] | None = None,
) -> Iterator[str]:
    """Paths, in no particular order, of the files at any depth of `folder` with one of `suffixes` (in lower case).

    Hidden files and folders are skipped. Links to folders are followed, and each folder is read once, so loops end.
    A file inside `folder` is listed under its own path, even where a link leads to it, too.

    Args:
        folder: where the walk begins.
        suffixes: of the wanted files.
        unreadable: called with the system's error for each folder that cannot be listed.
        outside: called with each link to a folder or file outside `folder`, which is then left out; None: such links
            are followed.
    """
    read: set[str] = set()
    roots = [os.fspath(folder)]
    for root in roots:  # grows by the links that are found
        for where, folders, names in os.walk(root, onerror=unreadable):
            if (real := os.path.realpath(where)) in read:
                folders.clear()
                continue
            read.add(real)
            folders[:] = sorted(filter(is_visible, folders))  # of two links to a folder, always follow the same
            paths = (os.path.join(where, name) for name in folders)
            roots += [link for link in filter(os.path.islink, paths) if _is_followed(link, folder, outside)]
            wanted = (name for name in filter(is_visible, names) if Path(name).suffix.lower() in suffixes)
            files = (os.path.join(where, name) for name in wanted)
            yield from (file for file in files if not os.path.islink(file) or _is_followed(file, folder, outside))


def _is_followed(link: str, folder: str | os.PathLike[str], outside: Callable[[str], object] | None) -> bool:
    dangling = not os.path.exists(link)  # which is the failure of that file, when it is read
    if outside is None or dangling or is_within(link, folder):
        return True
    outside(link)
    return False


def is_visible(name: str) -> bool:
    """Whether a file or folder is not hidden; the `._` files of macOS are, too."""
    return not name.startswith(".")


def escaped(path: str) -> str:
    """A path as text: bytes of its name that are not UTF-8 as `\\xNN`, and every backslash doubled.

    Paths with neither are unchanged. Python keeps such bytes as lone surrogates, which no UTF-8 file can hold.
    """
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def unescaped(text: str) -> str:
    """The path that `escaped` made `text` of."""
    return os.fsdecode(_ESCAPE.sub(_unescape, os.fsencode(text)))


_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"\\" if match[1] is None else bytes.fromhex(match[1].decode())
