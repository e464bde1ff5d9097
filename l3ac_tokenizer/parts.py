"""Parts of text and audio: the forms in which callers give them, and the pieces of a token sequence they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from transformers.utils import logging

from .checks import as_clip
from .quantization import check_ids

if TYPE_CHECKING:
    from .modeling import CodecModel

logger = logging.get_logger(__name__)

AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"

Part = dict[str, Any]
"""Text or audio: `{"type": "text", "text": str}`, `{"type": "audio", "ids": integers (N,)}` with ids as in
`audio_codes`, or `{"type": "audio", "audio": clip}`.

A clip is a path, a binary file object, the bytes of a file, a row of `datasets.Audio`, or a waveform (T,) with its
`sampling_rate` beside it in the part. The reader of this package downmixes files to mono and resamples all clips to the
rate of the codec (soxr, best quality).
"""

Piece = str | list[int]
"""A part that was checked: text, or ids."""


def to_pieces(parts: Sequence[tuple[Part, str]], codebook_size: int, audio_tokenizer: CodecModel | None) -> list[Piece]:
    """Check parts, each with its name in messages, and encode their waveforms in one batch.

    Raises:
        ValueError: A part is neither text nor audio, or its ids or its audio cannot be used.
        OSError: A file cannot be read.
    """
    pieces: list[Piece] = []
    waves: dict[int, np.ndarray] = {}
    for index, (part, name) in enumerate(parts):
        kind = part.get("type")
        if kind == "text":
            pieces.append(_text(part["text"], name))
        elif kind != "audio":
            raise ValueError(f"The type of {name} is {kind!r}; it must be 'text' or 'audio'.")
        elif "ids" in part:
            pieces.append(_ids(part["ids"], codebook_size, name))
        elif "audio" not in part and "path" not in part:
            raise ValueError(f"The audio of {name} is missing: give `ids`, or `audio` as a path or a waveform.")
        elif audio_tokenizer is None:
            raise ValueError(
                f"The audio of {name} has no `ids`, and the processor has no codec: give it `audio_tokenizer`, or "
                "encode the audio with the codec first."
            )
        else:
            waves[index] = _read(part, name, audio_tokenizer.config.sampling_rate)
            pieces.append([])
    if audio_tokenizer is not None and waves:
        from .inference import encode_clips

        for index, ids in zip(waves, encode_clips(audio_tokenizer, list(waves.values())), strict=True):
            pieces[index] = ids.tolist()
    return pieces


def _text(text: str, name: str) -> str:
    for mark in (AUDIO_START, AUDIO_END):
        if mark in text:
            raise ValueError(f"The text of {name} contains {mark}, which is reserved for audio: remove it.")
    return text


def _ids(given: Any, codebook_size: int, name: str) -> list[int]:
    ids = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    if ids.ndim != 1:
        raise ValueError(f"The ids of {name} have shape {ids.shape}; give those of one clip, (num_ids,).")
    if ids.size == 0:
        return []
    check_ids(ids, codebook_size, f"`ids` of {name}")
    return ids.astype(np.int64).tolist()


def _read(part: Part, name: str, sampling_rate: int) -> np.ndarray:
    """The audio of a part as mono (T,) float32 at a sampling rate."""
    from .audio import AudioReader, open_clip

    clip = part["audio"] if "audio" in part else part["path"]
    called = f"the audio of {name}"
    if isinstance(clip, (np.ndarray, Tensor, list, tuple)):
        rate = part.get("sampling_rate")
        if rate is None:
            rate = sampling_rate
            logger.warning_once(
                f"A waveform has no `sampling_rate` beside it in its part and is assumed to have {rate} Hz: give the "
                "rate, so that it can be resampled."
            )
        clip = {"array": as_clip(clip, called).detach().cpu().float().numpy(), "sampling_rate": rate}
    is_file = hasattr(clip, "read")
    with AudioReader(clip, sampling_rate, name=called) if is_file else open_clip(clip, called, sampling_rate) as reader:
        if reader.note:
            logger.warning_once(f"Audio in parts is {reader.note}, as everywhere in this package.")
        return reader.read()


__all__ = ["AUDIO_END", "AUDIO_START", "Part"]
