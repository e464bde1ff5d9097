"""The public API, with types: a clip to ids and back, whole and as a stream.

    python examples/public_api.py l3ac-1k-light speech.flac decoded.wav

`mypy` checks this file, and with it the types that users of the package see.
"""

from __future__ import annotations

import sys

import numpy as np
import soundfile
import torch
from torch import Tensor

from l3ac_tokenizer import (
    CodecDecoderOutput,
    CodecEncoderOutput,
    CodecFeatureExtractor,
    CodecModel,
    StreamingDecoder,
    StreamingEncoder,
)


def encode(model: CodecModel, audio: np.ndarray) -> Tensor:
    """Audio (T,) → ids (1, K, N)."""
    rate: int = model.config.sampling_rate
    extractor = CodecFeatureExtractor(sampling_rate=rate)
    inputs = extractor(audio, sampling_rate=rate, return_tensors="pt")
    output: CodecEncoderOutput = model.encode(**inputs)
    assert output.audio_codes is not None
    return output.audio_codes


def decode(model: CodecModel, ids: Tensor, num_samples: int) -> np.ndarray:
    """Ids (1, K, N) → audio (T,)."""
    output: CodecDecoderOutput = model.decode(ids, num_samples=num_samples)
    assert output.audio_values is not None
    return output.audio_values[0, 0].numpy()


def stream(model: CodecModel, audio: np.ndarray, push: int) -> Tensor:
    """Audio (T,) in pushes → ids (N,), the same as those of the whole clip."""
    encoder = StreamingEncoder(model)
    ids: list[Tensor] = [encoder.push(samples[None])[0] for samples in torch.from_numpy(audio).split(push)]
    return torch.cat([*ids, *encoder.flush()])


@torch.inference_mode()
def main(name: str, source: str, target: str) -> None:
    """Encode a file, decode it again, and state what happened."""
    model: CodecModel = CodecModel.from_pretrained(name).eval()
    audio, rate = soundfile.read(source, dtype="float32")
    ids = encode(model, audio)
    streamed = stream(model, audio, push=rate // 25)
    decoded = decode(model, ids, num_samples=len(audio))
    soundfile.write(target, decoded, rate)
    latency: int = StreamingEncoder(model).latency + StreamingDecoder(model).latency
    print(f"{len(audio)} samples, {ids.shape[-1]} ids, {int((streamed != ids[0, 0]).sum())} differ in the stream")
    print(f"look-ahead of both streams: {1000 * latency / rate:.0f} ms; weights {model.weights_digest()[:8]}…")


if __name__ == "__main__":
    main(*sys.argv[1:])
