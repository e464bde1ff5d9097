"""Both model families in one table: rates, parameters, multiply–adds per second of audio, and real-time factors.

    python -m benchmarks.families [--rounds N] [PRESET ...]

Multiply–adds are those of matrix products, convolutions and attention, without Fourier transforms. Real-time factors
are medians of processor time on one thread. Both are for ten seconds of audio with random weights, on which neither
depends. Presets that do not fit into memory are not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from l3ac_tokenizer import CodecModel, preset_config
from l3ac_tokenizer.evaluation.memory import MEMORY_SHARE, available_bytes
from l3ac_tokenizer.evaluation.timing import timed
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.presets import TAAE_PRESETS

DEFAULT_PRESETS = ("l3ac-0k75", "l3ac-1k", "l3ac-1k5", "l3ac-3k", "l3ac-1k-light", *TAAE_PRESETS)
SECONDS = 10
BYTES_A_PARAMETER = 6
"""Memory in bytes per parameter: weights in float32, and room for activations."""
COLUMNS = (
    "preset",
    "bit/s",
    "ids/s",
    "codebook size",
    "M parameters",
    "G to encode",
    "G to decode",
    "RTF to encode",
    "RTF to decode",
)


def billions_a_second(half: nn.Module, x: torch.Tensor) -> float:
    """Multiply–adds (10⁹) of an encoder or decoder per second of audio.

    Gradients stay enabled: without them, products use oneDNN calls that the counter does not know.
    """
    with FlopCounterMode(display=False) as counter:
        half(x, WholeSpan())
    return counter.get_total_flops() / 2 / SECONDS / 1e9


@torch.inference_mode()
def real_time_factors(model: CodecModel, rounds: int) -> tuple[float, float]:
    """Processor seconds of encoding and of decoding per second of audio, after a warm-up pass."""
    wave = 0.1 * torch.randn(1, 1, SECONDS * model.config.sampling_rate)
    codes = model.encode(wave).audio_codes
    model.decode(codes)
    encoding, decoding = [], []
    for _ in range(rounds):
        encoding.append(timed(lambda: model.encode(wave))[1].cpu / SECONDS)
        decoding.append(timed(lambda: model.decode(codes))[1].cpu / SECONDS)
    return median(encoding), median(decoding)


def preset_row(preset: str, rounds: int) -> list[str]:
    """Cells of a preset in the table."""
    config = preset_config(preset)
    of_taae = preset in TAAE_PRESETS
    with torch.device("meta" if of_taae else "cpu"):  # the largest has 4 GB of weights, whose values do not matter
        model = AutoModel.from_config(config).eval()
        frames = round(SECONDS * config.frame_rate)
        width = len(config.levels) if of_taae else config.feature_dim
        encoding = billions_a_second(model.encoder, torch.zeros(1, frames * config.hop_length, 1))
        decoding = billions_a_second(model.decoder, torch.zeros(1, frames, width))
    times = ["–", "–"]
    if BYTES_A_PARAMETER * model.num_parameters() < MEMORY_SHARE * available_bytes():
        times = [f"{factor:.3f}" for factor in real_time_factors(AutoModel.from_config(config).eval(), rounds)]
    return [
        preset,
        f"{config.bits_per_second:.0f}",
        f"{config.frame_rate:.1f}",
        f"{config.codebook_size:,}",
        f"{model.num_parameters() / 1e6:.1f}",
        f"{encoding:.2f}",
        f"{decoding:.2f}",
        *times,
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET", help="presets (default: those of L3AC, l3ac-1k-light and all of TAAE)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of timed passes (default: 3)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for preset in options.presets or DEFAULT_PRESETS:
        print("| " + " | ".join(preset_row(preset, options.rounds)) + " |", flush=True)


if __name__ == "__main__":
    main()
