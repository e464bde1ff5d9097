"""`CodecFeatureExtractor`: waveforms to a padded batch with its mask."""

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
"""Largest |sample| accepted as audio: resampling and lossy decoding slightly overshoot full scale (1), whereas unscaled
integer PCM exceeds it by far."""


@takes_bundled_names
class CodecFeatureExtractor(SequenceFeatureExtractor):
    r"""Feature extractor of all codecs: checks waveforms and pads them to a batch.

    The model accepts any length, so only the shorter clips of a batch are padded.

    Args:
        feature_size (`int`, *optional*, defaults to 1): Number of channels; the codecs are mono.
        sampling_rate (`int`, *optional*, defaults to 16000): Sampling rate of the model in Hz.
        padding_value (`float`, *optional*, defaults to 0.0): Value of padding samples.
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
            raise ValueError(f"`feature_size` is {feature_size}; it must be 1, because the codecs are mono.")
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
        r"""Check one or several waveforms and pad them to a batch (B items, T samples).

        Args:
            raw_audio: Mono waveform (T,) with full scale 1, as an array (numpy, or a torch tensor on the CPU) or a list
                of floats; or a list of such waveforms.
            padding (*optional*, defaults to `True`): `True` or `"longest"` pads to the longest waveform, `"max_length"`
                to `max_length`, `False` does not pad; `return_tensors` requires equal lengths.
            truncation (*optional*, defaults to `False`): Truncate waveforms to `max_length`.
            max_length (*optional*): Length in samples for `padding="max_length"` and `truncation`.
            return_tensors (*optional*): `"pt"` or `"np"`; None: lists of arrays.
            sampling_rate (*optional*): Sampling rate of `raw_audio` in Hz. Always pass it: the model cannot detect a
                wrong rate, which gives wrong ids.

        Returns:
            [`BatchFeature`] with `input_values` (B, 1, T) float32 and `padding_mask` (B, 1, T) int32, which is 1 at
            audio and 0 at padding.

        Raises:
            ValueError: `sampling_rate` differs from the model's, or a waveform is empty, is not mono, or has samples
                that are NaN, infinite or beyond ±`MAX_ABS_SAMPLE`.
        """
        if sampling_rate is None:
            logger.warning_once(
                f"`sampling_rate` was not given to {type(self).__name__}: the audio is assumed to have "
                f"{self.sampling_rate} Hz; pass `sampling_rate` so that this can be checked."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The audio has {sampling_rate} Hz and the model needs {self.sampling_rate} Hz: "
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
    """Validate one waveform and return it as (T,) float32; errors call it `name`."""
    waveform = np.asarray(audio, dtype=np.float32)
    if waveform.ndim != 1:
        raise ValueError(
            f"{name} has shape {waveform.shape}, but must be mono, (num_samples,): "
            "downmix stereo audio or take one channel; give a batch as a list of waveforms."
        )
    if waveform.size == 0:
        raise ValueError(f"{name} is empty; give at least one sample.")
    if not np.isfinite(waveform).all():
        position = int(np.argmin(np.isfinite(waveform)))
        raise ValueError(f"{name} holds {waveform[position]} at sample {position}; remove NaN and infinite samples.")
    peak = float(np.abs(waveform).max())
    if peak > MAX_ABS_SAMPLE:
        raise ValueError(
            f"{name} has samples up to ±{peak:g}, but full scale is 1 and at most ±{MAX_ABS_SAMPLE:g} is accepted; "
            "divide integer PCM by its full scale (int16 by 32768)."
        )
    return waveform


__all__ = ["CodecFeatureExtractor"]
