"""`.l3ac` files: the ids of one clip, with the metadata that decoding needs.

The byte layout is documented in `docs/reference/l3ac-format.md`, with a reader in plain Python. In short: a header with
its own checksum, then blocks of up to 1024 ids, each with a checksum that also covers the one before it, so that no
byte can change, go missing, move or be added unnoticed. Everything up to the first bad byte can still be read
(`salvage_l3ac`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .causes import InputError
from .files import atomic_write, explained, open_regular
from .id_metadata import IdMetadata, ModelMismatchError, checked_levels
from .limits import ENTROPY_CELLS, HOP_SAMPLES, L3AC_EXPANSION, L3AC_IDS, check_rate
from .range_coder import AdaptiveDigitCoder

if TYPE_CHECKING:
    from .modeling import CodecModel

MAGIC = b"L3AC"
VERSION = 2
"""Files at the clip's own level are of version 1, which has no field for the scale."""
BLOCK_IDS = 1024
CODINGS = ("packed", "entropy")
"""Codings of ids as bytes; the index of a coding is its number in the file."""
FREE_IDS = 8192
"""Ids that a file may hold however few bytes it has, see `limits.L3AC_EXPANSION`."""

_PREFIX = struct.Struct("<4sBBBB32sIIQQ")
# magic, version, coding, bytes of the model name, number of levels, weights digest,
# sampling rate, hop length, number of samples, number of ids; then the levels, the name and, in version 2, the scale
_SCALE = struct.Struct("<f")
_UINT32 = struct.Struct("<I")
_IDS_PER_BYTE = int(L3AC_EXPANSION.default)
_MOST_OF_REST = 1 << 20


class ContainerError(InputError):
    """A file that is not `.l3ac` or is damaged, or values that the format cannot hold."""


