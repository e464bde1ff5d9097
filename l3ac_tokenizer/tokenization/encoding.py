"""`ClipEncoder`: clips of any form to the ids of a tokenized corpus; every engine runs it on every window.

Axes: T samples, N ids, G groups of digits.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..audio import AudioReader, check_form, open_clip
from ..inference import EncodedClip, encode_audio
from ..loudness import checked_lufs
from ..quantization import split_ids, split_sizes
from .segments import Segmentation, encode_segments

if TYPE_CHECKING:
    from ..modeling import CodecEncoding


class ClipEncoder:
    """Encodes batches of clips; one that cannot be read becomes an error result, and the others continue.

    Args:
        model: the codec, or its encoder alone, in evaluation mode.
        split: groups of digits an id is written as, see `l3ac_tokenizer.quantization.split_ids`; 1: the id itself.
        chunk_seconds: seconds of audio in the network at once.
        max_seconds: longer clips are failures; None: no limit.
        device: torch device, e.g. "cuda"; with several of that kind, a worker takes the one of its rank.
        allow_truncated: encode what is there of truncated clips; False: they are failures.
        level_lufs: loudness to which each clip is leveled, see `CodecFeatureExtractor`; None: it keeps its level.

    Raises:
        ValueError: `split` is not between 1 and the digits of an id or leaves ids that need more than 32 bits, a
            number is not above 0, or `level_lufs` is not from -70 to 0.
    """

    def __init__(
        self,
        model: CodecEncoding,
        split: int = 1,
        chunk_seconds: float = 30.0,
        max_seconds: float | None = None,
        device: str = "cpu",
        allow_truncated: bool = False,
        level_lufs: float | None = None,
    ) -> None:
        self.model = model
        self.level_lufs = checked_lufs(level_lufs)
        self.allow_truncated = allow_truncated
        self.split = split
        self.chunk_seconds = chunk_seconds
        self.max_seconds = max_seconds
        self.device = device
        largest = max(split_sizes(model.config.frame_levels, split))
        if largest > 2**31:
            raise ValueError(f"`split` is {split}; ids up to {largest - 1} need more than 32 bits: use more groups.")
        for name, value in (("chunk_seconds", chunk_seconds), ("max_seconds", max_seconds)):
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` is {value}; it must be above 0.")

    def __call__(
        self, clips: Sequence[Any], names: Sequence[str] | None = None, rank: int | None = None
    ) -> list[EncodedClip]:
        """Encode clips, and return their results in the same order; ids (N,) or (N, G) are int32.

        Args:
            clips: each in a form of `l3ac_tokenizer.audio.open_clip`: a path, the bytes of an audio file, or a
                dictionary of `array` and `sampling_rate` or of `bytes` and `path`.
            names: of the clips, in errors; None: their paths, or numbers where they have none.
            rank: number of the worker process; None where there is only one process.

        Raises:
            TypeError: a clip has none of the forms.
        """
        if names is None:
            names = [_name(clip, number) for number, clip in enumerate(clips)]
        for clip, name in zip(clips, names, strict=True):
            check_form(clip, name)
        self._place(rank)
        openers = [functools.partial(self._open, clip, name) for clip, name in zip(clips, names, strict=True)]
        results = dict(encode_audio(self.model, openers, self.chunk_seconds, level_lufs=self.level_lufs))
        return [results[position]._replace(ids=self._stored(results[position].ids)) for position in range(len(clips))]

    def pieces(
        self, clips: Sequence[Any], names: Sequence[str], rank: int | None = None
    ) -> Iterator[list[EncodedClip]]:
        """The rows that a corpus has for each clip: one with its ids, or the reason why it has none."""
        for result in self(clips, names, rank):
            yield [result]

    def _open(self, clip: Any, name: str) -> AudioReader:
        return open_clip(
            clip,
            name,
            self.model.config.sampling_rate,
            allow_truncated=self.allow_truncated,
            max_seconds=self.max_seconds,
        )

    def _place(self, rank: int | None) -> None:
        """Give a worker one thread on the CPU, or a GPU of its own."""
        device = torch.device(self.device)
        if rank is not None and device.type == "cpu":
            torch.set_num_threads(1)
        elif rank is not None and device.index is None:
            device = torch.device(device.type, rank % torch.get_device_module(device).device_count())
        self.model.to(device)  # type: ignore[arg-type]

    def _stored(self, ids: np.ndarray) -> np.ndarray:
        """Ids (N,) int64 → (N,) or (N, G) int32."""
        if self.split > 1 and len(ids):
            ids = split_ids(ids, self.model.config.frame_levels, self.split)
        return ids.astype(np.int32)


class SegmentEncoder(ClipEncoder):
    """Cuts recordings into segments, and encodes each as a clip of its own.

    Args:
        segmentation: where recordings are cut.
        arguments: see `ClipEncoder`.
    """

    def __init__(self, segmentation: Segmentation, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.segmentation = segmentation

    def pieces(
        self, clips: Sequence[Any], names: Sequence[str], rank: int | None = None
    ) -> Iterator[list[EncodedClip]]:
        """The segments of each recording in order; a recording that fails anywhere has one row that says why."""
        self._place(rank)
        for clip, name in zip(clips, names, strict=True):
            check_form(clip, name)
            try:
                with self._open(clip, name) as reader:
                    yield self._segments(reader)
            except Exception as error:
                yield [EncodedClip.failed(error)]

    def _segments(self, reader: AudioReader) -> list[EncodedClip]:
        encoded = encode_segments(self.model, reader, self.segmentation, self.chunk_seconds, self.level_lufs)
        segments = [segment._replace(ids=self._stored(segment.ids)) for segment in encoded]
        segments[-1] = segments[-1]._replace(truncated=reader.truncated)
        return segments


def _name(clip: Any, number: int) -> str:
    """The path of a clip in a form of `open_clip`, if it has one."""
    path = clip.get("path") if isinstance(clip, dict) else getattr(clip, "path", clip)
    return os.fspath(path) if isinstance(path, (str, os.PathLike)) else f"clip {number}"
