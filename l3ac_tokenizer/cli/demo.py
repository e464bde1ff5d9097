"""`l3ac demo`: encode and decode one clip, and measure the result.

Writes to a folder: the .l3ac file, the original at the model's sampling rate, the reconstruction, and spectrograms of
both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..files import atomic_write
from ..hub import model_name
from .loading import level_of, load_model
from .options import OF_MODEL, add_compute, add_model
from .paths import make_folder_of
from .report import say, show_facts, show_json

if TYPE_CHECKING:
    import numpy as np

SENTENCE = Path(__file__).parents[1] / "assets" / "demo.flac"
"""Synthetic speech; the README beside it documents its origin."""

PICTURE_SECONDS = 20
"""Duration of the spectrograms; they show only the beginning of a longer clip."""

_Result = TypeVar("_Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `l3ac demo`."""
    parser.add_argument("audio", nargs="?", default=str(SENTENCE), help="audio file (default: a synthetic sentence)")
    parser.add_argument(
        "-o", "--output", default="demo", metavar="FOLDER", help="folder to write (default: %(default)s)"
    )
    add_model(parser)
    add_compute(parser)


def run(options: argparse.Namespace) -> int:
    """Encode and decode one clip, print the measurements, and write the files."""
    from ..audio import read_audio, write_audio
    from ..container import Header, read_l3ac, write_l3ac
    from ..inference import decode_clip, encode_clip
    from ..loudness import leveled

    model = load_model(options.model, options.device)
    config = model.config
    samples, note = read_audio(options.audio, config.sampling_rate)
    if note:
        say(f"{options.audio}: {note}.")
    leveled_samples, scale = leveled(samples, config.sampling_rate, level_of(options.model, OF_MODEL))
    header = Header(
        model_name(options.model),
        model.weights_digest(),
        config.frame_levels,
        config.sampling_rate,
        config.hop_length,
        len(samples),
        audio_scale=scale,
    )
    paths = {
        kind: os.path.join(options.output, name)
        for kind, name in (
            ("ids", "demo.l3ac"),
            ("original", "original.wav"),
            ("reconstruction", "reconstruction.wav"),
            ("picture", "spectrograms.png"),
        )
    }
    make_folder_of(paths["ids"])

    encode_clip(
        model, leveled_samples[: config.sampling_rate], options.chunk_seconds
    )  # warm-up: the first call is slower
    ids, encode_seconds = _timed(lambda: encode_clip(model, leveled_samples, options.chunk_seconds))
    size = write_l3ac(paths["ids"], header, ids)
    _, ids = read_l3ac(paths["ids"])
    decoded, decode_seconds = _timed(
        lambda: decode_clip(model, ids, header.num_samples, options.chunk_seconds, header.audio_scale)
    )
    write_audio(paths["original"], samples, config.sampling_rate)
    write_audio(paths["reconstruction"], decoded, config.sampling_rate)
    if not _draw(paths["picture"], samples, decoded, config.sampling_rate):
        del paths["picture"]

    facts: dict[str, Any] = {
        "audio": options.audio,
        "model": header.model_name,
        "seconds": header.duration,
        "num_ids": len(ids),
        "ids_per_second": config.frame_rate,
        "bits_per_second": config.bits_per_second,
        "bytes": size,
        "compression": 2 * len(samples) / size,
        "stoi": _measured("stoi", samples, decoded, config.sampling_rate),
        "si_sdr": _measured("si_sdr", samples, decoded),
        "encode_speed": header.duration / encode_seconds,
        "decode_speed": header.duration / decode_seconds,
        "device": options.device,
        "files": paths,
    }
    if options.json:
        show_json(facts)
    else:
        show_facts(_texts(facts))
        seen = f"; see {paths['picture']}" if "picture" in paths else ""
        print(f"\nListen to {paths['original']} and {paths['reconstruction']}{seen}.")
    return 0


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """Return the result of `work` and its duration in seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _measured(metric: str, *arguments: Any) -> float | None:
    """Return a metric of the decoded clip, or print the reason on standard error and return None."""
    try:
        from .. import metrics

        return getattr(metrics, metric)(*arguments)
    except ModuleNotFoundError as error:
        say(f"{metric} needs the package {error.name}: pip install 'l3ac-tokenizer[eval]'.")
    except metrics.MetricError as error:
        say(str(error))
    return None


def _draw(path: str, original: np.ndarray, decoded: np.ndarray, sampling_rate: int) -> bool:
    """Write spectrograms of both clips as a PNG, on the scale of the original; False if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        say(f"the spectrograms need the package {error.name}: pip install 'l3ac-tokenizer[eval]'.")
        return False

    from ..plots import as_png, draw_spectrogram, spectrogram_db

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    clips = [clip[: PICTURE_SECONDS * sampling_rate] for clip in (original, decoded)]
    top = spectrogram_db(clips[0], sampling_rate).max()
    for axis, clip, title in zip(axes, clips, ("original", "reconstruction"), strict=True):
        image = draw_spectrogram(axis, clip, sampling_rate, top)
        axis.set(title=title, ylabel="kHz")
    axes[1].set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label="dB per Hz")
    with atomic_write(path) as file:
        file.write(as_png(figure))
    return True


def _speed(ratio: float) -> str:
    """Speed as a multiple of real time."""
    return f"{ratio:.1f}× faster than real time" if ratio >= 1 else f"{1 / ratio:.1f}× slower than real time"


def _texts(facts: dict[str, Any]) -> dict[str, str]:
    stoi, si_sdr = facts["stoi"], facts["si_sdr"]
    return {
        "audio": facts["audio"],
        "model": facts["model"],
        "duration": f"{facts['seconds']:.2f} s",
        "ids": f"{facts['num_ids']} ({facts['ids_per_second']:.2f} per second)",
        "bit rate": f"{facts['bits_per_second']:.0f} bits/s",
        "compressed size": f"{facts['bytes']} bytes, 1/{facts['compression']:.0f} of 16-bit PCM",
        "STOI": "-" if stoi is None else f"{stoi:.3f}",
        "SI-SDR": "-" if si_sdr is None else f"{si_sdr:.2f} dB",
        "encoding": f"{_speed(facts['encode_speed'])} on {facts['device']}",
        "decoding": f"{_speed(facts['decode_speed'])} on {facts['device']}",
    }
