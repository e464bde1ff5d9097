"""Ids of one clip in plain formats: `.npy`, `.json` and `.txt`, beside the `.l3ac` of `container`.

| suffix | content |
|---|---|
| `.npy` | ids (N,) int64 |
| `.txt` | ids in decimal, on one line with spaces between |
| `.json` | object with `ids` and the fields of `container.Header` but `coding`: `model_name`, `weights_digest`, … |

Only `.json` says which weights made the ids, how many samples the clip has, and the scale that restores its level.
"""

from __future__ import annotations

import io
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from .container import ContainerError, Header, checked_ids
from .files import atomic_write, read_regular
from .limits import ID_FILE_BYTES, L3AC_IDS
from .parsing import parse_json

_MOST_BRACKETS = 16


def write_ids(path: str | os.PathLike[str], header: Header, ids: np.ndarray) -> int:
    """Write the ids (N,) of one clip in the format of the path's suffix, a key of `SUFFIXES`.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: the file cannot be written.
    """
    data = SUFFIXES[suffix_of(path)](header, ids)
    with atomic_write(path) as file:
        file.write(data)
    return len(data)


def read_ids(path: str | os.PathLike[str]) -> tuple[Header | None, np.ndarray]:
    """Read a file of plain ids: the header if the format has one, and the ids (N,) int64.

    Raises:
        ContainerError: it does not hold ids, or not those that its own header states.
        OSError: the file cannot be read.
    """
    return parse_ids(read_regular(path, ID_FILE_BYTES), suffix_of(path), os.fspath(path))


def parse_ids(data: bytes, suffix: str, name: str) -> tuple[Header | None, np.ndarray]:
    """The header and the ids (N,) int64 of the bytes of a file, see `read_ids`.

    Args:
        data: all bytes.
        suffix: format.
        name: of the file in messages.

    Raises:
        ContainerError: the suffix is another one, or they do not hold ids, or not those that their own header states.
    """
    if suffix not in SUFFIXES:
        raise ContainerError(f"{name} must end in {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".json":
            return _read_json(data)
        ids = _read_npy(data) if suffix == ".npy" else _read_txt(data)
        return None, _checked(ids)
    except Exception as error:  # numpy raises those of the parser of Python, too
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ContainerError(f"{name} does not hold the ids of a clip ({reason}): write it again.") from error


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix of a path in lower case."""
    return os.path.splitext(path)[1].lower()


def _checked(ids: np.ndarray) -> np.ndarray:
    """Ids (N,) as int64."""
    if not (ids.ndim == 1 and len(ids) and ids.dtype.kind in "iu"):
        raise ValueError(f"it has an array of {ids.dtype} with the shape {ids.shape}")
    L3AC_IDS.check(len(ids), f"it has {len(ids):,} ids")
    return ids.astype(np.int64)


def _read_json(data: bytes) -> tuple[Header, np.ndarray]:
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise ValueError("it has more lists and objects than `ids` and `levels`")
    values = parse_json(data)
    kinds: dict[str, type] = {name: int for name in ("sampling_rate", "hop_length", "num_samples")}
    kinds |= {"model_name": str, "weights_digest": str, "levels": list, "ids": list}
    for name, kind in kinds.items():
        if type(values[name]) is not kind:
            raise ValueError(f"its {name} is not of the type {kind.__name__}")
    ids = _checked(np.asarray(values["ids"]))
    scale = values.get("audio_scale", 1.0)
    if type(scale) not in (int, float):
        raise ValueError("its audio_scale is not a number")
    header = Header(**{name: values[name] for name in kinds if name != "ids"}, audio_scale=scale)
    checked_ids(ids, header.levels)
    if len(ids) != header.num_ids:
        raise ValueError(f"it has {len(ids)} ids and states {header.num_samples} samples")
    return header, ids


def _read_txt(data: bytes) -> np.ndarray:
    with warnings.catch_warnings(action="ignore"):  # that it is empty, which is refused
        return np.loadtxt(io.StringIO(data.decode("ascii")), dtype=np.int64, comments=None, ndmin=1)


def _read_npy(data: bytes) -> np.ndarray:
    """The array of a `.npy` file, whose header must state the size that there is."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has the version {version} of the format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"it states {shape} {dtype} in {len(data)} bytes")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")


def _npy(header: Header, ids: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, ids.astype("<i8"), allow_pickle=False)
    return file.getvalue()


def _txt(header: Header, ids: np.ndarray) -> bytes:
    return (" ".join(map(str, ids.tolist())) + "\n").encode()


def _json(header: Header, ids: np.ndarray) -> bytes:
    left_out = {"coding"} | ({"audio_scale"} if header.audio_scale == 1 else set())
    fields = {name: value for name, value in asdict(header).items() if name not in left_out}
    return (json.dumps({**fields, "ids": ids.tolist()}) + "\n").encode()


SUFFIXES: Mapping[str, Callable[[Header, np.ndarray], bytes]] = {".npy": _npy, ".json": _json, ".txt": _txt}
"""Suffix → function that makes the bytes of a file."""
