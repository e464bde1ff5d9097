"""Long recordings cut into segments, each encoded as a clip of its own; memory does not grow with the recording.

Axes: T samples, N ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..audio import AudioReader
from ..inference import EncodedClip, encode_chunks, encode_clips
from ..limits import BATCH_CLIPS
from ..loudness import leveled

if TYPE_CHECKING:
    from ..modeling import CodecEncoding

_WINDOW_SECONDS = 0.02
_STEP_SECONDS = 0.005


@dataclass(frozen=True)
class Segmentation:
    """Places at which recordings are cut.

    Attributes:
        seconds: length of a segment; the last one of a recording is what is left.
        margin: a segment may be shorter by up to these seconds, to end in the middle of the 20 ms with the least power;
            0: all have the same length.

    Raises:
        ValueError: `seconds` is not above 0, or `margin` is not from 0 to less than `seconds`.
    """

    seconds: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"`segment_seconds` is {self.seconds}; it must be above 0.")
        if not 0 <= self.margin < self.seconds:
            raise ValueError(
                f"`segment_margin` is {self.margin}; it must be at least 0 and below {self.seconds:g}, the segment."
            )

    def cut(self, blocks: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Consecutive blocks (t,) of a recording → its segments (T,), without gaps."""
        size = max(1, round(self.seconds * sampling_rate))
        margin = min(round(self.margin * sampling_rate), size - 1)
        waiting = np.empty(0, dtype=np.float32)
        for block in blocks:
            waiting = np.concatenate([waiting, block])
            while len(waiting) > size:
                end = size - margin + _quietest(waiting[size - margin : size], sampling_rate)
                yield waiting[:end]
                waiting = waiting[end:]
        if len(waiting):
            yield waiting


def _quietest(samples: np.ndarray, sampling_rate: int) -> int:
    """Middle of the window with the least power in samples (T,), the last one of several; T where T is too short."""
    window, step = round(_WINDOW_SECONDS * sampling_rate), round(_STEP_SECONDS * sampling_rate)
    if len(samples) < window:
        return len(samples)
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - window + 1, step)
    powers = (sums[starts + window] - sums[starts])[::-1]
    return int(starts[::-1][powers.argmin()]) + window // 2


def encode_segments(
    model: CodecEncoding,
    reader: AudioReader,
    segmentation: Segmentation,
    chunk_seconds: float,
    level_lufs: float | None = None,
) -> Iterator[EncodedClip]:
    """Encode the segments of a recording, each as if it were a clip of its own; several of them are in a batch.

    Args:
        model: the codec, or its encoder alone, in evaluation mode.
        reader: the recording.
        segmentation: where it is cut.
        chunk_seconds: seconds of audio in the network at once; segments that are longer are encoded in chunks.
        level_lufs: loudness to which each segment is leveled; None: it keeps its level.

    Raises:
        AudioError: see `AudioReader.blocks`; segments before the damage have been yielded.
    """
    rate = model.config.sampling_rate
    budget = max(1, round(chunk_seconds * rate))
    group: list[np.ndarray] = []
    for segment in segmentation.cut(reader.blocks(budget), rate):
        if group and (sum(map(len, group)) + len(segment) > budget or len(group) == BATCH_CLIPS):
            yield from _encoded(model, group, budget, level_lufs)
            group = []
        group.append(segment)
    if group:
        yield from _encoded(model, group, budget, level_lufs)


def _encoded(
    model: CodecEncoding, group: list[np.ndarray], budget: int, level_lufs: float | None
) -> Iterator[EncodedClip]:
    pairs = [leveled(segment, model.config.sampling_rate, level_lufs) for segment in group]
    waves = [wave for wave, _ in pairs]
    if len(group) == 1 and len(waves[0]) > budget:
        all_ids = [encode_chunks(model, np.split(waves[0], range(budget, len(waves[0]), budget)))]
    else:
        all_ids = encode_clips(model, waves)
    for ids, (wave, scale) in zip(all_ids, pairs, strict=True):
        yield EncodedClip(ids, len(wave), audio_scale=scale)
