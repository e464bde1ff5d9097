"""Time of one training step of the generator: the published code in eager float32, and ours in every way.

    python -m benchmarks.training_step [--variants published ours ours-compiled ours-bfloat16] [--threads 2]

A step is forward, waveform and spectrogram loss (no discriminator), backward and Adam, on noise. Rounds are
interleaved so that a slowdown of the machine affects all variants alike; the first round, which includes compilation,
is not counted.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm, trange

from benchmarks.codecs import PRESET
from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import timed
from l3ac_tokenizer.modeling.cpu_kernels import onednn_linear, onednn_trains_faster, training_times

Step = Callable[[Tensor], Tensor]
"""Audio (B, T) → decoded audio (B, T)."""


def published_step() -> tuple[torch.nn.Module, Step]:
    """The network of the package `l3ac` 1.0, which has no training code."""
    import l3ac

    network = l3ac.L3AC(l3ac.L3ACConfig(config_file=l3ac.CONFIG_DIR / "1kbps.toml")).network.train()
    return network, lambda audio: network(audio)["generated_audio"]


def our_step() -> tuple[torch.nn.Module, Step]:
    """The codec as the recipe trains it."""
    from l3ac_tokenizer import L3ACConfig, L3ACModel
    from l3ac_tokenizer.training.network import TrainableCodec

    codec = TrainableCodec(L3ACModel(L3ACConfig.from_preset(PRESET)), whiten=False).train()
    return codec, lambda audio: codec(audio[:, None]).audio


def our_compiled_step() -> tuple[torch.nn.Module, Step]:
    """The same compiled, as by the recipe's `compile: true`."""
    codec, _ = our_step()
    compiled = torch.compile(codec, dynamic=False)
    return codec, lambda audio: compiled(audio[:, None]).audio


def in_bfloat16(build: Callable[[], tuple[torch.nn.Module, Step]]) -> tuple[torch.nn.Module, Step]:
    """A variant under bfloat16 autocast: it learns less per step from random weights, as much from trained ones."""
    network, step = build()

    def forward(audio: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return step(audio).float()

    return network, forward


VARIANTS: dict[str, tuple[str, Callable[[], tuple[torch.nn.Module, Step]]]] = {
    "published": ("published code, eager", published_step),
    "ours": ("ours, eager", our_step),
    "ours-compiled": ("ours, torch.compile", our_compiled_step),
    "ours-bfloat16": ("ours, bfloat16 autocast", partial(in_bfloat16, our_step)),
    "ours-compiled-bfloat16": ("ours, torch.compile, bfloat16 autocast", partial(in_bfloat16, our_compiled_step)),
}
"""Name on the command line → title in the table, and function that builds it; the first is the reference."""


def measure(names: list[str], batch: int, seconds: float, threads: int, rounds: int) -> dict[str, Any]:
    """All values of the section, as JSON values."""
    from l3ac_tokenizer.training.losses import l1_loss, multi_scale_stft_loss

    torch.set_num_threads(threads)
    audio = 0.1 * torch.randn(batch, round(seconds * 16_000), generator=torch.Generator().manual_seed(0))

    def update(forward: Step, optimizer: torch.optim.Optimizer) -> None:
        decoded = forward(audio)
        loss = 10 * l1_loss(decoded, audio) + multi_scale_stft_loss(decoded, audio)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    steps: dict[str, Callable[[], None]] = {}
    for name in tqdm(names, desc="building", unit="variant"):
        torch.manual_seed(0)
        network, forward = VARIANTS[name][1]()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
        steps[name] = partial(update, forward, optimizer)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in trange(rounds + 1, desc="steps", unit="round"):
        for name, step in steps.items():
            _, timing = timed(step)
            if turn:
                times[name].append(timing.wall)
    return {
        "machine": machine(threads),
        "batch": batch,
        "seconds": seconds,
        "rounds": rounds,
        "step_s": {name: statistics.median(walls) for name, walls in times.items()},
        "product_s": dict(zip(("torch's default", "oneDNN"), training_times((F.linear, onednn_linear)), strict=True)),
        "onednn": onednn_trains_faster(),
    }


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    first = next(iter(result["step_s"].values()))
    audio = result["batch"] * result["seconds"]
    rows = [["", "time per step", "steps per second", "audio per second", "× the first"]]
    for name, seconds in result["step_s"].items():
        rows.append(
            [
                VARIANTS[name][0],
                f"{seconds:.2f} s",
                f"{1 / seconds:.2f}",
                f"{audio / seconds:.2f} s",
                f"{first / seconds:.2f}",
            ]
        )
    return (
        "## Training\n\n"
        f"Made by `python -m benchmarks.training_step` on {machine_line(result['machine'])}\n\n"
        f"A step of the generator of {PRESET} without a discriminator, {result['batch']} clips of "
        f"{result['seconds']:g} s: forward, waveform and spectrogram loss, backward, Adam; median of "
        f"{result['rounds']} interleaved rounds.\n\n{table(rows)}\n\n"
        "A product of (256, 512) and (512, 512) in float32 with its gradients: "
        + ", ".join(f"{1e3 * seconds:.2f} ms by {name}" for name, seconds in result["product_s"].items())
        + (", which" if result["onednn"] else "; the first")
        + " computes wide products in training on this machine.\n"
    )


def main() -> None:
    """Parse the arguments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--batch", type=int, default=4, metavar="B", help="default: %(default)d")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)d")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)d")
    add_output(parser)
    options = parser.parse_args()
    result = measure(options.variants, options.batch, options.seconds, options.threads, options.rounds)
    record("training_step", result, options.output)
    print(markdown(result))


if __name__ == "__main__":
    main()
