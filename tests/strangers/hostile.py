"""Files that claim too much, expand, or never end: each function writes one and returns its path."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from l3ac_tokenizer.container import MAGIC


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def l3ac(
    path: Path,
    levels: tuple[int, ...] = (7,) * 6,
    rate: int = 16_000,
    hop: int = 270,
    num_ids: int = 1,
    coding: int = 1,
    blocks: int = 0,
    payload: bytes = b"",
    claimed: int | None = None,
) -> Path:
    """A `.l3ac` file with right checksums, whatever it states."""
    head = struct.pack(
        "<4sBBBB32sIIQQ", MAGIC, 1, coding, 1, len(levels), b"\0" * 32, rate, hop, num_ids * hop, num_ids
    )
    data = head + struct.pack(f"<{len(levels)}H", *levels) + b"x"
    checksum = zlib.crc32(data)
    data += struct.pack("<I", checksum)
    for _ in range(blocks):
        block = struct.pack("<I", len(payload) if claimed is None else claimed) + payload
        checksum = zlib.crc32(block, checksum)
        data += block + struct.pack("<I", checksum)
    return write(path, data)


def wav(path: Path, rate: int = 16_000, channels: int = 1, samples: int = 5_000) -> Path:
    """8-bit PCM of silence."""
    body = b"\x80" * (samples * channels)
    head = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels) & 0xFFFFFFFF, channels & 0xFFFF, 8)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(body)) + body
    return write(path, b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


def flac_bytes(samples: int = 1_000, rate: int = 16_000, seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(samples)
    soundfile.write(file, noise, rate, "PCM_16", format="FLAC")
    return file.getvalue()


def flac_claiming(path: Path, samples: int) -> Path:
    """The header and part of the first frame of a FLAC file that claims so many samples: 132 bytes."""
    data = bytearray(flac_bytes())
    (packed,) = struct.unpack_from(">Q", data, 18)
    struct.pack_into(">Q", data, 18, packed >> 36 << 36 | samples)
    return write(path, bytes(data[:132]))


def silent_flac(path: Path, hours: float, rate: int = 1_000) -> Path:
    """Hours of silence in few bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        block = np.zeros(1 << 20, dtype=np.int16)
        left = round(hours * 3600 * rate)
        while left > 0:
            file.write(block[:left])
            left -= len(block)
    return path


def broken_ogg(path: Path, marks: int = 30_000) -> Path:
    """An Ogg page after which page headers of no length follow one another."""
    page = b"OggS" + bytes(22) + b"\0"
    return write(path, page + (page + b"xxxx") * marks)


def mp3_of_headers(path: Path, size: int = 1 << 21) -> Path:
    """One frame of MP3, and then bytes that each might begin a header."""
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    return write(path, frame * 2 + b"\xff" * size)


def endless_ape(path: Path) -> Path:
    """MP3 with an APE tag that states the size 0."""
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    return write(path, frame * 4 + b"APETAGEX" + struct.pack("<IIII", 2000, 0, 0, 0) + bytes(8))


def tar_member(name: str, size: int, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> bytes:
    """Header of a member that states a size, then data in whole blocks."""
    info = tarfile.TarInfo(name)
    info.size, info.type = max(size, 0), kind
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        head[124:136] = b"\xff" * 4 + struct.pack(">q", size)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head[:512]) + data + bytes(-len(data) % 512)


def tar(path: Path, *members: bytes, good: bool = True) -> Path:
    """A tar file of members; a good one first."""
    audio = flac_bytes()
    first = tar_member("good.flac", len(audio), audio) if good else b""
    return write(path, first + b"".join(members) + bytes(10_240))


def parquet(path: Path, table: pa.Table, metadata: dict | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if metadata is not None:
        table = table.replace_schema_metadata({b"l3ac": json.dumps(metadata).encode()})
    pq.write_table(table, path, compression="zstd", **options)
    return path


def corpus_metadata(**changes) -> dict:
    """Metadata of ids as a tokenized corpus has it."""
    return {
        "model": "x",
        "weights_digest": "0" * 64,
        "levels": [7] * 6,
        "hop_length": 270,
        "sampling_rate": 16_000,
        "options": {"split": 1, "max_seconds": None, "allow_truncated": False},
        "version": "1",
    } | changes


def ids_table(ids: list[list[int]] = ((1, 2),)) -> pa.Table:
    return pa.table(
        {
            "id": [str(number) for number in range(len(ids))],
            "ids": pa.array(list(map(list, ids)), pa.list_(pa.int32())),
            "num_samples": pa.array([270 * len(each) for each in ids], pa.int64()),
        }
    )


def shard_manifest(path: Path, **changes) -> Path:
    """The first line of a tokenized corpus' manifest."""
    values = {
        "l3ac_manifest": 1,
        "facts": corpus_metadata(),
        "shard_rows": 1000,
        "num_shards": 1,
        "shard_index": 0,
        "kind": "folder",
        "source_digest": "0",
        "source_rows": 10,
        "remarks": [],
    }
    return write(path, json.dumps(values | changes) + "\n")


def sparse(path: Path, size: int) -> Path:
    """A file of many bytes that takes no room on disk."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path
