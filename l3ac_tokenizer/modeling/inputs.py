"""What may come in, masks, and lengths: clips are left-aligned before the network sees them."""

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


def check_codes(audio_codes: Tensor, streams: int, codebook_size: int) -> None:
    """Refuse anything but ids (B, `streams`, N) from 0 to `codebook_size` − 1.

    Raises:
        ValueError: names the shape, the type, or an id.
    """
    if audio_codes.ndim != 3 or audio_codes.shape[1] != streams or audio_codes.shape[2] == 0:
        raise ValueError(
            f"`audio_codes` has shape {tuple(audio_codes.shape)}; it must be (batch, {streams}, ids) with at least one "
            "id."
        )
    if audio_codes.dtype.is_floating_point or audio_codes.dtype.is_complex or audio_codes.dtype == torch.bool:
        raise ValueError(f"`audio_codes` is of type {audio_codes.dtype}; ids are whole numbers (torch.int64).")
    if not torch.compiler.is_compiling():
        low, high = (int(value) for value in audio_codes.aminmax())
        if low < 0 or high >= codebook_size:
            raise ValueError(
                f"`audio_codes` has id {low if low < 0 else high}; the ids of this model are 0 to {codebook_size - 1}."
            )


def check_latents(latents: Tensor, width: int) -> None:
    """Refuse anything but latents (B, N, `width`).

    Raises:
        ValueError: names the shape.
    """
    if latents.ndim != 3 or latents.shape[2] != width or latents.shape[1] == 0:
        raise ValueError(f"`latents` has shape {tuple(latents.shape)}; it must be (batch, ids, {width}).")


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


def zero_after(wave: Tensor, lengths: Tensor) -> Tensor:
    """Waveforms (B, T, 1) with zeros from each clip's length (B,) on."""
    beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
    return wave.masked_fill(beyond[..., None], 0.0)


def wanted_samples(
    num_samples: int | Tensor | None, frames: Tensor | None, source: Tensor, hop: int
) -> int | Tensor | None:
    """Samples to give back for each clip.

    Args:
        num_samples: What was asked for: a number for all, (B,), or None for all that the ids give.
        frames: Ids of each clip (B,); None where all rows of `source` (B, N, ...) are full.
        source: Ids or latents.
        hop: Samples an id.

    Returns:
        A number for all, (B,), or None for all that the ids give.

    Raises:
        ValueError: Some ids stand for more or fewer samples than asked for.
    """
    if num_samples is None:
        return None if frames is None else frames * hop
    if isinstance(num_samples, int) and frames is None:
        wanted, ids = num_samples, source.shape[1]
        if not torch.compiler.is_compiling() and not (ids - 1) * hop < wanted <= ids * hop:
            raise ValueError(f"`num_samples` is {wanted}; {ids} ids stand for {(ids - 1) * hop + 1} to {ids * hop}.")
        return wanted
    lengths = torch.as_tensor(num_samples, device=source.device).expand(source.shape[0])
    ids_each = torch.full_like(lengths, source.shape[1]) if frames is None else frames
    if not torch.compiler.is_compiling() and not torch.equal((lengths + hop - 1) // hop, ids_each.to(lengths.dtype)):
        raise ValueError(
            f"`num_samples` is {lengths.tolist()}; rows of {ids_each.tolist()} ids stand for at most {hop} samples "
            "an id, and for fewer by less than that."
        )
    return lengths
