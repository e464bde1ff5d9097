"""Codecs of the benchmarks; those of transformers have random weights, which take the same time as published ones.

Axes: B batch, T samples at the codec's own sampling rate, K codebooks, N ids of a codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l3ac_tokenizer.evaluation.codecs.base import Codec, CompressedClip
from l3ac_tokenizer.evaluation.codecs.checkpoint import CheckpointCodec
from l3ac_tokenizer.evaluation.codecs.transformers_codecs import TransformersCodec

PRESET = "l3ac-1k"
CHUNK_SECONDS = 30.0
"""Length of the chunks of `ours-chunks`; the command line's default."""


class FunctionCodec(Codec):
    """A codec given by two functions on tensors.

    Args:
        title: name in tables.
        sampling_rate: sampling rate of input and output in Hz.
        encode_batch: audio (B, 1, T) → ids (B, K, N).
        decode_batch: ids (B, K, N) → audio (B, 1, T).
        parameters: number of parameters of the torch model; None if another library runs it.
    """

    def __init__(
        self,
        title: str,
        sampling_rate: int,
        encode_batch: Callable[[Tensor], Any],
        decode_batch: Callable[[Any], Any],
        parameters: int | None = None,
    ) -> None:
        self.name = self.title = title
        self.sampling_rate = self.output_rate = sampling_rate
        self.encode_batch, self.decode_batch = encode_batch, decode_batch
        self.parameters = parameters

    def encode(self, audio: np.ndarray) -> CompressedClip:
        """Ids (K, N)."""
        ids = self.encode_batch(torch.from_numpy(audio)[None, None])
        return CompressedClip(ids, ids=ids[0].numpy())

    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """Audio (T,) of all frames."""
        return self.decode_batch(encoded.payload)[0, 0].float().numpy()

    def passes(self, seconds: float, batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Passes of the whole batch in one tensor."""
        inputs = self.noise(seconds, batch)[:, None]
        return lambda: self.encode_batch(inputs), self.decode_batch


def ours(scratch: Path) -> Codec:
    """This package with the bundled weights."""
    from l3ac_tokenizer import L3ACModel

    return CheckpointCodec(L3ACModel.from_pretrained(PRESET).eval(), PRESET)


def light(scratch: Path) -> Codec:
    """The light network with the bundled weights."""
    from l3ac_tokenizer import L3ACModel

    return CheckpointCodec(L3ACModel.from_pretrained("l3ac-1k-light").eval(), "l3ac-1k-light")


def light_in_onnx(scratch: Path) -> Codec:
    """The light network as ONNX graphs, run by onnxruntime."""
    return onnx_codec(exported(scratch, "l3ac-1k-light"))


def taae(scratch: Path) -> Codec:
    """The small TAAE, with random weights."""
    from l3ac_tokenizer import TAAEConfig, TAAEModel

    return CheckpointCodec(TAAEModel(TAAEConfig.from_preset("taae-small")).eval(), "taae-small")


def ours_in_chunks(scratch: Path) -> Codec:
    """The bundled weights in chunks, for bounded memory, with stored statistics: those of the clip take five passes."""
    from l3ac_tokenizer import L3ACModel

    model = L3ACModel.from_pretrained(PRESET).eval()
    return CheckpointCodec(model, f"{PRESET} in chunks", "frozen", CHUNK_SECONDS)


def ours_in_onnx(scratch: Path) -> Codec:
    """The bundled weights as ONNX graphs, run by onnxruntime."""
    return onnx_codec(exported(scratch))


def exported(scratch: Path, name: str = PRESET) -> Path:
    """Folder with the ONNX graphs of bundled weights, which are exported if they are missing."""
    from l3ac_tokenizer import L3ACModel
    from l3ac_tokenizer.onnx import export_onnx

    folder = scratch / f"onnx-{name}"
    if not folder.exists():
        export_onnx(L3ACModel.from_pretrained(name).eval(), folder)
    return folder


def onnx_codec(folder: Path) -> Codec:
    """The two graphs of a folder, on as many threads as torch uses."""
    import onnxruntime

    from l3ac_tokenizer import L3ACConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "decoder.onnx")
    )
    return FunctionCodec(
        "onnxruntime",
        L3ACConfig.from_preset(PRESET).sampling_rate,
        lambda audio: torch.from_numpy(encoder.run(None, {"input_values": audio.numpy()})[0]),
        lambda ids: torch.from_numpy(decoder.run(None, {"audio_codes": ids.numpy()})[0]),
    )


def published(scratch: Path) -> Codec:
    """The authors' package `l3ac` 1.0 with its configuration `1kbps`."""
    import l3ac

    codec = l3ac.L3AC(l3ac.L3ACConfig(config_file=l3ac.CONFIG_DIR / "1kbps.toml"))
    codec.network.eval()
    return FunctionCodec(
        "published code",
        codec.config.sample_rate,
        lambda audio: codec.encode_audio(audio[:, 0])[1]["indices"],
        lambda indices: codec.decode_audio(indices=indices),
        sum(parameter.numel() for parameter in codec.network.parameters()),
    )


def encodec(scratch: Path) -> Codec:
    """EnCodec 24 kHz at 1.5 kb/s, the default of its configuration."""
    from transformers import EncodecConfig, EncodecFeatureExtractor, EncodecModel

    return TransformersCodec(
        EncodecModel(EncodecConfig()).eval(), EncodecFeatureExtractor(sampling_rate=24_000), "EnCodec"
    )


def mimi(scratch: Path) -> Codec:
    """Mimi with 8 of its 32 codebooks (1.1 kb/s)."""
    from transformers import EncodecFeatureExtractor, MimiConfig, MimiModel

    return TransformersCodec(MimiModel(MimiConfig()).eval(), EncodecFeatureExtractor(sampling_rate=24_000), "Mimi", "8")


def dac(scratch: Path) -> Codec:
    """DAC 16 kHz with the 9 codebooks of its default configuration."""
    from transformers import DacConfig, DacFeatureExtractor, DacModel

    model = DacModel(DacConfig()).eval()
    extractor = DacFeatureExtractor(sampling_rate=model.config.sampling_rate, hop_length=model.config.hop_length)
    return TransformersCodec(model, extractor, "DAC")


def xcodec2(scratch: Path) -> Codec:
    """X-Codec2; its mel features are extracted beforehand."""
    from transformers import Xcodec2Config, Xcodec2FeatureExtractor, Xcodec2Model

    return TransformersCodec(Xcodec2Model(Xcodec2Config()).eval(), Xcodec2FeatureExtractor(), "X-Codec2")


def neucodec(scratch: Path) -> Codec:
    """NeuCodec (16 kHz in, 24 kHz out); its mel features are extracted beforehand."""
    from transformers import NeuCodecConfig, NeuCodecFeatureExtractor, NeuCodecModel

    return TransformersCodec(NeuCodecModel(NeuCodecConfig()).eval(), NeuCodecFeatureExtractor(), "NeuCodec")


BENCHMARK_CODECS: dict[str, tuple[str, Callable[[Path], Codec]]] = {
    "ours": (PRESET, ours),
    "light": ("l3ac-1k-light", light),
    "light-onnx": ("l3ac-1k-light, onnxruntime", light_in_onnx),
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
"""Name on the command line → title in the table, and function of a folder for files that builds the codec."""


BUILD = "benchmarks.codecs:build"
"""Builder of the codecs in the separate processes of `l3ac_tokenizer.evaluation.memory`."""


def build(name: str, scratch: str | Path) -> Codec:
    """Build a codec; random weights come from a fixed seed.

    Args:
        name: key of `BENCHMARK_CODECS`.
        scratch: folder for files, such as exported graphs.
    """
    torch.manual_seed(0)
    return BENCHMARK_CODECS[name][1](Path(scratch))
