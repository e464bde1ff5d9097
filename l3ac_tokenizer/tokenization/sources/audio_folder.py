"""`FileSource`: a list of audio files or segments of them; a folder of audio as such a list."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from ...audio import OTHER_AUDIO_SUFFIXES, AudioSegment, readable_suffixes
from ...files import escaped, unescaped
from ...limits import CLIP_BYTES
from ...listing.errors import DataError
from ...listing.layouts import read_layout
from ...names import OutsideError, common_folder, file_within, is_within, public_path
from ...storage import StorageError, objects_below, read_bytes, suffix_of
from ...urls import absolute, is_url, joined, public_text, without_query
from .base import Record

_AHEAD_FILES, _AHEAD_BYTES, _UNKNOWN_BYTES = 8, 1 << 26, 1 << 24
"""Bounds of what is read ahead from object storage, and the size that an object counts with if it is not known."""
_WAV_BYTES = 32_000
"""Bytes of a second of 16-bit audio at 16 kHz."""


class FileSource:
    """Audio files, or segments of them, with what is known about each.

    The list is kept as an Arrow table: compact, and shared between workers where they can share memory. Names that are
    not UTF-8 stand in it, and in the ids, as `files.escaped` writes them.

    Args:
        kind: kind of source, in words.
        root: folder or URL that relative paths begin in, and that clips are read within.
        rows: of each clip at least `id` and `path`; `size` (bytes) only enters the digest; `start` and `seconds`
            (float) make it a segment of its file.
        types: types of further columns; columns without one are strings.
        remarks: see `Source`.
        allow_outside: also read files outside `root`; without it they are failures.

    Raises:
        DataError: there are no rows, or two have the same id, or no file is in `root`.
    """

    def __init__(
        self,
        kind: str,
        root: str,
        rows: Sequence[Mapping[str, Any]],
        types: Mapping[str, pa.DataType] | None = None,
        remarks: Sequence[str] = (),
        *,
        allow_outside: bool = False,
    ) -> None:
        if not rows:
            reasons = " ".join(remarks)
            raise DataError(
                f"{public_text(root)} holds no audio files that can be read: {reasons or 'check the path.'}"
            )
        rows = [{**row, "id": escaped(row["id"]), "path": escaped(row["path"])} for row in rows]
        twice = next((name for name, count in Counter(row["id"] for row in rows).items() if count > 1), None)
        if twice is not None:
            paths = [row["path"] for row in rows if row["id"] == twice]
            raise DataError(
                f"{public_text(paths[0])} and {public_text(paths[1])} both have the id {twice!r}: rename one."
            )
        self.kind = kind
        self.remarks = remarks
        self.root = absolute(root)
        self._allow_outside = allow_outside
        files = (joined(self.root, unescaped(row["path"])) for row in rows)
        if not allow_outside and not any(is_within(file, self.root) for file in files):
            raise DataError(
                f"{public_text(rows[0]['path'])} lies outside {public_text(root)}, and so do all clips: give "
                "--allow-outside (in Python allow_outside=True) if you know where this list comes from."
            )
        self._common = common_folder((row["path"] for row in rows), self.root)
        types = {"start": pa.float64(), "seconds": pa.float64(), **(types or {})}
        names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
        self._table = pa.table(
            {
                name: pa.array([row.get(name) for row in rows], type=types.get(name, pa.string()))
                for name in names
                if name != "size"
            }
        )
        self.columns = {column.name: column.type for column in self._table.schema if column.name not in ("id", "path")}
        sizes = [row.get("size") for row in rows]
        self._sizes = np.array([_bytes_of(row) for row in rows], dtype=np.int64)
        self._digest = hashlib.sha256(
            "\n".join(
                json.dumps([size, row | {"path": without_query(row["path"])}], ensure_ascii=False, default=str)
                for size, row in zip(sizes, self._table.to_pylist(), strict=True)
            ).encode()
        ).hexdigest()

    def __len__(self) -> int:
        return self._table.num_rows

    def sizes(self) -> np.ndarray | None:
        """Sizes of the files, or those of segments as WAV; None where neither is listed."""
        return self._sizes if self._sizes.any() else None

    def digest(self) -> str:
        """SHA-256 over the rows and sizes, not over the audio."""
        return self._digest

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The clips from `start` up to, not including, `stop`; those of URLs are read here, several at once."""
        rows = self._table.slice(start, stop - start).to_pylist()
        files = [self._file(row["path"]) for row in rows]
        sizes = self._sizes[start:stop].tolist()
        urls = [(file, size) for file, size in zip(files, sizes, strict=True) if isinstance(file, str) and is_url(file)]
        # The segments of one file mostly follow each other.
        contents = read_ahead([next(group) for _, group in itertools.groupby(urls, lambda each: each[0])])
        read: tuple[str, Future[bytes] | None] = "", None
        for row, file in zip(rows, files, strict=True):
            name, path = row.pop("id"), row.pop("path")
            shown = public_path(path, self.root, self._common)
            if isinstance(file, OutsideError):
                yield Record(name, b"", shown, row, str(file))
                continue
            begin, seconds = row.get("start") or 0.0, row.get("seconds")
            is_whole = begin == 0 and seconds is None
            audio: Any = file
            if is_url(file):
                if read[0] != file:
                    read = file, next(contents)
                assert read[1] is not None
                try:
                    audio = read[1].result()
                except StorageError:
                    raise
                except (OSError, ValueError) as error:
                    yield Record(name, b"", shown, row, str(error))
                    continue
            audio = audio if is_whole else AudioSegment(audio, begin, seconds)
            yield Record(name, audio, shown, row, name=f"{os.path.basename(self.root)}/{shown}")

    def _file(self, path: str) -> str | OutsideError:
        """Place that a clip is read from, or why it is not read."""
        try:
            return file_within(unescaped(path), self.root, allow_outside=self._allow_outside)
        except OutsideError as error:
            return error


