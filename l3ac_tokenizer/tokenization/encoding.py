"""Clips of any form to ids, many at a time: the function that every engine runs on every batch.

Clips of similar length go through the network together, within a budget of seconds, and longer ones piece by
piece, so memory depends on the budget. Neither changes an id. Axes: T samples, N ids, G groups of digits.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile
import torch

from ..audio import AudioError, AudioReader
from ..inference import encode_clips, encode_pieces
from ..quantization import split_ids, split_sizes
from .batching import by_length

if TYPE_CHECKING:
    from ..modeling import CodecModel


class EncodedClip(NamedTuple):
    """What became of one clip.

    Attributes:
        ids: (N,) int32, or (N, G) in groups of digits; empty where the clip failed.
        num_samples: length T at the model's rate; 0 where the clip failed.
        error: why it failed, one sentence; None where it did not.
    """

    ids: np.ndarray
    num_samples: int
    error: str | None = None


class ClipEncoder:
    """Encodes batches of clips; one that cannot be read is told and stops no other.

    Args:
        model: the codec, in evaluation mode.
        split: groups of digits an id is written as, see `l3ac_tokenizer.quantization.split_ids`; 1: the id itself.
        chunk_seconds: seconds of audio in the network at once.
        max_seconds: longer clips are failures; None: no limit.
        device: torch device, e.g. "cuda"; with several of that kind, a worker takes the one of its rank.

    Raises:
        ValueError: `split` is not between 1 and the digits of an id or leaves ids that need more than 32 bits, or a
            number is not above 0.
    """

    def __init__(
        self,
        model: CodecModel,
        split: int = 1,
        chunk_seconds: float = 30.0,
        max_seconds: float | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model
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

    def __call__(self, clips: Sequence[Any], names: Sequence[str], rank: int | None = None) -> list[EncodedClip]:
        """Encode clips, in any order inside, and return them in theirs.

        Args:
            clips: each a path, the bytes of an audio file, or a dictionary of `array` (T,) and `sampling_rate`, or
                of `bytes` and `path` as `datasets.Audio(decode=False)` has them.
            names: what errors call them.
            rank: number of the worker process; None where there is one.

        Raises:
            TypeError: a clip has none of these forms.
        """
        self._place(rank)
        results: dict[int, EncodedClip] = {}
        seconds: dict[int, float] = {}
        for position, (clip, name) in enumerate(zip(clips, names, strict=True)):
            with _noting(results, position), self._reader(clip, name) as reader:
                self._check_length(name, reader.duration)
                seconds[position] = reader.duration
        readable = list(seconds)
        for group in by_length(list(seconds.values()), self.chunk_seconds):
            members = [readable[place] for place in group]
            if seconds[members[0]] > self.chunk_seconds:
                self._encode_long(members[0], clips, names, results)
            else:
                self._encode_together(members, clips, names, results)
        return [results[position] for position in range(len(clips))]

    @property
    def _rate(self) -> int:
        return self.model.config.sampling_rate

    def _reader(self, clip: Any, name: str) -> AudioReader:
        return AudioReader(as_file(clip, name), self._rate)

    def _place(self, rank: int | None) -> None:
        """One thread a worker on the CPU; on a GPU, the worker's own."""
        device = torch.device(self.device)
        if rank is not None and device.type == "cpu":
            torch.set_num_threads(1)
        elif rank is not None and device.index is None:
            device = torch.device(device.type, rank % torch.get_device_module(device).device_count())
        self.model.to(device)  # type: ignore[arg-type]

    def _check_length(self, name: str, seconds: float) -> None:
        if self.max_seconds is not None and seconds > self.max_seconds:
            raise AudioError(f"{name} is {seconds:.1f} s long, more than the {self.max_seconds:g} s allowed: cut it.")

    def _encode_together(
        self, members: list[int], clips: Sequence[Any], names: Sequence[str], results: dict[int, EncodedClip]
    ) -> None:
        waves: dict[int, np.ndarray] = {}
        for position in members:
            with _noting(results, position), self._reader(clips[position], names[position]) as reader:
                waves[position] = reader.read()
        if waves:
            all_ids = encode_clips(self.model, list(waves.values()))
            for (position, wave), ids in zip(waves.items(), all_ids, strict=True):
                results[position] = EncodedClip(self._stored(ids), len(wave))

    def _encode_long(
        self, position: int, clips: Sequence[Any], names: Sequence[str], results: dict[int, EncodedClip]
    ) -> None:
        num_samples = 0

        def counted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            nonlocal num_samples
            for block in blocks:
                num_samples += len(block)
                yield block

        with _noting(results, position), self._reader(clips[position], names[position]) as reader:
            blocks = reader.blocks(max(1, round(self.chunk_seconds * self._rate)))
            ids = encode_pieces(self.model, counted(blocks))
            results[position] = EncodedClip(self._stored(ids), num_samples)

    def _stored(self, ids: np.ndarray) -> np.ndarray:
        """Ids (N,) int64 → (N,) or (N, G) int32."""
        if self.split > 1:
            ids = split_ids(ids, self.model.config.frame_levels, self.split)
        return ids.astype(np.int32)


@contextlib.contextmanager
def _noting(results: dict[int, EncodedClip], position: int) -> Iterator[None]:
    """Turn a failure to read a clip into its result."""
    try:
        yield
    except (ValueError, OSError) as error:
        results[position] = EncodedClip(np.empty(0, dtype=np.int32), 0, " ".join(str(error).split()))


class _NamedBytes(io.BytesIO):
    """A file in memory that messages can name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def as_file(clip: Any, name: str) -> str | _NamedBytes:
    """What `AudioReader` opens for a clip of any form.

    Raises:
        AudioError: an array of more than one axis.
        TypeError: it has no form that is known.
    """
    if isinstance(clip, (str, os.PathLike)):
        return os.fspath(clip)
    if isinstance(clip, (bytes, bytearray, memoryview)):
        return _NamedBytes(bytes(clip), name)
    if isinstance(clip, dict):
        if clip.get("array") is not None and clip.get("sampling_rate"):
            wave = np.asarray(clip["array"], dtype=np.float32)
            if wave.ndim != 1:
                raise AudioError(f"{name} has the shape {wave.shape}: give one channel, (num_samples,).")
            file = io.BytesIO()  # samples as they are, in a file like the others
            soundfile.write(file, wave, int(clip["sampling_rate"]), "FLOAT", format="WAV")
            return _NamedBytes(file.getvalue(), name)
        if clip.get("bytes") is not None:
            return _NamedBytes(clip["bytes"], name)
        if clip.get("path"):
            return os.fspath(clip["path"])
    raise TypeError(
        f"{name} is {type(clip).__name__}; audio is a path, the bytes of a file, or a dictionary of `array` and "
        "`sampling_rate` or of `bytes` and `path`."
    )
