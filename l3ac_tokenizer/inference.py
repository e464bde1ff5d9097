"""Clips through a codec: short ones in batches, long ones chunk by chunk.

Both give the same ids, and the same audio up to rounding. A frame always has one id here, that of all its digits, even
where residual quantizers give it several codebooks. Axes: T samples, N ids.
"""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .audio import AudioReader
from .checks import as_ids
from .feature_extraction import CodecFeatureExtractor
from .quantization import check_ids
from .streaming import StreamingEncoder

if TYPE_CHECKING:
    from .modeling import CodecModel
    from .modeling.span import TimeNormMode

MAX_OPEN_FILES = 64
"""Clips that `encode_audio` keeps open at once, among which it finds those of similar length."""


class EncodedClip(NamedTuple):
    """The result of encoding one clip.

    Attributes:
        ids: (N,) int64, or (N, G) int32 in groups of digits where `ClipEncoder` splits them; empty if the clip failed.
        num_samples: length T at the model's rate; 0 if the clip failed.
        error: why it failed, in one sentence; None if it did not.
        truncated: says that its file is truncated, in one sentence; None if it is not.
    """

    ids: np.ndarray
    num_samples: int
    error: str | None = None
    truncated: str | None = None

    @classmethod
    def failed(cls, error: BaseException | str) -> EncodedClip:
        """The result of a clip that cannot be encoded."""
        return cls(np.empty(0, dtype=np.int64), 0, " ".join(str(error).split()) or type(error).__name__)


def encode_audio(
    model: CodecModel,
    clips: Sequence[Callable[[], AudioReader]],
    chunk_seconds: float,
    progress: Callable[[float], object] | None = None,
) -> Iterator[tuple[int, EncodedClip]]:
    """Encode clips of any length, each opened once; a clip that cannot be read gives an error, the others continue.

    Memory depends on `chunk_seconds`, not on the clips.

    Args:
        model: the codec, in evaluation mode.
        clips: a function for each that opens it; it may raise ValueError or OSError.
        chunk_seconds: seconds of audio in the network at once.
        progress: called with the seconds of audio that have been encoded since the last call.

    Yields:
        Position and result of each clip, in the order in which they are done.
    """
    for first in range(0, len(clips), MAX_OPEN_FILES):
        with contextlib.ExitStack() as opened:
            readers: dict[int, AudioReader] = {}
            for position in range(first, min(first + MAX_OPEN_FILES, len(clips))):
                try:
                    readers[position] = opened.enter_context(clips[position]())
                except (ValueError, OSError) as error:
                    yield position, EncodedClip.failed(error)
            positions = list(readers)
            # A clip of unknown length may be long.
            seconds = [math.inf if reader.duration is None else reader.duration for reader in readers.values()]
            for group in group_by_length(seconds, chunk_seconds):
                members = {positions[place]: readers[positions[place]] for place in group}
                (position, reader), *_ = members.items()
                if seconds[group[0]] > chunk_seconds:
                    yield position, _encode_long(model, reader, chunk_seconds, progress)
                else:
                    yield from _encode_batch(model, members, progress)


def _encode_batch(
    model: CodecModel, readers: dict[int, AudioReader], progress: Callable[[float], object] | None
) -> Iterator[tuple[int, EncodedClip]]:
    waves: dict[int, np.ndarray] = {}
    for position, reader in readers.items():
        try:
            waves[position] = reader.read()
        except (ValueError, OSError) as error:
            yield position, EncodedClip.failed(error)
    if waves:
        for (position, wave), ids in zip(waves.items(), encode_clips(model, list(waves.values())), strict=True):
            if progress is not None:
                progress(len(wave) / model.config.sampling_rate)
            yield position, EncodedClip(ids, len(wave), truncated=readers[position].truncated)


