"""Models of the page: bundled and downloaded ones, each loaded on first use and kept."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import numpy as np

from ..feature_extraction import CodecFeatureExtractor
from ..hub import bundled_presets, checkpoint_folder
from ..inference import decode_clips, encode_clips
from ..modeling import CodecModel
from ..published import PUBLISHED, SUFFIX, is_downloaded

_LOADING = threading.Lock()


@dataclass(frozen=True)
class ServedModel:
    """A model with what the page needs of it.

    Attributes:
        name: bundled name, or that of downloaded weights.
        codec: the codec, in evaluation mode.
        digests: `CodecModel.id_digests()`, which take time to compute.
        level_lufs: loudness to which its feature extractor levels clips; None: they keep their level.
    """

    name: str
    codec: CodecModel
    digests: tuple[str, ...]
    level_lufs: float | None


def served_names() -> list[str]:
    """Names of all models that are bundled or downloaded."""
    return [*bundled_presets(), *(f"{preset}{SUFFIX}" for preset in PUBLISHED if is_downloaded(preset))]


def served_model(name: str) -> ServedModel:
    """The model of a name.

    Raises:
        ValueError: It is not one of `served_names`, or cannot be loaded.
    """
    if name not in served_names():
        raise ValueError(f"the model {name!r} is not served here: choose {' or '.join(served_names())}.")
    with _LOADING:
        return _loaded(name)


@functools.cache
def _loaded(name: str) -> ServedModel:
    folder = checkpoint_folder(name)
    codec = CodecModel.from_pretrained(folder, local_files_only=True).eval()
    extractor = CodecFeatureExtractor.from_pretrained(folder, local_files_only=True)
    second = np.zeros(codec.config.sampling_rate, dtype=np.float32)
    decode_clips(codec, encode_clips(codec, [second]))  # the first call is slower than those that are timed
    return ServedModel(name, codec, codec.id_digests(), extractor.level_lufs)
