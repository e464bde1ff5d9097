"""Codec with the interface of Codec-SUPERB's `BaseCodec` (https://github.com/voidful/Codec-SUPERB).

A file of its folder `SoundCodec/codec/` makes a checkpoint one of its codecs:

    from l3ac_tokenizer.integrations.codec_superb import L3ACCodec

    class Codec(L3ACCodec):
        source = "l3ac-1k"

Nothing of Codec-SUPERB is imported: its scripts only call the methods and read the attributes.

Axes: T samples, K codebooks, N ids of a codebook.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from ..audio import AudioError, open_clip, write_audio
from ..feature_extraction import stored_level
from ..hub import checkpoint_folder
from ..inference import EncodedClip, decode_clips, encode_audio
from ..modeling import CodecModel
from ..names import path_component

CHUNK_SECONDS = 30.0
"""Seconds of audio in the encoder at once; longer clips are encoded in chunks, to the same ids."""


@dataclass
class ExtractedUnit:
    """Ids of a clip.

    Attributes:
        unit: ids (K, N), int64.
        stuff_for_synth: input of `L3ACCodec.decode_unit`.
    """

    unit: Tensor
    stuff_for_synth: EncodedClip


@dataclass
class BatchExtractedUnit:
    """Ids of several clips.

    Attributes:
        units: ids (K, N) of each clip, int64.
        stuff_for_synth: of each clip.
        batch_size: number of clips.
    """

    units: list[Tensor]
    stuff_for_synth: list[EncodedClip]
    batch_size: int


class L3ACCodec:
    """Codec of a checkpoint, of any family, as Codec-SUPERB calls it; a subclass sets `source`.

    The audio of a clip, `data["audio"]`, has any of the forms of `audio.open_clip`: a dictionary of `array` (T,) and
    `sampling_rate`, or of `bytes` or `path`, or a path. It may have any sampling rate and, in a file, several channels,
    which are downmixed. Clips are leveled if the checkpoint's feature extractor does so.

    Attributes:
        source: bundled name, checkpoint directory, or hub name.
        setting: name of the codec in Codec-SUPERB, which sets it.
        supports_decode: True.
        device: `"cuda"` where there is one, else `"cpu"`.
        sampling_rate: of ids and decoded audio, in Hz.
        model: the model, in evaluation mode.
    """

    source = "l3ac-1k"
    supports_decode = True

    device: str
    sampling_rate: int
    model: CodecModel

    def __init__(self) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.setting: str | None = None
        self.config()

    def config(self) -> None:
        """Load `source`.

        Raises:
            ValueError, OSError: it cannot be loaded, see `CodecModel.from_pretrained` and `hub.checkpoint_folder`.
        """
        folder = checkpoint_folder(self.source)
        self.model = CodecModel.from_pretrained(folder).eval().to(self.device)
        self.sampling_rate = self.model.config.sampling_rate
        self._level = stored_level(folder)

    def is_1d(self) -> bool:
        """Whether the ids are those of a single codebook."""
        return self.model.config.num_quantizers == 1

    def extract_unit(self, data: dict[str, Any]) -> ExtractedUnit:
        """Encode a clip.

        Args:
            data: `audio` as above, and `id`, by which messages name it.

        Raises:
            AudioError: the clip cannot be encoded.
        """
        batch = self.batch_extract_unit([data])
        return ExtractedUnit(batch.units[0], batch.stuff_for_synth[0])

    def decode_unit(self, stuff_for_synth: EncodedClip) -> np.ndarray:
        """Decode the ids of a clip to audio (T,) float32 at `sampling_rate`, as long as the clip."""
        return self._decoded([stuff_for_synth])[0]

    def synth(self, data: dict[str, Any], local_save: bool = True) -> dict[str, Any]:
        """Encode and decode a clip.

        Args:
            data: see `extract_unit`; changed in place.
            local_save: write the audio to `reconstructed_SETTING/ID.wav` in the working directory.

        Returns:
            `data` with `unit`, the ids (K, N), and decoded `audio` at the clip's own sampling rate and of its length: a
            dictionary of `sampling_rate` and of `path` or, without `local_save`, `array` (T,) float32.

        Raises:
            AudioError: the clip cannot be encoded.
            OSError: the file cannot be written.
        """
        return self.batch_synth([data], local_save)[0]

    def batch_extract_unit(self, data_list: Sequence[dict[str, Any]]) -> BatchExtractedUnit:
        """Encode clips, those of similar length together; ids are the same as of each alone, see `extract_unit`."""
        openers = [functools.partial(open_clip, *_audio(data), self.sampling_rate) for data in data_list]
        clips: dict[int, EncodedClip] = {}
        for position, clip in encode_audio(self.model, openers, CHUNK_SECONDS, level_lufs=self._level):
            if clip.error is not None:
                raise AudioError(clip.error)
            clips[position] = clip
        encoded = [clips[position] for position in range(len(openers))]
        units = [self.model.quantizer.ids_to_codebooks(torch.from_numpy(clip.ids)[None])[0] for clip in encoded]
        return BatchExtractedUnit(units, encoded, len(encoded))

    def batch_decode_unit(self, batch_extracted_unit: BatchExtractedUnit) -> list[np.ndarray]:
        """Decode several clips, see `decode_unit`."""
        return self._decoded(batch_extracted_unit.stuff_for_synth)

    def batch_synth(self, data_list: Sequence[dict[str, Any]], local_save: bool = True) -> list[dict[str, Any]]:
        """Encode and decode several clips, see `synth`."""
        batch = self.batch_extract_unit(data_list)
        for data, unit, samples in zip(data_list, batch.units, self.batch_decode_unit(batch), strict=True):
            with open_clip(*_audio(data), self.sampling_rate) as reader:
                rate, seconds = reader.source_rate, reader.duration
            samples = soxr.resample(samples, self.sampling_rate, rate, "VHQ")
            if seconds is not None:  # resampling rounds the length twice
                count = round(seconds * rate)
                samples = np.pad(samples[:count], (0, max(0, count - len(samples))))
            data["audio"] = {"sampling_rate": rate, **self._saved(data, samples, rate, local_save)}
            data["unit"] = unit
        return list(data_list)

    def _decoded(self, clips: Sequence[EncodedClip]) -> list[np.ndarray]:
        return decode_clips(
            self.model,
            [clip.ids for clip in clips],
            [clip.num_samples for clip in clips],
            audio_scales=[clip.audio_scale for clip in clips],
        )

    def _saved(self, data: dict[str, Any], samples: np.ndarray, rate: int, local_save: bool) -> dict[str, Any]:
        if not local_save:
            return {"array": samples}
        folder = f"reconstructed_{path_component(self.setting or self.source)}"
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{path_component(str(data.get('id') or uuid.uuid4()))}.wav")
        write_audio(path, samples, rate)
        return {"path": path}


def _audio(data: dict[str, Any]) -> tuple[Any, str]:
    """The audio of a clip, and its name in messages."""
    return data.get("audio"), f"the clip {data['id']}" if data.get("id") else "the clip"
