"""Inputs of a codec: checks, masks, lengths, and left alignment of padded clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import as_floats, as_samples, in_graph


def as_waveforms(input_values: Any) -> Tensor:
    """Floating-point array, tensor or list of waveforms (B, 1, T) with at least one sample → tensor.

    The values are checked by `check_samples`, after padding has been removed.

    Raises:
        ValueError: The input is of another type or shape; the message names it.
    """
    waves = as_samples(input_values, "`input_values`")
    if waves.ndim != 3 or waves.shape[1] != 1:
        raise ValueError(
            f"`input_values` has shape {tuple(waves.shape)}; it must be (batch, 1, samples), mono: "
            "average the channels first."
        )
    if waves.shape[0] == 0:
        raise ValueError("`input_values` has no clips; give at least one.")
    if waves.shape[2] == 0:
        raise ValueError("`input_values` has no samples; leave empty clips out.")
    return waves


def as_latents(latents: Any, width: int) -> Tensor:
    """Floating-point array or tensor of finite latents (B, N, `width`) with at least one frame → tensor.

    Raises:
        ValueError: The latents are of another type or shape, or not finite; the message names it.
    """
    latents = as_floats(latents, "`latents`")
    if latents.ndim != 3 or latents.shape[2] != width or latents.shape[1] == 0:
        raise ValueError(f"`latents` has shape {tuple(latents.shape)}; it must be (batch, frames, {width}).")
    if not in_graph(latents) and not bool(latents.isfinite().all()):
        raise ValueError("`latents` holds NaN or infinite values; give those of `encode`.")
    return latents


def as_scales(audio_scales: Any, batch: int, device: torch.device) -> Tensor | None:
    """Scales (B, 1) or (B,) of the levels of B = `batch` clips → (B, 1) float32 on `device`; None stays None.

    Raises:
        ValueError: The scales are of another type or shape, or not finite numbers above 0.
    """
    if audio_scales is None:
        return None
    scales = as_floats(audio_scales, "`audio_scales`").to(device, torch.float32)
    if tuple(scales.shape) not in ((batch, 1), (batch,)):
        raise ValueError(f"`audio_scales` has shape {tuple(scales.shape)}; it must be {(batch, 1)}: one for each clip.")
    if not in_graph(scales) and not bool((scales.isfinite() & (scales > 0)).all()):
        raise ValueError("`audio_scales` holds values that are not finite or not above 0; give those of the extractor.")
    return scales.reshape(batch, 1)


def at_level(audio: Tensor, scales: Tensor | None) -> Tensor:
    """Waveforms (B, 1, T) times their scales (B, 1), in the precision of the waveforms."""
    return audio if scales is None else (audio * scales[:, :, None]).to(audio.dtype)


def _rows(mask: Any, shape: Sequence[int], name: str, device: torch.device) -> Tensor:
    """Mask (B, 1, T) or (B, T) → bool (B, T)."""
    mask = torch.as_tensor(mask, device=device)
    rows = mask[:, 0] if mask.ndim == 3 and mask.shape[1] == 1 else mask
    if tuple(rows.shape) != tuple(shape):
        raise ValueError(f"`{name}` has shape {tuple(mask.shape)}; it must be {(shape[0], 1, shape[1])}.")
    return rows.bool()


def clip_bounds(padding_mask: Any, shape: Sequence[int], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Mask (B, 1, T) or (B, T) → lengths (B,) and start positions (B,) of the clips, both None without padding.

    Raises:
        ValueError: The mask is not of `shape` (B, T), or a row of it is empty or not contiguous.
    """
    mask = _rows(padding_mask, shape, "padding_mask", device)
    lengths = mask.sum(dim=1)
    starts = mask.to(torch.uint8).argmax(dim=1)
    if not torch.compiler.is_compiling():
        if bool(mask.all()):
            return None, None
        if not bool(lengths.all()):
            row = int((lengths == 0).nonzero()[0])
            raise ValueError(f"Row {row} of `padding_mask` has no samples; leave empty clips out of the batch.")
        positions = torch.arange(shape[1], device=device)
        run = (positions >= starts[:, None]) & (positions < (starts + lengths)[:, None])
        if not torch.equal(run, mask):
            raise ValueError("`padding_mask` has a gap in a row; the ones of each row must be contiguous.")
    return lengths, starts


