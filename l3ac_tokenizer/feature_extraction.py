"""`CodecFeatureExtractor`: waveforms to a padded batch and its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import PaddingStrategy, TensorType, logging

from .hub import takes_bundled_names

logger = logging.get_logger(__name__)

MAX_ABS_SAMPLE = 4.0
"""Largest |sample| that is taken for audio: resampling and lossy decoding overshoot full scale (1) a little;
integer PCM that was never scaled exceeds it by far."""


@takes_bundled_names
class CodecFeatureExtractor(SequenceFeatureExtractor):
    r"""Checks waveforms and pads them to a batch.

    The model needs no multiple of its hop, so nothing is padded but the shorter clips of a batch.

    Args:
        feature_size (`int`, *optional*, defaults to 1): Channels; L3AC is mono.
        sampling_rate (`int`, *optional*, defaults to 16000): Samples a second that the model was made for.
        padding_value (`float`, *optional*, defaults to 0.0): Value of padded samples.
        padding_side (`str`, *optional*, defaults to `"right"`): `"right"` or `"left"`.

    Raises:
        ValueError: `feature_size` is not 1.
    """

    model_input_names = ["input_values", "padding_mask"]  # noqa: RUF012 - declared so by transformers

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        **kwargs: Any,
    ):
        if feature_size != 1:
            raise ValueError(f"`feature_size` is {feature_size}; it must be 1, as L3AC codes one channel.")
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)

    def __call__(
        self,
        raw_audio: np.ndarray | Sequence[float] | Sequence[np.ndarray] | Sequence[Sequence[float]],
        padding: bool | str | PaddingStrategy | None = None,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
    ) -> BatchFeature:
        r"""Check one waveform or several, and pad them to a batch (B items, T samples).

        Args:
            raw_audio: Mono waveform of full scale 1, shape (T,), as an array (numpy, or a torch tensor on
                the CPU) or a list of floats; or a list of such waveforms.
            padding (*optional*, defaults to `True`): `True` or `"longest"` pads to the longest waveform,
                `"max_length"` to `max_length`, `False` not at all; `return_tensors` needs equal lengths.
            truncation (*optional*, defaults to `False`): Cut waveforms to `max_length`.
            max_length (*optional*): Length in samples for `padding="max_length"` and `truncation`.
            return_tensors (*optional*): `"pt"` or `"np"`; without it, lists of arrays.
            sampling_rate (*optional*): Samples a second of `raw_audio`. Always pass it: a wrong one cannot be
                heard by the model, and makes wrong ids.

        Returns:
            [`BatchFeature`] with `input_values` (B, 1, T) float32 and `padding_mask` (B, 1, T) int32, 1
            where there is audio.

        Raises:
            ValueError: `sampling_rate` is not the model's; a waveform is empty, not mono, holds NaN or
                infinite samples, or samples beyond ±`MAX_ABS_SAMPLE`.
        """
        if sampling_rate is None:
            logger.warning_once(
                f"`sampling_rate` was not given to {type(self).__name__}: the audio is taken to have "
                f"{self.sampling_rate} samples a second; pass `sampling_rate` so that this is checked."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The audio has {sampling_rate} samples a second and the model needs {self.sampling_rate}: "
                f"resample it first, e.g. `soxr.resample(raw_audio, {sampling_rate}, {self.sampling_rate})`."
            )
        if len(raw_audio) == 0:
            raise ValueError("`raw_audio` is empty; give at least one sample.")
        is_batch = isinstance(raw_audio, (list, tuple)) and np.ndim(raw_audio[0]) > 0
        waveforms = (
            [_checked(audio, f"`raw_audio[{index}]`") for index, audio in enumerate(raw_audio)]
            if is_batch
            else [_checked(raw_audio, "`raw_audio`")]
        )
        batch = self.pad(
            BatchFeature({"input_values": waveforms}),
            padding=True if padding is None else padding,
            truncation=truncation,
            max_length=max_length,
            return_attention_mask=True,
        )
        return BatchFeature(
            {
                "input_values": [audio[np.newaxis] for audio in batch["input_values"]],  # (1, T) each
                "padding_mask": [mask[np.newaxis] for mask in batch["attention_mask"]],
            },
            tensor_type=return_tensors,
        )


def _checked(audio: Any, name: str) -> np.ndarray:
    """One waveform as (T,) float32; `name` says in errors which one it is."""
    waveform = np.asarray(audio, dtype=np.float32)
    if waveform.ndim != 1:
        raise ValueError(
            f"{name} has the shape {waveform.shape} and one channel, (num_samples,), is needed: "
            "give stereo audio as the mean of its channels or one of them, a batch as a list of waveforms."
        )
    if waveform.size == 0:
        raise ValueError(f"{name} is empty; give at least one sample.")
    if not np.isfinite(waveform).all():
        position = int(np.argmin(np.isfinite(waveform)))
        raise ValueError(f"{name} holds {waveform[position]} at sample {position}; repair NaN and infinite samples.")
    peak = float(np.abs(waveform).max())
    if peak > MAX_ABS_SAMPLE:
        raise ValueError(
            f"{name} has samples up to ±{peak:g} where full scale is 1 and ±{MAX_ABS_SAMPLE:g} the bound; "
            "divide integer PCM by its full scale (int16 by 32768)."
        )
    return waveform


__all__ = ["CodecFeatureExtractor"]
