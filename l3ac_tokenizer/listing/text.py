"""Text files beside audio: transcripts, tables and manifests, all read by one rule."""

from __future__ import annotations

import codecs
import io
import os

from ..limits import TEXT_BYTES, LimitError
from ..storage import read_bytes
from ..urls import public_text
from .errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, and the encodings that they announce."""


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file or object, decoded as `decode_text` does; line ends are kept.

    Raises:
        DataError: see `decode_text`, or it has more bytes than `limits.TEXT_BYTES`.
        OSError: it cannot be read, or is not a regular file.
    """
    try:
        data = read_bytes(path, TEXT_BYTES)
    except LimitError as error:
        raise DataError(str(error)) from error
    return decode_text(data, public_text(os.fspath(path)))


def decode_text(data: bytes, name: str) -> str:
    """Text in UTF-8, or in the encoding that its byte-order mark announces.

    Raises:
        DataError: it is in another encoding, which cannot be told from its bytes; the message begins with `name`.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}, line {line}, is not {encoding.removesuffix('-sig').upper()} text ({error.reason}): save it as "
            "UTF-8."
        ) from error


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file without their ends; see `read_text`."""
    return [line.rstrip("\n") for line in io.StringIO(read_text(path), newline=None)]