def _encode_long(
    model: CodecModel, reader: AudioReader, chunk_seconds: float, progress: Callable[[float], object] | None
) -> EncodedClip:
    rate = model.config.sampling_rate
    num_samples = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal num_samples
        for samples in reader.blocks(max(1, round(chunk_seconds * rate))):
            yield samples
            num_samples += len(samples)
            if progress is not None:
                progress(len(samples) / rate)

    try:
        ids = encode_chunks(model, chunks())
    except (ValueError, OSError) as error:
        return EncodedClip.failed(error)
    return EncodedClip(ids, num_samples, truncated=reader.truncated)


def group_by_length(seconds: Sequence[float], budget: float) -> list[list[int]]:
    """Positions of clips in groups of similar length, the shortest clips first.

    A group's padded length, clips times longest clip, is at most `budget` seconds; a clip longer than that is
    a group of its own.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(seconds)), key=seconds.__getitem__):
        if groups and (len(groups[-1]) + 1) * seconds[position] <= budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


@torch.inference_mode()
def encode_clips(model: CodecModel, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The ids (N,) int64 of each clip (T,) float32, all in one batch."""
    if not len(clips):
        return []
    rate = model.config.sampling_rate
    inputs = CodecFeatureExtractor(sampling_rate=rate)(list(clips), sampling_rate=rate, return_tensors="pt")
    output: Any = model.encode(**inputs.to(model.device))
    rows = zip(model.quantizer.codebooks_to_ids(output.audio_codes), output.audio_codes_mask[:, 0], strict=True)
    return [ids[mask].cpu().numpy() for ids, mask in rows]


@torch.inference_mode()
def encode_chunks(model: CodecModel, chunks: Iterable[np.ndarray]) -> np.ndarray:
    """The ids (N,) int64 of a clip that comes in consecutive chunks (t,) float32."""
    encoder = StreamingEncoder(model)
    ids = array("q")  # one block that grows: a small one for each chunk would pin the pages of freed large ones
    for samples in chunks:
        ids.frombytes(encoder.push(samples)[0].cpu().numpy().tobytes())
    ids.frombytes(encoder.flush()[0].cpu().numpy().tobytes())
    return np.asarray(ids)


@torch.inference_mode()
def decode_clips(
    model: CodecModel, all_ids: Sequence[np.ndarray], num_samples: Sequence[int], time_norm: TimeNormMode
) -> list[np.ndarray]:
    """The samples (T,) float32 of each clip from its ids (N,), cut to its number of samples, all in one batch."""
    if not len(all_ids):
        return []
    rows = [as_ids(ids, f"`all_ids[{number}]`") for number, ids in enumerate(all_ids)]
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"`all_ids[{number}]` has shape {tuple(row.shape)}; give the ids (N,) of one clip.")
        check_ids(row, math.prod(model.config.frame_levels), f"`all_ids[{number}]`")
    audio_codes = model.quantizer.ids_to_codebooks(pad_sequence(rows, batch_first=True))
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)[:, None]
    output: Any = model.decode(
        audio_codes.to(model.device),
        audio_codes_mask=mask.to(model.device),
        num_samples=torch.tensor(num_samples, device=model.device),
        time_norm=time_norm,
    )
    pairs = zip(output.audio_values, num_samples, strict=True)
    return [row[0, :length].float().cpu().numpy() for row, length in pairs]


@torch.inference_mode()
def decode_chunks(
    model: CodecModel, ids: np.ndarray, num_samples: int, time_norm: TimeNormMode, chunk_seconds: float
) -> Iterator[np.ndarray]:
    """The samples of one clip from its ids (N,), in consecutive chunks (t,) float32."""
    row = as_ids(ids, "`ids`")
    check_ids(row, math.prod(model.config.frame_levels))
    audio_codes = model.quantizer.ids_to_codebooks(row[None].to(model.device))
    for audio in model.iter_decode(audio_codes, chunk_seconds, time_norm):
        samples = audio[0, 0, :num_samples].float().cpu().numpy()
        num_samples -= len(samples)
        yield samples
