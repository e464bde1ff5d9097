"""Clips through a codec: short ones in batches, long ones chunk by chunk.

Both give the same ids, and the same audio up to rounding. A frame always has one id here, that of all its digits, even
where residual quantizers give it several codebooks. Axes: T samples, N ids.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .audio import AudioError, AudioReader
from .causes import failure, shortened
from .checks import as_ids
from .feature_extraction import CodecFeatureExtractor
from .limits import BATCH_CLIPS
from .loudness import LoudnessMeter, checked_lufs, leveled
from .quantization import check_ids
from .streaming import StreamingEncoder

if TYPE_CHECKING:
    from .configuration import CodecConfig
    from .modeling import CodecEncoding, CodecModel
    from .modeling.span import TimeNormMode

MAX_OPEN_FILES = 64
"""Clips that `encode_audio` keeps open at once, among which it finds those of similar length."""

BATCH_SECONDS = 30.0
"""Seconds, padding included, of clips that are always in one batch where they are given together."""
MOST_PADDING = 4
"""Largest padded length of a longer batch, in lengths of its audio."""


class EncodedClip(NamedTuple):
    """The result of encoding one clip.

    Attributes:
        ids: (N,) int64, or (N, G) int32 in groups of digits where `ClipEncoder` splits them; empty if the clip failed.
        num_samples: length T at the model's rate; 0 if the clip failed.
        error: why it failed, in one sentence; None if it did not.
        truncated: says that its file is truncated, in one sentence; None if it is not.
        audio_scale: what the decoded clip is multiplied by to have its level; 1 if it was not leveled.
    """

    ids: np.ndarray
    num_samples: int
    error: str | None = None
    truncated: str | None = None
    audio_scale: float = 1.0

    @classmethod
    def failed(cls, error: BaseException | str) -> EncodedClip:
        """The result of a clip that cannot be encoded."""
        sentence = failure(error) if isinstance(error, BaseException) else shortened(" ".join(error.split()))
        return cls(np.empty(0, dtype=np.int64), 0, sentence)


def encode_files(
    model: CodecEncoding,
    paths: Iterable[str | os.PathLike[str]],
    errors: Literal["raise", "return"] = "raise",
    chunk_seconds: float = 30.0,
    level_lufs: float | None = None,
) -> list[EncodedClip]:
    """Encode audio files of any format, sampling rate and length, downmixed to mono and resampled.

    Memory depends on `chunk_seconds`, not on the files.

    Args:
        model: the codec, or its encoder alone, in evaluation mode.
        paths: of the files.
        errors: `"raise"` stops at the first file that cannot be encoded, a truncated one included; `"return"` goes on,
            and the result of such a file says why in `error`.
        chunk_seconds: seconds of audio in the network at once.
        level_lufs: loudness to which each clip is leveled, see `CodecFeatureExtractor`; None: it keeps its level.

    Returns:
        The result of each file, in the order of the paths.

    Raises:
        AudioError: a file cannot be encoded; the message names it.
        TypeError: `paths` is a single path.
        ValueError: `errors` is another word, `chunk_seconds` is not above 0, or `level_lufs` is not from -70 to 0.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(f"`paths` is a single path, {os.fspath(paths)!r}: give a list of paths.")
    if errors not in ("raise", "return"):
        raise ValueError(f"`errors` is {errors!r}; it must be 'raise' or 'return'.")
    if not chunk_seconds > 0:
        raise ValueError(f"`chunk_seconds` is {chunk_seconds}; it must be above 0.")
    checked_lufs(level_lufs)
    rate = model.config.sampling_rate
    openers = [functools.partial(AudioReader, path, rate) for path in paths]
    results: dict[int, EncodedClip] = {}
    for position, clip in encode_audio(model, openers, chunk_seconds, level_lufs=level_lufs):
        if clip.error is not None and errors == "raise":
            raise AudioError(clip.error)
        results[position] = clip
    return [results[position] for position in range(len(openers))]


