"""Arrays through the model: short clips in a batch, long ones piece by piece.

Both ways give the same ids, and the same audio but for rounding. A frame has one id here, that of all its digits, with residual
stages, too. Axes: T samples, N ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .feature_extraction import CodecFeatureExtractor
from .streaming import StreamingEncoder

if TYPE_CHECKING:
    from .modeling import CodecModel
    from .modeling.span import TimeNormMode


@torch.inference_mode()
def encode_clips(model: CodecModel, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The ids (N,) int64 of each clip (T,) float32."""
    rate = model.config.sampling_rate
    inputs = CodecFeatureExtractor(sampling_rate=rate)(list(clips), sampling_rate=rate, return_tensors="pt")
    output: Any = model.encode(**inputs.to(model.device))
    rows = zip(model.quantizer.streams_to_ids(output.audio_codes), output.audio_codes_mask[:, 0], strict=True)
    return [ids[mask].cpu().numpy() for ids, mask in rows]


@torch.inference_mode()
def encode_pieces(model: CodecModel, pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The ids (N,) int64 of a clip that comes in consecutive pieces (t,) float32."""
    encoder = StreamingEncoder(model)
    ids = array("q")  # one block that grows: a small one for each piece would pin the pages of freed large ones
    for samples in pieces:
        ids.frombytes(encoder.push(torch.from_numpy(samples)[None])[0].cpu().numpy().tobytes())
    ids.frombytes(encoder.flush()[0].cpu().numpy().tobytes())
    return np.asarray(ids)


@torch.inference_mode()
def decode_clips(
    model: CodecModel, all_ids: Sequence[np.ndarray], num_samples: Sequence[int], time_norm: TimeNormMode
) -> list[np.ndarray]:
    """The samples (T,) float32 of each clip from its ids (N,), cut to its number of samples."""
    rows = [torch.from_numpy(ids) for ids in all_ids]
    codes = model.quantizer.ids_to_streams(pad_sequence(rows, batch_first=True))
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)[:, None]
    output: Any = model.decode(
        codes.to(model.device),
        audio_codes_mask=mask.to(model.device),
        num_samples=torch.tensor(num_samples, device=model.device),
        time_norm=time_norm,
    )
    pairs = zip(output.audio_values, num_samples, strict=True)
    return [row[0, :length].float().cpu().numpy() for row, length in pairs]


@torch.inference_mode()
def decode_pieces(
    model: CodecModel, ids: np.ndarray, num_samples: int, time_norm: TimeNormMode, chunk_seconds: float
) -> Iterator[np.ndarray]:
    """The samples of one clip from its ids (N,), in consecutive pieces (t,) float32."""
    codes = model.quantizer.ids_to_streams(torch.from_numpy(ids)[None].to(model.device))
    for audio in model.iter_decode(codes, chunk_seconds, time_norm):
        samples = audio[0, 0, :num_samples].float().cpu().numpy()
        num_samples -= len(samples)
        yield samples
