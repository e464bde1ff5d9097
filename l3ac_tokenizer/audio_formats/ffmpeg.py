"""`FFmpegDecoder`: audio that soundfile does not read (m4a, webm, wma and more), through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np

from ..limits import LimitError, check_rate
from .parts import DecodingError, Excerpt, Part, Truncated

_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,"
    "mpeg,mpegts,nistsphere,ogg,tta,w64,wav,wv"
)
"""FFmpeg's names of formats that hold audio. Others are lists of files, which would be opened, or text and pictures."""

_WITH_LENGTH = {"ape", "asf", "avi", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "tta", "wv"}
"""Formats that state their length; FFmpeg guesses that of the others."""

_SLACK_SECONDS, _SLACK_BLOCKS = 0.1, 4
"""By how much more a whole file may state than is decoded, the larger of both: encoders pad by some blocks."""


class FFmpegDecoder:
    """An audio file or the audio of a video, read forward from the start; see `decoders.Decoder`.

    Args:
        file: binary and seekable.
        cut: the file's structure shows that its end is missing.

    Raises:
        DecodingError: it holds no audio that FFmpeg reads.
    """

    frames: int | None = None
    gap = False

    def __init__(self, file: BinaryIO, *, cut: bool) -> None:
        start = file.tell()
        self._source: Any = Excerpt(file, Part(start, file.seek(0, 2)))
        self._container: Any = None
        self._start()
        container: Any = self._container
        if self._rest is None:
            raise DecodingError("it holds no audio")
        self.samplerate: int = self._rate
        self.channels: int = self._rest.shape[1]
        self.cut = cut
        known = container.format.name in _WITH_LENGTH and not cut
        duration = container.duration
        self.stated: float | None = duration / av.time_base if known and duration and duration > 0 else None
        self.slack = max(round(_SLACK_SECONDS * self.samplerate), _SLACK_BLOCKS * len(self._rest))

    def _start(self) -> None:
        """Open the file and decode its first frames."""
        self.close()
        self._source.seek(0)
        self._error: DecodingError | None = None
        try:
            self._container = av.open(self._source, options={"format_whitelist": _FORMATS})
        except (av.FFmpegError, ValueError, OSError) as error:
            raise DecodingError(_reason(error)) from error
        if not self._container.streams.audio:
            raise DecodingError("it holds no audio")
        self._blocks = self._decoded()
        self._rest: np.ndarray | None = next(self._blocks, None)

    def _decoded(self) -> Iterator[np.ndarray]:
        """(t, C) of each frame, at the rate and with the channels of the first."""
        packets = self._container.demux(audio=0)
        changed: Any = None
        resampler: Any = None
        wanted: Any = None
        try:
            for packet in packets:
                if packet.is_corrupt and packet.size:
                    raise Truncated("its last packet is incomplete")
                for frame in packet.decode():
                    now = check_rate(frame.sample_rate, "its header"), frame.layout.name
                    if wanted is None:
                        wanted, self._rate = now, frame.sample_rate
                    if now != changed:
                        changed = now
                        resampler = av.AudioResampler(format="fltp", layout=wanted[1], rate=wanted[0])
                    for block in resampler.resample(frame):
                        yield block.to_ndarray().T
            for block in resampler.resample(None) if resampler is not None else ():
                yield block.to_ndarray().T
        except LimitError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise (DecodingError if _goes_on(packets) else Truncated)(_reason(error)) from error

    def seek(self, frame: int, *, exact: bool) -> int:
        """See `Decoder`; always to the start."""
        self._start()
        return 0

    def read(self, count: int) -> np.ndarray:
        """See `Decoder`."""
        parts, left = [np.empty((0, self.channels), dtype=np.float32)], count
        while left and self._error is None:
            if self._rest is None or not len(self._rest):
                try:
                    self._rest = next(self._blocks, None)
                except DecodingError as error:  # after what was decoded before it
                    self._error = error
                if self._rest is None or self._error is not None:
                    break
            parts.append(self._rest[:left])
            self._rest = self._rest[left:]
            left -= len(parts[-1])
        if self._error is not None and len(parts) == 1:
            raise self._error
        return np.concatenate(parts)

    def close(self) -> None:
        """See `Decoder`."""
        if self._container is not None:
            self._container.close()


def _goes_on(packets: Iterator[Any]) -> bool:
    """Whether there are more packets after a damaged one."""
    try:
        return any(packet.size for packet in packets)
    except (av.FFmpegError, ValueError):
        return False


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
