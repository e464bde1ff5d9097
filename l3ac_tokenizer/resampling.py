"""Resampling of mono audio that comes in chunks, with the result of the whole clip (soxr at its best quality)."""

from __future__ import annotations

import numpy as np
import soxr


class Resampler:
    """Resampler of one clip, which keeps its state between the chunks.

    Args:
        source_rate: sampling rate of the chunks in Hz.
        target_rate: wanted sampling rate in Hz.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self._stream = (
            None if source_rate == target_rate else soxr.ResampleStream(source_rate, target_rate, 1, "float32", "VHQ")
        )

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples (t,) float32 → those (u,) float32 that they decide at the wanted rate; u may be 0."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def flush(self) -> np.ndarray:
        """The rest (u,) float32 of the clip, which ends here."""
        none = np.empty(0, dtype=np.float32)
        return none if self._stream is None else self._stream.resample_chunk(none, last=True)
