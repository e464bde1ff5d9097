"""`CodecFeatureExtractor`: waveforms to a padded batch with its mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import PaddingStrategy, TensorType, logging

from .checks import MAX_ABS_SAMPLE, as_clip
from .configuration import LOADING_ARGUMENTS
from .hub import refuse_remote_code, takes_bundled_names
from .limits import BATCH_SAMPLES, check_rate
from .loudness import checked_lufs, leveled

logger = logging.get_logger(__name__)


STORED_ARGUMENTS = {"padding_side", "return_attention_mask", "feature_extractor_type", "processor_class", "auto_map"}
"""Further arguments that `preprocessor_config.json` may have."""


@takes_bundled_names
class CodecFeatureExtractor(SequenceFeatureExtractor):
    r"""Feature extractor of all codecs: checks waveforms and pads them to a batch.

    The model accepts any length, so only the shorter clips of a batch are padded.

    Args:
        feature_size (`int`, *optional*, defaults to 1): Number of channels; the codecs are mono.
        sampling_rate (`int`, *optional*, defaults to 16000): Sampling rate of the model in Hz.
        padding_value (`float`, *optional*, defaults to 0.0): Value of padding samples.
        padding_side (`str`, *optional*, defaults to `"right"`): `"right"` or `"left"`.
        level_lufs (`float`, *optional*): Integrated loudness (ITU-R BS.1770) to which every waveform is scaled, e.g.
            -20, so that ids do not depend on its level; the scale that restores the level is in `audio_scales`. Where a
            sample would exceed ±1, the peak becomes 0.95 and the loudness stays lower. Waveforms shorter than 0.4 s,
            practically silent ones (below -60 dB) and infrasound keep their level. By default, all do.

    Raises:
        ValueError: `feature_size` is not 1, or `level_lufs` is not a number from -70 to 0.
        TypeError: An argument is unknown.
    """

    model_input_names = ["input_values", "padding_mask"]  # noqa: RUF012 - declared so by transformers

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        level_lufs: float | None = None,
        **kwargs: Any,
    ):
        if feature_size != 1:
            raise ValueError(f"`feature_size` is {feature_size}; it must be 1, because the codecs are mono.")
        if unknown := sorted(name for name in kwargs.keys() - STORED_ARGUMENTS if not name.startswith("_")):
            raise TypeError(f"{type(self).__name__} does not take `{unknown[0][:80]}`: leave it out.")
        sampling_rate = check_rate(sampling_rate, f"`sampling_rate` of {type(self).__name__}")
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        self.level_lufs = checked_lufs(level_lufs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Return the feature extractor of a dictionary, as of `preprocessor_config.json`; `kwargs` replace its values.

        Raises:
            TypeError: The feature extractor has no value of a name in `kwargs`.
            ValueError: A value is not one that the class takes.
        """
        result: Any = super().from_dict(feature_extractor_dict, **{**kwargs, "return_unused_kwargs": True})
        made, unused = result
        made.level_lufs = checked_lufs(made.level_lufs)
        if kwargs.get("return_unused_kwargs"):
            return made, unused
        if unknown := sorted(name for name in unused.keys() - LOADING_ARGUMENTS if not name.startswith("_")):
            raise TypeError(f"{cls.__name__} has no value `{unknown[0]}`: leave it out.")
        return made

    def to_dict(self) -> dict[str, Any]:
        """The values as in `preprocessor_config.json`, without a `level_lufs` of None, which older versions refuse."""
        values = super().to_dict()
        if values.get("level_lufs") is None:
            values.pop("level_lufs", None)
        return values

    def __call__(
        self,
        raw_audio: np.ndarray | Sequence[float] | Sequence[np.ndarray] | Sequence[Sequence[float]] | None = None,
        padding: bool | str | PaddingStrategy | None = None,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
        audio: np.ndarray | Sequence[float] | Sequence[np.ndarray] | Sequence[Sequence[float]] | None = None,
    ) -> BatchFeature:
        r"""Check one or several waveforms and pad them to a batch (B items, T samples).

        Args:
            raw_audio: Mono waveform (T,), (1, T) or (T, 1) with full scale 1, as an array (numpy or torch) or a list of
                floats; or a list of such waveforms.
            padding (*optional*, defaults to `True`): `True` or `"longest"` pads to the longest waveform, `"max_length"`
                to `max_length`, `False` does not pad; `return_tensors` requires equal lengths.
            truncation (*optional*, defaults to `False`): Truncate waveforms to `max_length`.
            max_length (*optional*): Length in samples for `padding="max_length"` and `truncation`.
            return_tensors (*optional*): `"pt"` or `"np"`; None: lists of arrays.
            sampling_rate (*optional*): Sampling rate of `raw_audio` in Hz. Always pass it: the model cannot detect a
                wrong rate, which gives wrong ids.
            audio: Another name of `raw_audio`, as newer feature extractors call it.

        Returns:
            [`BatchFeature`] with `input_values` (B, 1, T) float32 and `padding_mask` (B, 1, T) int32, which is 1 at
            audio and 0 at padding. With `level_lufs`, also `audio_scales` (B, 1) float32: `input_values` times these
            are the given waveforms. A scale is that of the whole waveform, whatever the batch, padding and truncation.

        Raises:
            ValueError: Not exactly one of `raw_audio` and `audio` is given, `sampling_rate` differs from the model's,
                the batch is large and mostly padding, or a waveform
                is empty, is not mono or not of floating-point numbers, or has samples that are NaN, infinite or beyond
                ±`MAX_ABS_SAMPLE`.
        """
        if (raw_audio is None) == (audio is None):
            raise ValueError(f"{type(self).__name__} takes the waveforms as `raw_audio` or `audio`; give one of them.")
        name, given = ("raw_audio", raw_audio) if audio is None else ("audio", audio)
        if sampling_rate is None:
            logger.warning_once(
                f"`sampling_rate` was not given to {type(self).__name__}: the audio is assumed to have "
                f"{self.sampling_rate} Hz; pass `sampling_rate` so that this can be checked."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The audio has {sampling_rate} Hz and the model needs {self.sampling_rate} Hz: "
                f"resample it first, e.g. `soxr.resample({name}, {sampling_rate}, {self.sampling_rate})`."
            )
        if isinstance(given, (list, tuple)) and len(given) > 0 and np.ndim(given[0]) > 0:
            waveforms = [_waveform(each, f"`{name}[{index}]`") for index, each in enumerate(given)]
        else:
            waveforms = [_waveform(given, f"`{name}`")]
        rows: dict[str, list[Any]] = {"input_values": waveforms}
        if self.level_lufs is not None:
            pairs = [leveled(each, self.sampling_rate, self.level_lufs) for each in waveforms]
            rows["input_values"] = [audio for audio, _ in pairs]
            rows["audio_scales"] = [np.array([scale], dtype=np.float32) for _, scale in pairs]
        return self._padded(
            rows,
            return_tensors,
            padding=True if padding is None else padding,
            truncation=truncation,
            max_length=max_length,
        )

    def pad(
        self, processed_features: Any, *args: Any, return_tensors: str | TensorType | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Pad outputs of this feature extractor to a batch, e.g. as a data collator.

        Args:
            processed_features: An output of this feature extractor, or a list of outputs or of their rows, as arrays,
                tensors or lists; their masks are kept.
            args: `padding`, `max_length`, `truncation`, `pad_to_multiple_of` and `return_attention_mask`, as in
                [`SequenceFeatureExtractor.pad`].
            return_tensors (*optional*): `"pt"` or `"np"`; None: tensors where the features are tensors, else arrays.
            kwargs: See `args`.

        Returns:
            [`BatchFeature`] with `input_values` (B, 1, T) and `padding_mask` (B, 1, T), `audio_scales` (B, 1) where
            the features have them, and further entries unchanged.
            Waveforms without the axis of channels, (T,), are padded to (B, T), with an `attention_mask`.

        Raises:
            ValueError: There are no features, a mask is not as long as its waveform, or only some have `audio_scales`.
        """
        is_list = isinstance(processed_features, (list, tuple))
        examples = list(processed_features) if is_list else [processed_features]
        if not examples:
            raise ValueError("There are no features to pad; give at least one.")
        if not all("input_values" in example for example in examples) or not _has_channels(examples[0], is_list):
            return super().pad(processed_features, *args, **{**kwargs, "return_tensors": return_tensors})
        if return_tensors is None:
            first = examples[0]["input_values"]
            while isinstance(first, (list, tuple)) and len(first):
                first = first[0]
            return_tensors = "pt" if isinstance(first, Tensor) else "np"
        rows: dict[str, list[Any]] = {}
        for example in examples:
            clips = [_flat(clip) for clip in _rows(example["input_values"], is_list)]
            masks = [np.ones(len(clip), dtype=np.int32) for clip in clips]
            if "padding_mask" in example:
                masks = [_flat(mask).astype(np.int32) for mask in _rows(example["padding_mask"], is_list)]
            if [len(clip) for clip in clips] != [len(mask) for mask in masks]:
                raise ValueError("A `padding_mask` is not as long as its `input_values`; give what belongs together.")
            others = {name: value for name, value in example.items() if name not in self.model_input_names}
            rows.setdefault("input_values", []).extend(clips)
            rows.setdefault("attention_mask", []).extend(masks)
            if (scales := others.pop("audio_scales", None)) is not None:
                rows.setdefault("audio_scales", []).extend(_flat(scales).astype(np.float32)[:, np.newaxis])
            for name, value in others.items():
                rows.setdefault(name, []).extend([value] * len(clips) if is_list else value)
        if len(rows.get("audio_scales", rows["input_values"])) != len(rows["input_values"]):
            raise ValueError("Only some of the features have `audio_scales`; give the outputs of one extractor.")
        return self._padded(rows, return_tensors, *args, **kwargs)

    def _padded(
        self, rows: dict[str, list[Any]], return_tensors: str | TensorType | None, *args: Any, **kwargs: Any
    ) -> BatchFeature:
        """Waveforms (T,), and their masks if there are any, padded → (1, T) each, or (B, 1, T) as tensors."""
        _check_padding(rows["input_values"], kwargs)
        waves: dict[str, Any] = {name: rows.pop(name) for name in ("input_values", "attention_mask") if name in rows}
        batch = super().pad(BatchFeature(waves), *args, **{**kwargs, "return_attention_mask": True})
        values, masks = batch.pop("input_values"), batch.pop("attention_mask")
        return BatchFeature(
            {
                "input_values": [audio[np.newaxis] for audio in values],
                "padding_mask": [mask[np.newaxis] for mask in masks],
                **rows,
            },
            tensor_type=return_tensors,
        )


def stored_level(folder: str | os.PathLike[str]) -> float | None:
    """Loudness in LUFS to which a checkpoint directory's feature extractor levels clips; None: it keeps their level.

    Raises:
        OSError, ValueError, TypeError: its `preprocessor_config.json` cannot be read.
    """
    if not (Path(folder) / "preprocessor_config.json").is_file():
        return None
    return CodecFeatureExtractor.from_pretrained(folder, local_files_only=True).level_lufs


def _check_padding(waves: Sequence[Any], padding: dict[str, Any]) -> None:
    """Refuse a batch that is large and mostly padding.

    Raises:
        ValueError: it has more samples than `limits.BATCH_SAMPLES`, and more than three quarters are padding.
    """
    longest = max(map(len, waves), default=0)
    if padding.get("max_length") is not None and padding.get("padding") in ("max_length", PaddingStrategy.MAX_LENGTH):
        longest = padding["max_length"]
    if padding.get("padding") in (False, "do_not_pad", PaddingStrategy.DO_NOT_PAD):
        return
    total = len(waves) * longest
    if total > 4 * sum(map(len, waves)):
        BATCH_SAMPLES.check(total, f"{len(waves)} waveforms padded to {longest:,} samples make {total:,}")


def _waveform(audio: Any, name: str) -> np.ndarray:
    """Validate one waveform and return it as (T,) float32; errors call it `name`."""
    samples = as_clip(audio, name).detach().to("cpu", torch.float32)
    if not len(samples):
        raise ValueError(f"{name} is empty; give at least one sample.")
    return samples.numpy()


def _flat(values: Any) -> np.ndarray:
    """Waveform or mask (T,) or (1, T) → (T,), or scales (B, 1) → (B,)."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values).reshape(-1)


def _axes(values: Any) -> int:
    """Number of axes of an array, tensor, or list of arrays of any lengths."""
    return 1 + (_axes(values[0]) if len(values) else 0) if isinstance(values, (list, tuple)) else np.ndim(values)


def _has_channels(example: Any, is_list: bool) -> bool:
    """True if the waveforms of an example have an axis of channels, as those of this feature extractor."""
    return _axes(example["input_values"]) >= (2 if is_list else 3)


def _rows(values: Any, is_list: bool) -> list[Any]:
    """The clips (1, T) of an example: a batch (B, 1, T), or in a list also one clip (1, T)."""
    return [values] if is_list and _axes(values) == 2 else list(values)


__all__ = ["MAX_ABS_SAMPLE", "CodecFeatureExtractor"]
