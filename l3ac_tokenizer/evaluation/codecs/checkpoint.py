"""Checkpoints of this package, of either family, as codecs under test.

Axes: T samples, K codebooks, N ids of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...feature_extraction import stored_level
from ...loudness import leveled
from .base import Codec, CodecRates, CodecUnavailable, CompressedClip, codec_title

if TYPE_CHECKING:
    from ...modeling.span import TimeNormMode


class CheckpointCodec(Codec):
    """A model of this package; decoded audio has the clip's length.

    Args:
        model: a `CodecModel`, in evaluation mode.
        title: name in tables.
        time_norm: statistics of the decoder's time normalization, see `CodecModel.decode`.
        chunk_seconds: encode and decode in chunks of this length; None: the whole clip at once.
        level_lufs: loudness to which clips are leveled before encoding, see `CodecFeatureExtractor`; decoded clips have
            their original level.
    """

    def __init__(
        self,
        model: Any,
        title: str,
        time_norm: TimeNormMode = "clip",
        chunk_seconds: float | None = None,
        level_lufs: float | None = None,
    ) -> None:
        self.name = self.title = title
        self.model = model
        self.time_norm: TimeNormMode = time_norm
        self.chunk_seconds = chunk_seconds
        self.level_lufs = level_lufs
        config = model.config
        self.sampling_rate = self.output_rate = config.sampling_rate
        codebooks = config.num_quantizers
        self.rates = CodecRates(
            config.frame_rate, (config.codebook_size,) * codebooks, tuple(config.levels) if codebooks == 1 else ()
        )
        self.parameters = model.num_parameters()

    @classmethod
    def of(cls, model: Any, title: str, time_norm: TimeNormMode = "clip") -> CheckpointCodec:
        """The codec of a model as its checkpoint directory describes it, with the digest of its weights."""
        folder = getattr(model, "name_or_path", "")
        codec = cls(model, title, time_norm, level_lufs=stored_level(folder) if folder else None)
        codec.digest = model.weights_digest()
        return codec

    @classmethod
    def open(cls, directory: str, setting: str, device: str) -> CheckpointCodec:
        """The codec of a preset or checkpoint directory.

        Args:
            directory: preset name, directory or hub name.
            setting: `frozen` decodes with stored statistics, as streams do; "" with those of the clip.
            device: torch device.

        Raises:
            CodecUnavailable: the setting is unknown.
            OSError, ValueError: the checkpoint cannot be loaded, or lacks the statistics that `frozen` needs.
        """
        from ...hub import checkpoint_folder
        from ...modeling import CodecModel

        if setting not in ("", "frozen"):
            raise CodecUnavailable(f"the setting {setting!r} is unknown: write @frozen, or nothing.")
        model: Any = CodecModel.from_pretrained(checkpoint_folder(directory)).eval()
        model.to(device)
        title = codec_title(directory) + (f"@{setting}" if setting else "")
        codec = cls.of(model, title, "frozen" if setting else "clip")
        one_frame = torch.zeros(1, model.config.num_quantizers, 1, dtype=torch.int64, device=model.device)
        # Missing statistics show here, not in the middle of a run.
        codec.decode(CompressedClip((one_frame, model.config.hop_length, 1.0)))
        return codec

    @torch.inference_mode()
    def encode(self, audio: np.ndarray) -> CompressedClip:
        """Ids (K, N); the payload also holds the number of samples, and the scale that restores the level."""
        audio, scale = leveled(audio, self.sampling_rate, self.level_lufs)
        inputs = torch.from_numpy(audio)[None, None].to(self.model.device)
        ids = self.model.encode(inputs, chunk_seconds=self.chunk_seconds).audio_codes
        return CompressedClip((ids, audio.size, scale), ids=ids[0].cpu().numpy())

    @torch.inference_mode()
    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """Audio (T,) of the clip's length."""
        ids, num_samples, scale = encoded.payload
        output = self.model.decode(
            ids, time_norm=self.time_norm, num_samples=num_samples, chunk_seconds=self.chunk_seconds
        )
        return output.audio_values[0, 0].float().cpu().numpy() * np.float32(scale)

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Passes of the whole batch in one tensor."""
        inputs = self.noise(seconds, batch)[:, None].to(self.model.device)
        return (
            lambda: self.model.encode(inputs, chunk_seconds=self.chunk_seconds).audio_codes,
            lambda ids: self.model.decode(ids, time_norm=self.time_norm, chunk_seconds=self.chunk_seconds).audio_values,
        )
