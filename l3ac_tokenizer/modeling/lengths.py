"""Masks in, lengths out: clips are left-aligned before the network sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_waveform(input_values: Tensor) -> None:
    """Refuse anything but floating-point waveforms (B, 1, T) with samples.

    Raises:
        ValueError: names the shape or type.
    """
    if input_values.ndim != 3 or input_values.shape[1] != 1:
        raise ValueError(
            f"`input_values` has shape {tuple(input_values.shape)}; it must be (batch, 1, samples), mono: "
            "average the channels first."
        )
    if not input_values.dtype.is_floating_point:
        raise ValueError(f"`input_values` is of type {input_values.dtype}; give floating-point samples in [-1, 1].")
    if input_values.shape[2] == 0:
        raise ValueError("`input_values` has no samples; leave empty clips out.")


def _rows(mask: Tensor, shape: Sequence[int], name: str) -> Tensor:
    """Mask (B, 1, T) or (B, T) → bool (B, T)."""
    rows = mask[:, 0] if mask.ndim == 3 and mask.shape[1] == 1 else mask
    if tuple(rows.shape) != tuple(shape):
        raise ValueError(f"`{name}` has shape {tuple(mask.shape)}; it must be {(shape[0], 1, shape[1])}.")
    return rows.bool()


def align_left(wave: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Bring each clip to the start of its row.

    Args:
        wave: Waveforms (B, T, 1).
        padding_mask: Non-zero (B, 1, T) or (B, T) at a clip's samples, one run in each row.

    Returns:
        Waveforms with zeros after the clips; lengths (B,) and former first samples (B,), None without padding.

    Raises:
        ValueError: The mask has another shape, a row has no samples or more than one run.
    """
    mask = _rows(padding_mask, wave.shape[:2], "padding_mask")
    lengths = mask.sum(dim=1)
    starts = mask.to(torch.uint8).argmax(dim=1)
    positions = torch.arange(wave.shape[1], device=wave.device)
    if not torch.compiler.is_compiling():
        if bool(mask.all()):
            return wave, None, None
        if not bool(lengths.all()):
            row = int((lengths == 0).nonzero()[0])
            raise ValueError(f"Row {row} of `padding_mask` has no samples; leave empty clips out of the batch.")
        run = (positions >= starts[:, None]) & (positions < (starts + lengths)[:, None])
        if not torch.equal(run, mask):
            raise ValueError("`padding_mask` must be one run of ones in each row: a clip cannot have gaps.")
    source = (positions + starts[:, None]).clamp(max=wave.shape[1] - 1)
    wave = wave.gather(1, source[..., None])
    return wave.masked_fill((positions >= lengths[:, None])[..., None], 0.0), lengths, starts


def align_right_again(wave: Tensor, starts: Tensor | None) -> Tensor:
    """Waveforms (B, T, 1) with zeros after the clips → back to their former places."""
    if starts is None:
        return wave
    positions = torch.arange(wave.shape[1], device=wave.device) - starts[:, None]
    moved = wave.gather(1, positions.clamp(min=0)[..., None])
    return moved.masked_fill((positions < 0)[..., None], 0.0)


def check_codes_mask(audio_codes_mask: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Mask (B, 1, N) or (B, N) → ids of each clip (B,), None where all rows are full.

    Raises:
        ValueError: Another shape, a row without ids, or padding before or between ids.
    """
    mask = _rows(audio_codes_mask, shape, "audio_codes_mask")
    frames = mask.sum(dim=1)
    if not torch.compiler.is_compiling():
        if bool(mask.all()):
            return None
        if not bool(frames.all()):
            raise ValueError("`audio_codes_mask` has a row without ids; leave empty clips out of the batch.")
        if not torch.equal(torch.arange(shape[1], device=mask.device) < frames[:, None], mask):
            raise ValueError("`audio_codes_mask` must be ones from each row's first id on, then zeros.")
    return frames
