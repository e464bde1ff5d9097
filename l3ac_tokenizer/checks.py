"""Checks of audio and ids at every entrance: arrays, tensors and lists to tensors that a codec can process.

Each class and function that takes audio or ids calls these, so that all of them accept and refuse the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_ABS_SAMPLE = 4.0
"""Largest |sample| accepted as audio: resampling and lossy decoding overshoot full scale (1) a little, whereas unscaled
integer PCM exceeds it by far."""


def as_samples(audio: Any, name: str) -> Tensor:
    """Floating-point array, tensor or nested list of any shape → tensor of the same shape and precision.

    Raises:
        ValueError: The samples are of another type, or no array; the message calls them `name`.
    """
    return as_floats(audio, name, "samples in [-1, 1], and divide integer PCM by its full scale (int16 by 32768)")


def as_floats(values: Any, name: str, what: str = "values") -> Tensor:
    """Floating-point array, tensor or nested list of any shape → tensor of the same shape, in its precision.

    Raises:
        ValueError: The values are of another type, or no array; the message calls them `name`.
    """
    if not isinstance(values, Tensor):
        values = _as_array(values, name)
        if values.dtype.kind == "f":
            return torch.from_numpy(np.array(values, np.float32 if values.dtype.itemsize <= 4 else np.float64))
    elif values.dtype.is_floating_point:
        return values
    raise ValueError(f"{name} is of type {values.dtype}; give floating-point {what}.")


def check_samples(samples: Tensor, name: str) -> None:
    """Check that floating-point samples of any shape are finite and within ±`MAX_ABS_SAMPLE`; not in compiled code.

    Raises:
        ValueError: They are not; the message calls them `name`.
    """
    if in_graph(samples) or samples.numel() == 0:
        return
    low, high = (float(value) for value in samples.detach().aminmax())
    if low >= -MAX_ABS_SAMPLE and high <= MAX_ABS_SAMPLE:  # false for NaN, too
        return
    finite = samples.isfinite()
    if not bool(finite.all()):
        first = tuple(int(index) for index in (~finite).nonzero()[0])
        position = first[0] if len(first) == 1 else first
        raise ValueError(f"{name} holds {float(samples[first])} at sample {position}; remove NaN and infinite samples.")
    raise ValueError(
        f"{name} has samples up to ±{max(-low, high):g}, but full scale is 1 and at most ±{MAX_ABS_SAMPLE:g} is "
        "accepted; divide integer PCM by its full scale (int16 by 32768)."
    )


def as_streamed_clip(audio: Any, name: str) -> Tensor:
    """As `as_clip`, and 16-bit integers, as sound cards give them, are divided by their full scale, 32768.

    Raises:
        ValueError: As in `as_clip`.
    """
    if isinstance(audio, Tensor) and audio.dtype == torch.int16:
        audio = audio.to(torch.float32) / 2**15
    elif isinstance(audio, np.ndarray) and audio.dtype.kind == "i" and audio.dtype.itemsize == 2:
        audio = audio.astype(np.float32) / 2**15
    return as_clip(audio, name)


def as_clip(audio: Any, name: str) -> Tensor:
    """Audio of one clip as an array, tensor or list (T,), (1, T) or (T, 1) → checked samples (T,).

    Raises:
        ValueError: The audio has several channels, or samples of another type, not finite or too large; the message
            calls it `name`.
    """
    samples = as_samples(audio, name)
    if samples.ndim == 0 or sum(size != 1 for size in samples.shape) > 1:
        raise ValueError(
            f"{name} has shape {tuple(samples.shape)}, but must be mono, (num_samples,): downmix stereo audio or take "
            "one channel; give a batch as a list of waveforms."
        )
    samples = samples.reshape(-1)
    check_samples(samples, name)
    return samples


def as_ids(ids: Any, name: str) -> Tensor:
    """Array, tensor or nested list of integers of any shape → tensor of the same shape, int64.

    Raises:
        ValueError: The ids are of another type, or no array; the message calls them `name`.
    """
    if not isinstance(ids, Tensor):
        ids = _as_array(ids, name)
        if ids.size == 0 and ids.dtype.kind == "f":  # an empty list has no type of its own
            ids = ids.astype(np.int64)
        if ids.dtype.kind in "iu":
            return torch.from_numpy(np.array(ids, np.int64))
    elif not (ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool):
        return ids.to(torch.int64)
    raise ValueError(f"{name} has type {ids.dtype}; ids are whole numbers (int64).")


def as_audio_codes(audio_codes: Any, num_codebooks: int, codebook_size: int) -> Tensor:
    """Array, tensor or list of ids (B, `num_codebooks`, N), integers from 0 to `codebook_size` − 1 → tensor, int64.

    Raises:
        ValueError: The ids are of another type, shape or range; the message names it.
    """
    codes = as_ids(audio_codes, "`audio_codes`")
    if codes.ndim != 3 or codes.shape[1] != num_codebooks or codes.shape[2] == 0:
        raise ValueError(
            f"`audio_codes` has shape {tuple(codes.shape)}; it must be (batch, {num_codebooks}, frames) with at "
            "least one frame."
        )
    if codes.shape[0] == 0:
        raise ValueError("`audio_codes` has no clips; give at least one.")
    wrong = id_outside(codes, codebook_size)
    if wrong is not None:
        raise ValueError(f"`audio_codes` has id {wrong}; ids of this model are 0 to {codebook_size - 1}.")
    return codes


def id_outside(ids: Tensor, codebook_size: int) -> int | None:
    """An id that is not 0 to `codebook_size` − 1; None if there is none, and in compiled code."""
    if in_graph(ids) or ids.numel() == 0:
        return None
    low, high = (int(value) for value in ids.aminmax())
    return low if low < 0 else high if high >= codebook_size else None


def _as_array(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} is not an array of one shape ({error}); give a list for each length.") from error
    if array.dtype.kind not in "fiubc":
        raise ValueError(f"{name} is of type {type(values).__name__}; give an array or a tensor of numbers.")
    return array


def in_graph(values: Tensor) -> bool:
    """True while code is compiled, exported or traced, and for tensors without values: where values are not checked."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or values.is_meta
