"""Clips and ids that visitors of the page give, through the codec.

Axes: T samples, N ids.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio import AudioReader
from ..container import Header, checked_ids, read_header, read_l3ac
from ..files import read_regular
from ..id_files import parse_ids, suffix_of
from ..inference import decode_clip, encode_clip
from ..limits import ID_FILE_BYTES, SERVED_SECONDS
from ..loudness import leveled
from .models import ServedModel, served_model, served_names

CHUNK_SECONDS = 10.0
"""Audio in the network at once: the decoder of l3ac-1k takes about 80 MB per second of it."""

_SEPARATORS = str.maketrans(",[]", "   ")


@dataclass(frozen=True)
class Result:
    """A clip that went through the codec, or ids that were decoded.

    Attributes:
        header: metadata of the ids.
        ids: (N,) int64.
        decoded: (T,) float32.
        decode_seconds: time that decoding took.
        original: (T,) float32 at the model's sampling rate; None where ids were given.
        encode_seconds: time that encoding took; None where ids were given.
        remark: sentence about the input; None: nothing is to be said.
    """

    header: Header
    ids: np.ndarray
    decoded: np.ndarray
    decode_seconds: float
    original: np.ndarray | None = None
    encode_seconds: float | None = None
    remark: str | None = None


def encode_file(path: str, model: str) -> Result:
    """Encode an audio file of any format, and decode its ids again.

    Args:
        path: of the file.
        model: one of `served_names`.

    Raises:
        AudioError: It cannot be read, or is longer than `limits.SERVED_SECONDS`.
        ValueError: See `served_model`.
        OSError: It is not a readable file.
    """
    served = served_model(model)
    rate = served.codec.config.sampling_rate
    with AudioReader(path, rate, max_seconds=SERVED_SECONDS.value, name=os.path.basename(path)) as reader:
        original, note = reader.read(), reader.note
    start = time.perf_counter()
    samples, scale = leveled(original, rate, served.level_lufs)
    ids = encode_clip(served.codec, samples, CHUNK_SECONDS)
    seconds = time.perf_counter() - start
    header = header_of(served, len(original), scale)
    return decoded(served, header, ids, original, seconds, note and f"The clip was {note}.")


def decode_file(path: str, model: str) -> Result:
    """Decode a `.l3ac`, `.json`, `.npy` or `.txt` file by the model that it names.

    Args:
        path: of the file.
        model: model of a file that names none, or none of `served_names`.

    Raises:
        ContainerError: It does not hold intact ids.
        ModelMismatchError: Another model made them.
        ValueError: They are more than `limits.SERVED_SECONDS` of audio; or see `served_model`.
        OSError: It is not a readable file.
    """
    if suffix_of(path) != ".l3ac":
        return _decode_plain(read_regular(path, ID_FILE_BYTES), suffix_of(path), "the file", model)
    data = Path(path).read_bytes()
    served = _maker_of(read_header(io.BytesIO(data)), "the file", model)
    return decoded(served, *read_l3ac(io.BytesIO(data)))


def decode_text(text: str, model: str) -> Result:
    """Decode pasted ids: the JSON of `l3ac encode`, or numbers with spaces or commas between; see `decode_file`."""
    text = text.strip()
    if not text:
        raise ValueError("there are no ids: paste some, or drop a file of them.")
    if text.startswith("{"):
        return _decode_plain(text.encode(), ".json", "the text", model)
    return _decode_plain(" ".join(text.translate(_SEPARATORS).split()).encode(), ".txt", "the text", model)


def decoded(
    served: ServedModel,
    header: Header,
    ids: np.ndarray,
    original: np.ndarray | None = None,
    encode_seconds: float | None = None,
    remark: str | None = None,
) -> Result:
    """Decode ids (N,); the other arguments are attributes of the `Result`."""
    start = time.perf_counter()
    samples = decode_clip(served.codec, ids, header.num_samples, CHUNK_SECONDS, header.audio_scale)
    return Result(header, ids, samples, time.perf_counter() - start, original, encode_seconds, remark)


def header_of(served: ServedModel, num_samples: int, audio_scale: float = 1.0) -> Header:
    """The metadata of ids that a model made of a clip."""
    config = served.codec.config
    return Header(
        served.name,
        served.digests[0],
        config.frame_levels,
        config.sampling_rate,
        config.hop_length,
        num_samples,
        audio_scale=audio_scale,
    )


def _decode_plain(data: bytes, suffix: str, name: str, model: str) -> Result:
    header, ids = parse_ids(data, suffix, name)
    if header is None:
        served = served_model(model)
        header = header_of(served, len(ids) * served.codec.config.hop_length)
        checked_ids(ids, header.levels, name)
        _check_length(header, name)
    else:
        served = _maker_of(header, name, model)
    return decoded(served, header, ids)


def _maker_of(header: Header, name: str, model: str) -> ServedModel:
    """The model that made the ids of `name`, whose length is checked."""
    served = served_model(header.model_name if header.model_name in served_names() else model)
    remedy = f"only those of {' and '.join(served_names())} can be decoded here"
    header.require(served.codec, served.name, name, remedy, served.digests)
    _check_length(header, name)
    return served


def _check_length(header: Header, name: str) -> None:
    if header.duration > SERVED_SECONDS.value:
        raise ValueError(
            f"{name} holds ids of {header.duration:.1f} s, more than the {SERVED_SECONDS.value:g} s allowed: cut them."
        )
