"""WebDataset shards: tar files in which members with the same name form one sample.

Nothing is extracted: one pass over the headers notes the position of each member's bytes, which are later read from
there. Names of members are labels only, never paths on this machine.

A member's name up to its first dot is that of its sample. A sample with several members of audio (`a.left.wav` and
`a.right.wav`, or names with dots) is a clip for each, named without the last suffix; a text of that name belongs to the
clip, and one with the sample's name to all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ...audio import OTHER_AUDIO_SUFFIXES, readable_suffixes
from ...causes import shortened
from ...files import escaped, is_visible
from ...limits import CLIP_BYTES, MEMBER_BYTES, NAME_CHARACTERS, TAR_HEADER_BYTES, Limit
from ...listing.columns import renamed
from ...listing.errors import DataError
from ...listing.text import decode_text
from ...parsing import parse_json
from ...storage import WHOLE_BYTES, open_parts, size_of
from ...urls import absolute, is_url, public_text, without_query
from .base import Record
from .ids import file_names, unique_ids

_TEXT_SUFFIXES = ("txt", "text", "transcript")
_KNOWN = ("text", "speaker", "language")
_AT_ONCE = 16
"""Tar files of object storage whose headers are read together."""


class TarSource:
    """Samples of tar files, from an index made by `open_tars`.

    Its columns are `text`, `speaker` and `language`, taken from `.txt` and `.json` members.
    """

    kind = "WebDataset"
    columns = {name: pa.string() for name in _KNOWN}  # noqa: RUF012 - constant

    def __init__(self, files: Sequence[str], index: pa.Table, remarks: Sequence[str] = ()) -> None:
        self.files = [absolute(file) for file in files]
        self.remarks = remarks
        self._index = index

    def __len__(self) -> int:
        return self._index.num_rows

    def sizes(self) -> np.ndarray | None:
        """Sizes of the members."""
        return self._index["audio"].combine_chunks().field("size").fill_null(0).to_numpy()

    def digest(self) -> str:
        """SHA-256 over the names and sizes of the files and the positions of their members."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(json.dumps([os.path.basename(without_query(file)), size_of(file)]).encode())
        for batch in self._index.to_batches(max_chunksize=1 << 16):
            digest.update(json.dumps(batch.to_pylist()).encode())
        return digest.hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The samples from `start` up to, not including, `stop`, counted over all files."""
        opened: tuple[int, BinaryIO] | None = None
        try:
            for row in self._index.slice(start, stop - start).to_pylist():
                if opened is None or opened[0] != row["file"]:
                    if opened is not None:
                        opened[1].close()
                    opened = row["file"], open_parts(self.files[row["file"]], WHOLE_BYTES)
                yield self._record(opened[1], row)
        finally:
            if opened is not None:
                opened[1].close()

    def _record(self, file: BinaryIO, row: dict[str, Any]) -> Record:
        shard = escaped(os.path.basename(without_query(self.files[row["file"]])))
        path = f"{shard}/{row['audio']['name'] if row['audio'] else row['key']}"
        if row["error"] is not None:
            return Record(row["key"], b"", path, error=row["error"])
        columns: dict[str, Any] = {}
        try:
            if row["json"] is not None:
                columns = _known_of_json(_bytes(file, row["json"], MEMBER_BYTES))
            if row["text"] is not None:
                columns["text"] = decode_text(_bytes(file, row["text"], MEMBER_BYTES), row["text"]["name"]).strip()
        except ValueError as error:
            reason = f"{path} has a text or JSON member that cannot be read ({str(error).rstrip('.')}): repair it."
            return Record(row["key"], b"", path, error=reason)
        return Record(row["key"], _bytes(file, row["audio"], CLIP_BYTES), path, columns)


def open_tars(files: Sequence[str], remarks: Sequence[str] = ()) -> TarSource:
    """The samples of tar files, in order; a damaged file gives the samples before the damage and one failure.

    Where two clips have the same name, all get that of their shard before it.

    Raises:
        DataError: there are no samples with audio.
        OSError: a file cannot be read.
    """
    member = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
    schema = pa.schema(
        [
            ("file", pa.int32()),
            ("key", pa.string()),
            ("audio", member),
            ("text", member),
            ("json", member),
            ("error", pa.string()),
        ]
    )
    ignored: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        indexed = (pool.map if any(map(is_url, files)) else map)(_indexed, range(len(files)), files)
        for clips, own in indexed:
            rows += clips
            ignored += own
    if not any(row.get("audio") for row in rows):
        reasons = [row["error"] for row in rows if row.get("error")] + _left_out(ignored)
        raise DataError(
            f"{public_text(files[0])} and the tar files after it hold no audio "
            f"({' '.join(reasons) or 'they are empty'}): check their contents."
        )
    shards = file_names(files)
    names, renamed = unique_ids([row["key"] for row in rows], [shards[row["file"]] for row in rows])
    rows = [row | {"key": name} for row, name in zip(rows, names, strict=True)]
    return TarSource(files, pa.Table.from_pylist(rows, schema=schema), [*remarks, *_left_out(ignored), *renamed])


def _left_out(ignored: Counter[str]) -> list[str]:
    """Remarks on members that are not read, by kind and their first shard."""
    return [f"{count} {kind} are left out." for kind, count in ignored.items()]


def _indexed(number: int, path: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    ignored: Counter[str] = Counter()
    return list(_clips(number, path, ignored)), ignored


def _clips(number: int, path: str, ignored: Counter[str]) -> Iterator[dict[str, Any]]:
    """One row of the index for each clip of a file, in the order in which their names first occur."""
    samples: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    last: str | None = None
    damage = None
    size = size_of(path)
    place, path = path, public_text(path)
    try:
        with open_parts(place) as file, tarfile.open(fileobj=_Headers(file), mode="r:") as tar:  # type: ignore
            position = -1
            for info in tar:
                if not position < info.offset_data <= info.offset_data + info.size <= size:
                    raise tarfile.ReadError("a member states a size that the file does not have")
                position = info.offset_data
                name = escaped(info.name)
                NAME_CHARACTERS.check(len(name), f"a member has a name of {len(name):,} characters")
                folder, file_name = os.path.split(name)
                if info.isdir() or not is_visible(file_name):
                    continue
                last = name
                if not info.isreg() or info.issparse():
                    ignored[f"links, devices and sparse members of {path}"] += 1
                    continue
                key = "/".join(filter(None, (folder, file_name.partition(".")[0])))
                member = {"name": name, "offset": info.offset_data, "size": info.size}
                samples.setdefault(key, []).append((os.path.splitext(name)[0], member))
            if not _ends_well(file, tar.offset, size):
                damage = "it ends there without an end mark, or is overwritten"
    except OSError:
        raise
    except Exception as error:  # besides TarError, whatever tarfile's parsers of numbers and lists raise
        damage = shortened(str(error).rstrip(".") or type(error).__name__, 200)
    for key, members in samples.items():
        yield from ({"file": number, **clip} for clip in _clips_of(key, members, path, ignored))
    if damage is not None:
        after = f"after {last}" if last is not None else "at its beginning"
        reason = f"{path} is damaged {after} ({damage}): copy or make it again; compressed archives are not read."
        yield {"file": number, "key": f"{os.path.basename(path)}:damage", "error": reason}


def _clips_of(
    key: str, members: list[tuple[str, dict[str, Any]]], path: str, ignored: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The clips of a sample, from its members' names without suffix and places in the archive."""
    audio = [(stem, member) for stem, member in members if _slot(member["name"]) == "audio"]
    for stem, member in audio:
        clip: dict[str, Any] = {"key": key if len(audio) == 1 else stem, "audio": member}
        for other, side in members:
            slot = _slot(side["name"])
            if slot in ("text", "json") and (other == stem or (other == key and slot not in clip)):
                clip[slot] = side
        yield clip
    if not audio:
        unread = sorted(
            {suffix for _, member in members if (suffix := _suffix(member["name"])) in OTHER_AUDIO_SUFFIXES}
        )
        what = f"samples of {path} with audio in {', '.join(unread)}" if unread else f"samples of {path} without audio"
        ignored[what] += 1


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _slot(name: str) -> str | None:
    """Column of the index for a member of this name; None: unused."""
    suffix = _suffix(name)
    if suffix in readable_suffixes():
        return "audio"
    return "text" if suffix[1:] in _TEXT_SUFFIXES else "json" if suffix == ".json" else None