def encode_audio(
    model: CodecEncoding,
    clips: Sequence[Callable[[], AudioReader]],
    chunk_seconds: float,
    progress: Callable[[float], object] | None = None,
    level_lufs: float | None = None,
) -> Iterator[tuple[int, EncodedClip]]:
    """Encode clips of any length, each opened once; a clip that fails in any way gives an error, the others continue.

    Memory depends on `chunk_seconds`, not on the clips.

    Args:
        model: the codec, or its encoder alone, in evaluation mode.
        clips: a function for each that opens it; it may raise any error.
        chunk_seconds: seconds of audio in the network at once.
        progress: called with the seconds of audio that have been encoded since the last call.
        level_lufs: loudness to which each clip is leveled; None: it keeps its level. Long clips are read twice.

    Yields:
        Position and result of each clip, in the order in which they are done.
    """
    for first in range(0, len(clips), MAX_OPEN_FILES):
        with contextlib.ExitStack() as opened:
            readers: dict[int, AudioReader] = {}
            for position in range(first, min(first + MAX_OPEN_FILES, len(clips))):
                try:
                    readers[position] = opened.enter_context(clips[position]())
                except Exception as error:
                    yield position, EncodedClip.failed(error)
            positions = list(readers)
            # A clip of unknown length may be long.
            seconds = [math.inf if reader.duration is None else reader.duration for reader in readers.values()]
            for group in group_by_length(seconds, chunk_seconds, least_seconds(model.config)):
                members = {positions[place]: readers[positions[place]] for place in group}
                (position, reader), *_ = members.items()
                if seconds[group[0]] > chunk_seconds:
                    yield position, _encode_long(model, reader, chunk_seconds, progress, level_lufs)
                else:
                    yield from _encode_batch(model, members, progress, level_lufs)


def _encode_batch(
    model: CodecEncoding,
    readers: dict[int, AudioReader],
    progress: Callable[[float], object] | None,
    level_lufs: float | None,
) -> Iterator[tuple[int, EncodedClip]]:
    waves: dict[int, np.ndarray] = {}
    scales: dict[int, float] = {}
    for position, reader in readers.items():
        try:
            waves[position], scales[position] = leveled(reader.read(), model.config.sampling_rate, level_lufs)
        except Exception as error:
            yield position, EncodedClip.failed(error)
    together = functools.partial(encode_clips, model)
    results = each_or_failure(together, list(waves.values()))
    for (position, wave), ids in zip(waves.items(), results, strict=True):
        if progress is not None:
            progress(len(wave) / model.config.sampling_rate)
        if isinstance(ids, Exception):
            yield position, EncodedClip.failed(ids)
        else:
            yield position, EncodedClip(ids, len(wave), None, readers[position].truncated, scales[position])


