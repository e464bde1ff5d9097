"""`l3ac info`: describe a .l3ac file, or a model.

Of a file: its metadata, size, and whether it is intact. Of a model: rates, size, latency, how streamed audio differs
from that of `decode`, and the digest of its weights.
"""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING, Any

from .loading import level_of, load_model
from .options import MODEL_HELP, OF_MODEL, UsageError
from .report import show_facts, show_json

if TYPE_CHECKING:
    from ..configuration import CodecConfig
    from ..modeling import CodecModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac info`."""
    parser.add_argument("name", nargs="?", metavar="FILE_OR_MODEL", help=f"a .l3ac file, or a model: {MODEL_HELP}")
    parser.add_argument("--model", metavar="MODEL", help="the model, in place of FILE_OR_MODEL")


def run(options: argparse.Namespace) -> int:
    """Describe a file (status 1 if it is damaged) or a model."""
    from ..presets import PRESETS

    if (options.name is None) == (options.model is None):
        raise UsageError("give either FILE_OR_MODEL or --model.")
    name = options.name or options.model
    is_file = options.model is None and (name.endswith(".l3ac") or (os.path.isfile(name) and name not in PRESETS))
    facts = describe_file(name) if is_file else describe_model(name)
    if options.json:
        show_json(facts)
    else:
        show_facts({label: text for label, text in _texts(facts)})
    return 1 if facts.get("checksum", "ok") != "ok" else 0


def describe_file(path: str) -> dict[str, Any]:
    """Properties of a `.l3ac` file, which is verified completely.

    Raises:
        ContainerError: its header is damaged, or it is not a `.l3ac` file.
        OSError: it cannot be read.
    """
    from ..container import salvage_l3ac
    from ..presets import PRESETS

    header, ids, reason = salvage_l3ac(path)
    size = os.path.getsize(path)
    facts: dict[str, Any] = {
        "file": path,
        "model": header.model_name,
        "weights_digest": header.weights_digest,
        "seconds": header.duration,
        "num_samples": header.num_samples,
        "num_ids": header.num_ids,
        **_rates(header.sampling_rate, header.hop_length, header.levels),
        "coding": header.coding,
        "bytes": size,
        "file_bits_per_second": 8 * size / header.duration,
        "good_ids": len(ids),
        "checksum": "ok" if reason is None else reason,
    }
    if header.model_name in PRESETS:
        from ..families import preset_config

        facts |= _latency(preset_config(header.model_name))
    if header.audio_scale != 1:
        facts["audio_scale"] = header.audio_scale
    return facts


def describe_model(name: str) -> dict[str, Any]:
    """Properties of a model.

    Raises:
        ValueError, OSError: see `load_model`.
    """
    from ..hub import checkpoint_folder
    from ..hub_card import license_of

    model = load_model(name)
    config = model.config
    digest, *others = model.id_digests()
    lufs = level_of(name, OF_MODEL)
    return {
        **({} if lufs is None else {"level_lufs": lufs}),
        "model": name,
        "license": license_of(checkpoint_folder(name)),
        "weights_digest": digest,
        "ids_of": others,
        "parameters": model.num_parameters(),
        **_rates(config.sampling_rate, config.hop_length, config.frame_levels),
        "codebooks": config.num_quantizers,
        **_latency(config),
        **_stream(model),
    }


def _stream(model: CodecModel) -> dict[str, Any]:
    """Whether a stream gives the audio of `decode`, and the level of the difference on the sentence of `l3ac demo`."""
    from ..audio import read_audio
    from ..inference import decode_clips, encode_clips
    from .demo import SENTENCE

    norms = model.time_norms()
    if not norms:
        return {"stream": "equal to decode()"}
    if not all(norm.is_calibrated for norm in norms):
        return {"stream": f"not possible before its calibration: {model.how_to_calibrate}"}
    audio, _ = read_audio(SENTENCE, model.config.sampling_rate)
    ids = encode_clips(model, [audio])
    (whole,), (streamed,) = (decode_clips(model, ids, time_norm=mode) for mode in ("clip", "frozen"))
    share = ((streamed - whole) ** 2).mean() / (whole**2).mean()
    return {
        "stream": "not equal to decode(), which normalizes over the clip",
        "stream_difference_db": 10 * math.log10(max(share, 1e-12)),
    }


def _rates(sampling_rate: int, hop_length: int, levels: tuple[int, ...] | list[int]) -> dict[str, Any]:
    ids_per_second = sampling_rate / hop_length
    return {
        "sampling_rate": sampling_rate,
        "hop_length": hop_length,
        "levels": list(levels),
        "codebook_size": math.prod(levels),
        "ids_per_second": ids_per_second,
        "bits_per_second": ids_per_second * math.log2(math.prod(levels)),
    }


def _latency(config: CodecConfig) -> dict[str, float]:
    """Latency of streaming in milliseconds: an id waits for its own samples and its look-ahead."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):  # the look-ahead depends on the layers, not on the weights
        model = AutoModel.from_config(config)
    milliseconds = 1000 / config.sampling_rate
    return {
        "encoder_latency_ms": (config.hop_length + model.encoder_lookahead) * milliseconds,
        "decoder_latency_ms": model.decoder_lookahead * milliseconds,
    }


_LABELS = {
    "file": ("file", "{}"),
    "model": ("model", "{}"),
    "license": ("license", "{}"),
    "weights_digest": ("weights digest", "{}"),
    "ids_of": ("also reads ids of", "{}"),
    "parameters": ("parameters", "{:,}"),
    "seconds": ("length", "{:.3f} s"),
    "num_samples": ("samples", "{}"),
    "num_ids": ("ids", "{}"),
    "sampling_rate": ("sampling rate", "{} Hz"),
    "hop_length": ("hop", "{} samples per id"),
    "levels": ("levels", "{}"),
    "codebook_size": ("codebook size", "{}"),
    "ids_per_second": ("token rate", "{:.2f} ids/s"),
    "bits_per_second": ("bit rate", "{:.1f} bits/s"),
    "codebooks": ("codebooks", "{}"),
    "coding": ("coding", "{}"),
    "audio_scale": ("level", "decoded samples times {:.6g}"),
    "level_lufs": ("levels clips to", "{:g} LUFS"),
    "bytes": ("size", "{} bytes"),
    "file_bits_per_second": ("bit rate of the file", "{:.1f} bits/s"),
    "good_ids": ("good ids", "{}"),
    "encoder_latency_ms": ("encoder latency", "{:.1f} ms (streamed: hop and look-ahead)"),
    "decoder_latency_ms": ("decoder latency", "{:.1f} ms (streamed, frozen time norm)"),
    "stream": ("streamed audio", "{}"),
    "stream_difference_db": ("its difference", "{:.1f} dB relative to decode() (frozen time norm, on a sentence)"),
    "checksum": ("checksums", "{}"),
}


def _texts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and formatted values, in the order of `_LABELS`."""
    return [
        (label, form.format(facts[key])) for key, (label, form) in _LABELS.items() if facts.get(key) not in (None, [])
    ]