def _ends_well(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether reading ended at the block of zeros that ends an archive, which tarfile does not check."""
    file.seek(offset - tarfile.BLOCKSIZE if offset >= size else offset)
    block = file.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not any(block)


class _Headers:
    """File object for tarfile, which reads headers through it and no contents: never more than they may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = file.name
        self.tell, self.close = file.tell, file.close

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file.

        Raises:
            tarfile.ReadError: a header states an offset before the file's start.
        """
        if offset < 0:
            raise tarfile.ReadError("a header states a size below 0")
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        """As of any file.

        Raises:
            tarfile.ReadError: a header states a size that it cannot have, or its numbers have hundreds of digits,
                on which tarfile spends quadratic time.
        """
        if not 0 <= count <= TAR_HEADER_BYTES:
            raise tarfile.ReadError("a header states a size that it cannot have")
        data = self._file.read(count)
        if count > tarfile.BLOCKSIZE and re.search(rb"\d{200}", data):
            raise tarfile.ReadError("a header states a number of hundreds of digits")
        return data


def _bytes(file: BinaryIO, member: dict[str, Any], most: Limit) -> bytes:
    most.check(member["size"], f"{member['name']} has {member['size']:,} bytes", DataError)
    file.seek(member["offset"])
    return file.read(member["size"])


def _known_of_json(data: bytes) -> dict[str, Any]:
    fields = parse_json(data)
    if not isinstance(fields, dict):
        return {}
    return {
        ours: str(fields[name]) for name, ours in renamed(fields).items() if ours in _KNOWN and fields[name] is not None
    }