def align_left(wave: Tensor, padding_mask: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Move each clip to the start of its row.

    Args:
        wave: Waveforms (B, T, 1).
        padding_mask: Mask (B, 1, T) or (B, T), non-zero for the samples of a clip, which are contiguous.

    Returns:
        Waveforms with zeros after the clips; lengths (B,) and original start positions (B,), both None without padding.

    Raises:
        ValueError: As in `clip_bounds`.
    """
    lengths, starts = clip_bounds(padding_mask, wave.shape[:2], wave.device)
    if lengths is None or starts is None:
        return wave, None, None
    positions = torch.arange(wave.shape[1], device=wave.device)
    source = (positions + starts[:, None]).clamp(max=wave.shape[1] - 1)
    wave = wave.gather(1, source[..., None])
    return wave.masked_fill((positions >= lengths[:, None])[..., None], 0.0), lengths, starts


def undo_alignment(wave: Tensor, starts: Tensor | None) -> Tensor:
    """Move left-aligned waveforms (B, T, 1) back to their original start positions (B,)."""
    if starts is None:
        return wave
    positions = torch.arange(wave.shape[1], device=wave.device) - starts[:, None]
    moved = wave.gather(1, positions.clamp(min=0)[..., None])
    return moved.masked_fill((positions < 0)[..., None], 0.0)


def frame_counts(audio_codes_mask: Any, shape: Sequence[int], device: torch.device) -> Tensor | None:
    """Mask (B, 1, N) or (B, N) → number of frames of each clip (B,), None without padding.

    Raises:
        ValueError: The mask has a wrong shape, a row without frames, or padding before or between frames.
    """
    mask = _rows(audio_codes_mask, shape, "audio_codes_mask", device)
    frames = mask.sum(dim=1)
    if not torch.compiler.is_compiling():
        if bool(mask.all()):
            return None
        if not bool(frames.all()):
            raise ValueError("`audio_codes_mask` has a row without frames; leave empty clips out of the batch.")
        if not torch.equal(torch.arange(shape[1], device=mask.device) < frames[:, None], mask):
            raise ValueError("`audio_codes_mask` has padding before a frame; each row must be ones, then zeros.")
    return frames


def zero_after(wave: Tensor, lengths: Tensor) -> Tensor:
    """Replace the samples of waveforms (B, T, 1) after the lengths (B,) of the clips by zeros."""
    beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
    return wave.masked_fill(beyond[..., None], 0.0)


def output_lengths(
    num_samples: int | Tensor | None, frames: Tensor | None, source: Tensor, hop: int
) -> int | Tensor | None:
    """Number of samples to return for each clip.

    Args:
        num_samples: Requested number for all clips, or for each (B,); None: as many as the frames have.
        frames: Number of frames of each clip (B,); None without padding.
        source: Ids or latents (B, N, …).
        hop: Samples in a frame.

    Returns:
        A number for all clips, or for each (B,); None: as many as the frames have.

    Raises:
        ValueError: A request does not fit its number of frames.
    """
    if num_samples is None:
        return None if frames is None else frames * hop
    if isinstance(num_samples, int) and frames is None:
        wanted, count = num_samples, source.shape[1]
        if not torch.compiler.is_compiling() and not (count - 1) * hop < wanted <= count * hop:
            raise ValueError(
                f"`num_samples` is {wanted}; it must be {(count - 1) * hop + 1} to {count * hop} for {count} frames."
            )
        return wanted
    lengths = torch.as_tensor(num_samples, device=source.device).expand(source.shape[0])
    frames_each = torch.full_like(lengths, source.shape[1]) if frames is None else frames
    if not torch.compiler.is_compiling() and not torch.equal((lengths + hop - 1) // hop, frames_each.to(lengths.dtype)):
        raise ValueError(
            f"`num_samples` is {lengths.tolist()}; divided by {hop} and rounded up, it must be the number of frames, "
            f"{frames_each.tolist()}."
        )
    return lengths