@dataclass(frozen=True)
class Header:
    """Header of a `.l3ac` file: the metadata of its ids.

    Attributes:
        model_name: the preset or the name of the model's directory, at most 255 bytes of UTF-8.
        weights_digest: `CodecModel.weights_digest()`, 64 hexadecimal digits.
        levels: levels of each FSQ dimension; their product is the codebook size.
        sampling_rate: in Hz.
        hop_length: samples an id.
        num_samples: length of the clip in samples, at least 1.
        coding: "packed" (mixed radix) or "entropy" (adaptive range coder).
        audio_scale: what the decoded samples are multiplied by to have the clip's level, a float32 from 1e-6 to 1e6.

    Raises:
        ContainerError: a value that the format cannot hold.
    """

    model_name: str
    weights_digest: str
    levels: tuple[int, ...]
    sampling_rate: int
    hop_length: int
    num_samples: int
    coding: str = "packed"
    audio_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.model_name.encode()) <= 255:
            raise ContainerError(f"model_name must be 1 to 255 bytes of UTF-8, not {self.model_name!r}.")
        if not re.fullmatch("[0-9a-f]{64}", self.weights_digest):
            raise ContainerError(f"weights_digest must be 64 hex digits, not {self.weights_digest!r}.")
        try:
            object.__setattr__(self, "levels", checked_levels(self.levels))
        except ValueError as error:
            raise ContainerError(str(error)) from error
        for name, limit in (("sampling_rate", 2**32), ("hop_length", 2**32), ("num_samples", 2**63)):
            if not 1 <= getattr(self, name) < limit:
                raise ContainerError(f"{name} must be in [1, {limit}), not {getattr(self, name)}.")
        if self.coding not in CODINGS:
            raise ContainerError(f"coding must be one of {', '.join(CODINGS)}, not {self.coding!r}.")
        if not 1e-6 <= self.audio_scale <= 1e6:
            raise ContainerError(f"audio_scale must be from 1e-6 to 1e6, not {self.audio_scale}.")
        object.__setattr__(self, "audio_scale", float(np.float32(self.audio_scale)))
        if self.coding == "entropy":
            cells = sum(level**2 for level in self.levels)
            ENTROPY_CELLS.check(
                cells, f"entropy coding of levels {self.levels} needs {cells:,} counters", ContainerError
            )

    @property
    def made_by(self) -> IdMetadata:
        """The model that made the ids."""
        return IdMetadata(self.weights_digest, self.levels)

    def require(
        self, model: CodecModel, codec: str, name: str, remedy: str, digests: Sequence[str] | None = None
    ) -> None:
        """Refuse a model that did not make the ids.

        Args:
            model: the model that is to read them.
            codec: its name, in the message.
            name: of the file of ids, in the message.
            remedy: end of the message.
            digests: `model.id_digests()`, where they are at hand.

        Raises:
            ModelMismatchError: it has other levels or rates, or reads the ids of other weights.
        """
        what = f"{name} holds ids of {self.model_name} with"
        self.made_by.require(model, codec, what, remedy, digests)
        config = model.config
        ours, others = (self.sampling_rate, self.hop_length), (config.sampling_rate, config.hop_length)
        if ours != others:
            rates = [f"{rate} Hz and hop {hop}" for rate, hop in (ours, others)]
            raise ModelMismatchError(f"{what} {rates[0]} and the codec {codec} has {rates[1]}: {remedy}.")

    @property
    def codebook_size(self) -> int:
        """Codebook size: number of ids that the model has."""
        return math.prod(self.levels)

    @property
    def num_ids(self) -> int:
        """ceil(num_samples / hop_length)."""
        return -(-self.num_samples // self.hop_length)

    @property
    def duration(self) -> float:
        """Length of the clip in seconds."""
        return self.num_samples / self.sampling_rate


def write_l3ac(target: str | os.PathLike[str] | BinaryIO, header: Header, ids: np.ndarray) -> int:
    """Write the ids (N,) of one clip; a file appears under its path only when complete.

    Returns:
        The size of the file in bytes.

    Raises:
        ContainerError: the ids are not whole numbers in [0, codebook size), or not `header.num_ids` in number.
        OSError: the file cannot be written.
    """
    data = dump_l3ac(header, ids)
    if isinstance(target, (str, os.PathLike)):
        with atomic_write(target) as file:
            file.write(data)
    else:
        target.write(data)
    return len(data)


def read_l3ac(source: str | os.PathLike[str] | BinaryIO) -> tuple[Header, np.ndarray]:
    """Read and verify a complete file: its header and its ids (N,) int64.

    Raises:
        ContainerError: it is not a `.l3ac` file, or any byte of it is changed, missing or added.
        OSError: the file cannot be read.
    """
    header, ids, reason = salvage_l3ac(source)
    if reason is not None:
        raise ContainerError(reason)
    return header, ids


def read_header(source: str | os.PathLike[str] | BinaryIO) -> Header:
    """Read and verify the header of a file alone.

    Raises:
        ContainerError, OSError: see `salvage_l3ac`.
    """
    with _opened(source) as (name, file):
        return _read_header(file, name)[0]


def salvage_l3ac(source: str | os.PathLike[str] | BinaryIO) -> tuple[Header, np.ndarray, str | None]:
    """Read a file up to its first bad byte.

    Returns:
        The header as it was written, the good ids (n,) int64 with n <= `header.num_ids`, and one sentence about the
        damage (None for an intact file).

    Raises:
        ContainerError: the header itself is damaged or is not that of a `.l3ac` file.
        OSError: the file cannot be read.
    """
    with _opened(source) as (name, file):
        return _salvage(file, name)


def _salvage(file: BinaryIO, name: str) -> tuple[Header, np.ndarray, str | None]:
    header, checksum, offset = _read_header(file, name)
    decode = _block_decoder(header)
    largest = _largest_payload(header)
    blocks: list[np.ndarray] = []
    reason = None
    num_blocks = -(-header.num_ids // BLOCK_IDS)
    for number in range(num_blocks):
        count = min(BLOCK_IDS, header.num_ids - number * BLOCK_IDS)
        try:
            payload, checksum, offset = _read_block(file, offset, checksum, largest)
            known = number * BLOCK_IDS + count
            if known > FREE_IDS + L3AC_EXPANSION.value * offset:
                raise ContainerError(f"makes {known} ids of {offset} bytes ({L3AC_EXPANSION.remedy})")
            blocks.append(decode(payload, count))
        except ContainerError as error:
            reason = f"block {number + 1} of {num_blocks} {error}"
            break
    else:
        if rest := len(_take(file, _MOST_OF_REST)):
            reason = f"{rest}{' or more' if rest == _MOST_OF_REST else ''} bytes follow its end"
    ids = np.concatenate([np.empty(0, dtype=np.int64), *blocks])
    if reason is not None:
        good = min(header.num_samples, len(ids) * header.hop_length) / header.sampling_rate
        remedy = "`l3ac decode --salvage` decodes the good ones" if len(ids) else "copy or encode it again"
        reason = (
            f"{name} is damaged: {reason}; {len(ids)} of {header.num_ids} ids are good "
            f"({good:.2f} of {header.duration:.2f} s): {remedy}."
        )
    return header, ids, reason


def dump_l3ac(header: Header, ids: np.ndarray) -> bytes:
    """The bytes of a file; the inverse of `read_l3ac`. See `write_l3ac`."""
    ids = checked_ids(ids, header.levels)
    if len(ids) != header.num_ids:
        raise ContainerError(
            f"{header.num_samples} samples at hop {header.hop_length} make {header.num_ids} ids, "
            f"but {len(ids)} were given: pass the ids of this clip without padding."
        )
    encode = _block_encoder(header)
    parts = [_dump_header(header)]
    checksum = zlib.crc32(parts[0])
    parts.append(_UINT32.pack(checksum))
    for start in range(0, len(ids), BLOCK_IDS):
        payload = encode(ids[start : start + BLOCK_IDS])
        if header.coding == "entropy":  # zeros that the decoder reads anyway, so that silence stays in proportion
            payload = payload.ljust(len(ids[start : start + BLOCK_IDS]) // _IDS_PER_BYTE, b"\0")
        block = _UINT32.pack(len(payload)) + payload
        checksum = zlib.crc32(block, checksum)
        parts += [block, _UINT32.pack(checksum)]
    return b"".join(parts)


def checked_ids(ids: np.ndarray, levels: tuple[int, ...], name: str = "") -> np.ndarray:
    """Check that `ids` (N,) are ids of this codebook, and return them as int64; `name` is their file, in messages.

    Raises:
        ContainerError: they have another shape or are not of an integer type, or one is outside [0, product of levels).
    """
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ContainerError(f"ids must be one row (N,), not of shape {ids.shape}: pass one clip at a time.")
    if ids.dtype.kind not in "iu":
        raise ContainerError(f"ids must be whole numbers, not {ids.dtype}: pass them as int64.")
    codebook_size = math.prod(levels)
    place = f" of {name}" if name else ""
    wrong = np.flatnonzero((ids < 0) | (ids >= codebook_size))
    if len(wrong):
        raise ContainerError(
            f"id {ids[wrong[0]]} at position {wrong[0]}{place} is outside the codebook of levels {levels} "
            f"(0 to {codebook_size - 1}): these ids come from another model."
        )
    return ids.astype(np.int64)


# --- header -------------------------------------------------------------------------------------------------


def _dump_header(header: Header) -> bytes:
    """The bytes of a header without its checksum."""
    name = header.model_name.encode()
    scale = b"" if header.audio_scale == 1 else _SCALE.pack(header.audio_scale)
    prefix = _PREFIX.pack(
        MAGIC,
        2 if scale else 1,
        CODINGS.index(header.coding),
        len(name),
        len(header.levels),
        bytes.fromhex(header.weights_digest),
        header.sampling_rate,
        header.hop_length,
        header.num_samples,
        header.num_ids,
    )
    return prefix + struct.pack(f"<{len(header.levels)}H", *header.levels) + name + scale


def _read_header(file: BinaryIO, name: str) -> tuple[Header, int, int]:
    """The header, its checksum and the offset of its end; the inverse of `_dump_header`."""
    data = _take(file, _PREFIX.size)
    if data[:4] != MAGIC:
        raise ContainerError(f"{name} is not a .l3ac file: it does not begin with {MAGIC.decode()}.")
    damaged = f"{name} has a damaged header, so none of its ids can be read: copy or encode it again."
    if len(data) < _PREFIX.size:
        raise ContainerError(damaged)
    fields = _PREFIX.unpack_from(data)
    _, version, coding, name_size, num_levels, digest, rate, hop, num_samples, num_ids = fields
    name_end = _PREFIX.size + 2 * num_levels + name_size
    end = name_end + (_SCALE.size if version == 2 else 0)
    data += _take(file, end + _UINT32.size - len(data))
    if len(data) < end + _UINT32.size or zlib.crc32(data[:end]) != _UINT32.unpack_from(data, end)[0]:
        # Later versions may have another header, but with their number in this place.
        if version > VERSION:
            raise ContainerError(
                f"{name} is damaged, or of format version {version} where this program reads {VERSION}: "
                f"update l3ac_tokenizer."
            )
        raise ContainerError(damaged)
    try:
        header = Header(
            model_name=data[_PREFIX.size + 2 * num_levels : name_end].decode(),
            weights_digest=digest.hex(),
            levels=struct.unpack_from(f"<{num_levels}H", data, _PREFIX.size),
            sampling_rate=rate,
            hop_length=hop,
            num_samples=num_samples,
            coding=CODINGS[coding],
            audio_scale=_SCALE.unpack_from(data, name_end)[0] if version == 2 else 1.0,
        )
    except (ValueError, IndexError) as error:
        raise ContainerError(f"{name} was written with errors: {error}") from error
    if version not in (1, VERSION) or header.num_ids != num_ids:
        raise ContainerError(
            f"{name} was written with errors: version {version}, {num_samples} samples, hop {hop}, {num_ids} ids."
        )
    check_rate(rate, name, ContainerError)
    if hop > HOP_SAMPLES:
        raise ContainerError(f"{name} states {hop} samples an id, and at most {HOP_SAMPLES} are plausible.")
    L3AC_IDS.check(num_ids, f"{name} states {num_ids:,} ids", ContainerError)
    return header, zlib.crc32(data[:end]), end + _UINT32.size


# --- blocks -------------------------------------------------------------------------------------------------


def _read_block(file: BinaryIO, offset: int, checksum: int, largest: int) -> tuple[bytes, int, int]:
    """The payload of the block at `offset`, at most `largest` bytes, its checksum and the offset of its end."""
    head = _take(file, _UINT32.size)
    if len(head) < _UINT32.size:
        raise ContainerError("is missing")
    (size,) = _UINT32.unpack(head)
    data = _take(file, size + _UINT32.size) if size <= largest else b""
    if len(data) < size + _UINT32.size:
        raise ContainerError("is cut off or has a wrong length")
    payload = data[:size]
    checksum = zlib.crc32(payload, zlib.crc32(head, checksum))
    end = offset + 2 * _UINT32.size + size
    if checksum != _UINT32.unpack_from(data, size)[0]:
        raise ContainerError(f"fails its checksum (bytes {offset} to {end - 1})")
    return payload, checksum, end


def _largest_payload(header: Header) -> int:
    """Bytes beyond which a payload cannot be one: packed ids have a fixed size, the range coder 21 bits a digit."""
    if header.coding == "packed":
        return packed_size(min(BLOCK_IDS, header.num_ids), header.codebook_size)
    return 16 + 3 * len(header.levels) * BLOCK_IDS


def _take(file: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, fewer only at the file's end."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _block_encoder(header: Header) -> Callable[[np.ndarray], bytes]:
    """A function from the next block of ids (n,) to its payload."""
    if header.coding == "entropy":
        return AdaptiveDigitCoder(header.levels).encode
    return functools.partial(pack_ids, codebook_size=header.codebook_size)


def _block_decoder(header: Header) -> Callable[[bytes, int], np.ndarray]:
    """A function from the next payload to its ids (n,); the inverse of `_block_encoder`."""
    if header.coding == "entropy":
        return AdaptiveDigitCoder(header.levels).decode
    return functools.partial(unpack_ids, codebook_size=header.codebook_size)


def pack_ids(ids: np.ndarray, codebook_size: int) -> bytes:
    """Ids (N,) as the digits, first id lowest, of one little-endian number in the fewest bytes."""
    return _join(ids.tolist(), codebook_size).to_bytes(packed_size(len(ids), codebook_size), "little")


def unpack_ids(data: bytes, num_ids: int, codebook_size: int) -> np.ndarray:
    """The inverse of `pack_ids`: ids (N,) int64.

    Raises:
        ContainerError: `data` is not a number that encodes `num_ids` ids.
    """
    number = int.from_bytes(data, "little")
    if len(data) != packed_size(num_ids, codebook_size) or number >= _power(codebook_size, num_ids):
        raise ContainerError(f"does not hold {num_ids} ids")
    return np.fromiter(_split(number, num_ids, codebook_size), dtype=np.int64, count=num_ids)


def packed_size(num_ids: int, codebook_size: int) -> int:
    """Bytes needed for `num_ids` ids: the fewest that hold the number codebook_size ** num_ids - 1."""
    return -(-(_power(codebook_size, num_ids) - 1).bit_length() // 8)


_LEAF_IDS = 32  # long integers are halved down to this, which makes both directions three times faster


@functools.lru_cache(maxsize=256)
def _power(base: int, exponent: int) -> int:
    return base**exponent


def _join(ids: list[int], base: int) -> int:
    if len(ids) > _LEAF_IDS:
        half = len(ids) // 2
        return _join(ids[:half], base) + _power(base, half) * _join(ids[half:], base)
    number = 0
    for identity in reversed(ids):
        number = number * base + identity
    return number


def _split(number: int, count: int, base: int) -> Iterator[int]:
    if count > _LEAF_IDS:
        half = count // 2
        upper, lower = divmod(number, _power(base, half))
        yield from _split(lower, half, base)
        yield from _split(upper, count - half, base)
        return
    for _ in range(count):
        number, identity = divmod(number, base)
        yield identity


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Name of the source in messages, and the file."""
    if not isinstance(source, (str, os.PathLike)):
        yield getattr(source, "name", None) or "the file", source
        return
    if os.path.isdir(source):
        raise IsADirectoryError(f"cannot read {source}: it is a directory; name a .l3ac file.")
    with open_regular(source) as file, explained(f"cannot read {source}", "check the path"):
        yield os.fspath(source), file
