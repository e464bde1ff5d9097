"""The codecs under test, each behind the same two calls; the peers have random weights, which cost the same time.

Axes: B batch, T samples at the codec's own sampling rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PRESET = "l3ac-1k"
CHUNK_SECONDS = 30.0
"""Length of the pieces of the row in chunks; the command line's default."""


@dataclass(frozen=True)
class Codec:
    """What is timed.

    Attributes:
        sampling_rate: Of the audio that goes in, in Hz.
        encode: What `inputs` gives → codes of any type.
        decode: Codes → audio of any type.
        make_features: Seconds and batch → what `encode` takes beside the audio (B, 1, T).
        in_torch: False where another library runs it.
    """

    sampling_rate: int
    encode: Callable[..., Any]
    decode: Callable[[Any], Any]
    make_features: Callable[[float, int], tuple[Tensor, ...]] = lambda seconds, batch: ()
    in_torch: bool = True

    def inputs(self, seconds: float, batch: int) -> tuple[Tensor, ...]:
        """Noise (B, 1, T) of so many seconds, and what else `encode` takes; the same numbers every time."""
        generator = torch.Generator().manual_seed(0)
        audio = 0.1 * torch.randn(batch, 1, round(seconds * self.sampling_rate), generator=generator)
        return audio, *self.make_features(seconds, batch)

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Encoding of `inputs`, and decoding of what it gives."""
        inputs = self.inputs(seconds, batch)
        return lambda: self.encode(*inputs), self.decode


def ours(scratch: Path) -> Codec:
    """This package with the bundled weights."""
    from l3ac_tokenizer import L3ACModel

    return torch_codec(L3ACModel.from_pretrained(PRESET))


def torch_codec(model: Any) -> Codec:
    """A model of this package."""
    model.eval()
    return Codec(
        model.config.sampling_rate,
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(codes).audio_values,
    )


def taae(scratch: Path) -> Codec:
    """The bundled TAAE."""
    from l3ac_tokenizer import TAAEModel

    return torch_codec(TAAEModel.from_pretrained("taae-small"))


def ours_in_chunks(scratch: Path) -> Codec:
    """The same in pieces, for bounded memory, with stored statistics: those of the whole clip take five passes."""
    from l3ac_tokenizer import L3ACModel

    model = L3ACModel.from_pretrained(PRESET).eval()
    return Codec(
        model.config.sampling_rate,
        lambda audio: model.encode(audio, chunk_seconds=CHUNK_SECONDS).audio_codes,
        lambda codes: model.decode(codes, time_norm="frozen", chunk_seconds=CHUNK_SECONDS).audio_values,
    )


def ours_in_onnx(scratch: Path) -> Codec:
    """The bundled weights as ONNX graphs, run by onnxruntime."""
    return onnx_codec(exported(scratch))


def exported(scratch: Path) -> Path:
    """Folder with the ONNX graphs of the bundled weights; they are made where they are missing."""
    from l3ac_tokenizer import L3ACModel
    from l3ac_tokenizer.onnx import export_onnx

    folder = scratch / "onnx"
    if not folder.exists():
        export_onnx(L3ACModel.from_pretrained(PRESET).eval(), folder)
    return folder


def onnx_codec(folder: Path) -> Codec:
    """The two graphs of a folder, on as many threads as torch."""
    import onnxruntime

    from l3ac_tokenizer import L3ACConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "decoder.onnx")
    )
    return Codec(
        L3ACConfig.from_preset(PRESET).sampling_rate,
        lambda audio: torch.from_numpy(encoder.run(None, {"input_values": audio.numpy()})[0]),
        lambda codes: torch.from_numpy(decoder.run(None, {"audio_codes": codes.numpy()})[0]),
        in_torch=False,
    )


def published(scratch: Path) -> Codec:
    """The paper's own package `l3ac` 1.0, configuration `1kbps`."""
    import l3ac

    codec = l3ac.L3AC(l3ac.L3ACConfig(config_file=l3ac.CONFIG_DIR / "1kbps.toml"))
    codec.network.eval()
    return Codec(
        codec.config.sample_rate,
        lambda audio: codec.encode_audio(audio[:, 0])[1]["indices"],
        lambda indices: codec.decode_audio(indices=indices),
    )


def encodec(scratch: Path) -> Codec:
    """EnCodec 24 kHz at 1.5 kb/s, the default of its configuration."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval()
    return Codec(
        model.config.sampling_rate,
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(codes, [None]).audio_values,
    )


def mimi(scratch: Path) -> Codec:
    """Mimi with 8 of its 32 codebooks (1.1 kb/s)."""
    from transformers import MimiConfig, MimiModel

    model = MimiModel(MimiConfig()).eval()
    return Codec(
        model.config.sampling_rate,
        lambda audio: model.encode(audio, num_quantizers=8).audio_codes,
        lambda codes: model.decode(codes).audio_values,
    )


def dac(scratch: Path) -> Codec:
    """DAC 16 kHz with the 9 codebooks of its default configuration."""
    from transformers import DacConfig, DacModel

    model = DacModel(DacConfig()).eval()
    return Codec(
        model.config.sampling_rate,
        lambda audio: model.encode(audio).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values,
    )


def xcodec2(scratch: Path) -> Codec:
    """X-Codec2, its mel features made beforehand."""
    from transformers import Xcodec2Config, Xcodec2Model

    model = Xcodec2Model(Xcodec2Config()).eval()
    return _with_mel_features(model, model.config.sampling_rate, model.config.hop_length)


def neucodec(scratch: Path) -> Codec:
    """NeuCodec (16 kHz in, 24 kHz out), its mel features made beforehand."""
    from transformers import NeuCodecConfig, NeuCodecModel

    model = NeuCodecModel(NeuCodecConfig()).eval()
    return _with_mel_features(model, model.config.input_sampling_rate, model.config.encoder_hop_length)


def _with_mel_features(model: Any, sampling_rate: int, hop_length: int) -> Codec:
    width = model.config.semantic_model_config.feature_projection_input_dim

    def make_features(seconds: float, batch: int) -> tuple[Tensor, ...]:
        frames = round(seconds * sampling_rate) // hop_length
        return (torch.randn(batch, frames, width, generator=torch.Generator().manual_seed(0)),)

    return Codec(
        sampling_rate,
        lambda audio, features: model.encode(audio, input_features=features).audio_codes,
        lambda codes: model.decode(audio_codes=codes).audio_values,
        make_features,
    )


CODECS: dict[str, tuple[str, Callable[[Path], Codec]]] = {
    "ours": (PRESET, ours),
    "taae": ("taae-small", taae),
    "ours-chunks": (f"{PRESET}, chunks of {CHUNK_SECONDS:g} s, stored norm", ours_in_chunks),
    "ours-onnx": (f"{PRESET}, onnxruntime", ours_in_onnx),
    "published": ("L3AC 1 kb/s, published code", published),
    "encodec": ("EnCodec 24 kHz", encodec),
    "mimi": ("Mimi", mimi),
    "dac": ("DAC 16 kHz", dac),
    "xcodec2": ("X-Codec2", xcodec2),
    "neucodec": ("NeuCodec", neucodec),
}
"""Name on the command line → title in the table, and how to build it, given a folder for files."""


BUILD = "benchmarks.codecs:build"
"""What `l3ac_tokenizer.evaluation.memory` builds codecs with, in a process of its own."""


def build(name: str, scratch: str | Path) -> Codec:
    """A codec by its name, its random weights the same every time."""
    torch.manual_seed(0)
    return CODECS[name][1](Path(scratch))