def read_ahead(files: Iterable[tuple[str, int]]) -> Iterator[Future[bytes]]:
    """The contents of objects, given by URL and about their bytes (0: not known), in order.

    Meanwhile those that follow are read: up to `_AHEAD_FILES`, and up to `_AHEAD_BYTES` of them or one.
    """
    left = deque((file, size or _UNKNOWN_BYTES) for file, size in files)
    waiting: deque[tuple[Future[bytes], int]] = deque()
    if not left:
        return
    with ThreadPoolExecutor(_AHEAD_FILES) as pool:
        while waiting or left:
            while left and len(waiting) < _AHEAD_FILES:
                file, size = left[0]
                if waiting and sum(each for _, each in waiting) + size > _AHEAD_BYTES:
                    break
                left.popleft()
                waiting.append((pool.submit(read_bytes, file, CLIP_BYTES), size))
            yield waiting.popleft()[0]


def open_audio_folder(root: str, remarks: Sequence[str] = (), *, allow_outside: bool = False) -> FileSource:
    """The audio below a folder, sorted by path, with text and speaker where its layout is a known one.

    Links to places outside the folder are followed with `allow_outside` only.

    Raises:
        DataError: the folder has no audio, or a table or transcript is damaged.
        OSError: a file of transcripts cannot be read.
    """
    kind, files, own_remarks = read_layout(root, allow_outside=allow_outside)
    rows = [
        {
            "id": file.id,
            "text": file.text,
            "speaker": file.speaker,
            "language": file.language,
            "path": file.path,
            "size": _size(os.path.join(root, file.path)),
        }
        for file in files
    ]
    return FileSource(kind, root, rows, remarks=[*remarks, *own_remarks], allow_outside=allow_outside)


def open_audio_objects(url: str, remarks: Sequence[str] = ()) -> FileSource:
    """The audio below a URL, sorted by name, with a remark that what its layout may tell is not read.

    Raises:
        DataError: it holds none.
        OSError: it cannot be listed.
    """
    shown = public_text(absolute(url))
    found = objects_below(url)
    suffixes = readable_suffixes()
    paths = sorted(name for name in found if suffix_of(name) in suffixes)
    others = Counter(suffix_of(name) for name in found if suffix_of(name) in OTHER_AUDIO_SUFFIXES)
    own = [f"{shown} is read without transcripts: give a manifest to have them."]
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        own.append(f'{shown} has audio that needs pip install "l3ac-tokenizer[formats]" to be read: {counts}.')
    stems = Counter(os.path.splitext(path)[0] for path in paths)
    rows = []
    for path in paths:
        stem = os.path.splitext(path)[0]
        rows.append({"id": stem if stems[stem] == 1 else path, "path": path, "size": found[path]})
    return FileSource("folder", url, rows, remarks=[*remarks, *own])


def _bytes_of(row: Mapping[str, Any]) -> int:
    """Size of a clip, 0 where it is not known."""
    return int(row.get("size") or min((row.get("seconds") or 0.0) * _WAV_BYTES, 2**62))


def _size(path: str) -> int | None:
    """Size of a file in bytes; None for a link that leads nowhere, which reading it will tell."""
    try:
        return os.path.getsize(path)
    except OSError:
        return None
