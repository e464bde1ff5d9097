"""Both families in one table: rates, parameters, and multiply-adds for a second of audio.

    python -m benchmarks.families

Multiply-adds are those of matrix products, convolutions and attention, counted on ten seconds with random weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from l3ac_tokenizer import preset_config
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.presets import TAAE_PRESETS

PRESETS = ("l3ac-0k75", "l3ac-1k", "l3ac-1k5", "l3ac-3k", *TAAE_PRESETS)
SECONDS = 10


def billions_a_second(half: nn.Module, x: torch.Tensor) -> float:
    """Multiply-adds (10⁹) of an encoder or decoder for one of `SECONDS` seconds.

    With gradients on: without them, products go through calls of oneDNN that the counter does not know.
    """
    with FlopCounterMode(display=False) as counter:
        half(x, WholeSpan())
    return counter.get_total_flops() / 2 / SECONDS / 1e9


def row(preset: str) -> list[str]:
    """Cells of the table."""
    config = preset_config(preset)
    of_taae = preset in TAAE_PRESETS
    with torch.device("meta" if of_taae else "cpu"):  # the largest has weights of 4 GB, of which no number is needed
        model = AutoModel.from_config(config).eval()
        frames = round(SECONDS * config.frame_rate)
        width = len(config.levels) if of_taae else config.feature_dim
        encoding = billions_a_second(model.encoder, torch.zeros(1, frames * config.hop_length, 1))
        decoding = billions_a_second(model.decoder, torch.zeros(1, frames, width))
    return [
        preset,
        f"{config.bits_per_second:.0f}",
        f"{config.frame_rate:.1f}",
        f"{config.codebook_size:,}",
        f"{model.num_parameters() / 1e6:.1f}",
        f"{encoding:.2f}",
        f"{decoding:.2f}",
    ]


def main() -> None:
    """Print the table in Markdown."""
    header = ("preset", "bits a second", "ids a second", "different ids", "M parameters", "G to encode", "G to decode")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for preset in PRESETS:
        print("| " + " | ".join(row(preset)) + " |", flush=True)


if __name__ == "__main__":
    main()