def each_or_failure(function: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
    """Results of a function of several items, in their order; if it fails, of each alone, or its error instead."""
    if not items:
        return []
    try:
        return function(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
    return [each_or_failure(function, [item])[0] for item in items]


def _encode_long(
    model: CodecEncoding,
    reader: AudioReader,
    chunk_seconds: float,
    progress: Callable[[float], object] | None,
    level_lufs: float | None,
) -> EncodedClip:
    rate = model.config.sampling_rate
    size = max(1, round(chunk_seconds * rate))
    num_samples = 0
    scale = 1.0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal num_samples, scale
        if level_lufs is not None:
            meter = LoudnessMeter(rate)
            for samples in reader.blocks(size):
                meter.push(samples)
            scale = meter.scale(level_lufs)
        for samples in reader.blocks(size):
            yield samples / np.float32(scale)
            num_samples += len(samples)
            if progress is not None:
                progress(len(samples) / rate)

    try:
        ids = encode_chunks(model, chunks())
    except Exception as error:
        return EncodedClip.failed(error)
    return EncodedClip(ids, num_samples, None, reader.truncated, scale)


def least_seconds(config: CodecConfig) -> float:
    """Seconds that the shortest clip occupies in a batch: a frame, or an attention window where clips are padded to
    whole ones."""
    frames = config.attention_span if getattr(config, "pad_to_window", False) else 1
    return frames * config.hop_length / config.sampling_rate


def group_by_length(seconds: Sequence[float], budget: float, least: float = 0.0) -> list[list[int]]:
    """Positions of clips in groups of similar length, the shortest clips first.

    A group's padded length, clips times longest clip, each at least `least` seconds, is at most `budget` seconds, and
    it has at most `limits.BATCH_CLIPS` clips; a clip longer than the budget is a group of its own.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(seconds)), key=seconds.__getitem__):
        count = len(groups[-1]) + 1 if groups else 1
        if 1 < count <= BATCH_CLIPS and count * max(least, seconds[position]) <= budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def _groups(config: CodecConfig, seconds: Sequence[float]) -> list[list[int]]:
    """Positions of clips that are given together: one group, unless it has too many clips or far more padding."""
    least = least_seconds(config)
    each = [max(least, length) for length in seconds]
    if len(each) <= BATCH_CLIPS and len(each) * max(each) <= max(MOST_PADDING * sum(each), BATCH_SECONDS):
        return [list(range(len(each)))]
    return group_by_length(seconds, max(BATCH_SECONDS, *each), least)


def _by_groups(groups: Sequence[list[int]], function: Callable[[list[int]], list[np.ndarray]]) -> list[np.ndarray]:
    """Results of the items of all groups, in the order of the items."""
    found = {place: each for group in groups for place, each in zip(group, function(group), strict=True)}
    return [found[place] for place in range(len(found))]


@torch.inference_mode()
def encode_clips(model: CodecEncoding, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Encode clips at the model's sampling rate, in one batch, or in several if padding would outweigh the audio.

    Args:
        model: the codec, or its encoder alone, in evaluation mode.
        clips: (T,) float32 each, mono; a long clip is held in the network as a whole, unlike by `encode_files`.

    Returns:
        The ids (N,) int64 of each clip.

    Raises:
        ValueError: a clip is empty, not mono or not floating-point audio.
    """
    if not len(clips):
        return []
    rate = model.config.sampling_rate
    groups = _groups(model.config, [len(clip) / rate for clip in clips])
    if len(groups) > 1:
        return _by_groups(groups, lambda group: encode_clips(model, [clips[place] for place in group]))
    inputs = CodecFeatureExtractor(sampling_rate=rate)(list(clips), sampling_rate=rate, return_tensors="pt")
    output: Any = model.encode(**inputs.to(model.device))
    rows = zip(model.quantizer.codebooks_to_ids(output.audio_codes), output.audio_codes_mask[:, 0], strict=True)
    return [ids[mask].cpu().numpy() for ids, mask in rows]


@torch.inference_mode()
def encode_chunks(model: CodecEncoding, chunks: Iterable[np.ndarray]) -> np.ndarray:
    """The ids (N,) int64 of a clip that comes in consecutive chunks (t,) float32."""
    encoder = StreamingEncoder(model)
    ids = array("q")  # one block that grows: a small one for each chunk would pin the pages of freed large ones
    for samples in chunks:
        ids.frombytes(encoder.push(samples)[0].cpu().numpy().tobytes())
    ids.frombytes(encoder.flush()[0].cpu().numpy().tobytes())
    return np.asarray(ids)


def encode_clip(model: CodecModel, samples: np.ndarray, chunk_seconds: float) -> np.ndarray:
    """The ids (N,) int64 of one clip (T,) float32; a longer one than `chunk_seconds` goes through in chunks."""
    size = max(1, round(chunk_seconds * model.config.sampling_rate))
    if len(samples) <= size:
        return encode_clips(model, [samples])[0]
    return encode_chunks(model, (samples[start : start + size] for start in range(0, len(samples), size)))


def decode_clip(
    model: CodecModel, ids: np.ndarray, num_samples: int, chunk_seconds: float, audio_scale: float = 1.0
) -> np.ndarray:
    """The samples (T = `num_samples`,) float32 of the ids (N,) of one clip, times its scale; the inverse of
    `encode_clip`, with the decoder's statistics of the whole clip."""
    if num_samples <= chunk_seconds * model.config.sampling_rate:
        return decode_clips(model, [ids], [num_samples], "clip", [audio_scale])[0]
    return np.concatenate(list(decode_chunks(model, ids, num_samples, "clip", chunk_seconds, audio_scale)))


@torch.inference_mode()
def decode_clips(
    model: CodecModel,
    all_ids: Sequence[np.ndarray | Sequence[int]],
    num_samples: Sequence[int] | None = None,
    time_norm: TimeNormMode = "clip",
    audio_scales: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """Decode the ids of clips, in batches as in `encode_clips`.

    Args:
        model: the codec, in evaluation mode.
        all_ids: ids (N,) of each clip, arrays, tensors or lists.
        num_samples: length T of each clip in samples, by which the last frame is cut; None: all N frames, whole.
        time_norm: see `CodecModel.decode`.
        audio_scales: scale of each clip, by which its samples are multiplied; None: 1.

    Returns:
        The samples (T,) float32 of each clip.

    Raises:
        ValueError: ids are of a wrong type, shape or range, a length does not fit the number of ids, or a scale is not
            above 0.
    """
    if not len(all_ids):
        return []
    rows = [as_ids(ids, f"`all_ids[{number}]`") for number, ids in enumerate(all_ids)]
    lengths = [len(row) * model.config.hop_length for row in rows] if num_samples is None else list(num_samples)
    if len(lengths) != len(rows):
        raise ValueError(f"`num_samples` has {len(lengths)} numbers for {len(rows)} clips; give one for each.")
    scales = [1.0] * len(rows) if audio_scales is None else list(audio_scales)
    if len(scales) != len(rows):
        raise ValueError(f"`audio_scales` has {len(scales)} numbers for {len(rows)} clips; give one for each.")
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"`all_ids[{number}]` has shape {tuple(row.shape)}; give the ids (N,) of one clip.")
        check_ids(row, math.prod(model.config.frame_levels), f"`all_ids[{number}]`")
    groups = _groups(model.config, [len(row) / model.config.frame_rate for row in rows])
    if len(groups) > 1:
        return _by_groups(
            groups,
            lambda group: decode_clips(
                model,
                [rows[place].numpy() for place in group],
                [lengths[place] for place in group],
                time_norm,
                [scales[place] for place in group],
            ),
        )
    audio_codes = model.quantizer.ids_to_codebooks(pad_sequence(rows, batch_first=True))
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)[:, None]
    output: Any = model.decode(
        audio_codes.to(model.device),
        audio_codes_mask=mask.to(model.device),
        num_samples=torch.tensor(lengths, device=model.device),
        time_norm=time_norm,
        audio_scales=torch.tensor(scales, dtype=torch.float32),
    )
    pairs = zip(output.audio_values, lengths, strict=True)
    return [row[0, :length].float().cpu().numpy() for row, length in pairs]


@torch.inference_mode()
def decode_chunks(
    model: CodecModel,
    ids: np.ndarray,
    num_samples: int,
    time_norm: TimeNormMode,
    chunk_seconds: float,
    audio_scale: float = 1.0,
) -> Iterator[np.ndarray]:
    """The samples of one clip from its ids (N,), times its scale, in consecutive chunks (t,) float32."""
    row = as_ids(ids, "`ids`")
    check_ids(row, math.prod(model.config.frame_levels))
    audio_codes = model.quantizer.ids_to_codebooks(row[None].to(model.device))
    for audio in model.iter_decode(audio_codes, chunk_seconds, time_norm):
        samples = audio[0, 0, :num_samples].float().cpu().numpy()
        num_samples -= len(samples)
        yield samples * np.float32(audio_scale)
