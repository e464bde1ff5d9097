"""Speed and memory of `recipes/train_codec.py` in many settings.

    python -m benchmarks.training_run --data FOLDER --encoder WHISPER_ENCODER [--settings compiled ...] [--steps 60]

Each setting is a run of the recipe with its own arguments, one after the other. Its speed is the median of the values
that the run logs every ten updates, without the first twenty, which include compilation. Runs are not interleaved, so a
slowdown of the machine shows in the spread. The stages alone, in seconds of audio per second:

    python -m benchmarks.training_run --data FOLDER --encoder WHISPER_ENCODER \
        --settings tokens distill encode decode decode-discriminator joint
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import add_output, machine, machine_line, record
from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.evaluation.report.tables import table

RECIPE = Path(__file__).parents[1] / "recipes" / "train_codec.py"
EVERY = 10
"""Updates between two lines of the log."""


class Setting(NamedTuple):
    """A way to train."""

    title: str
    crop_seconds: float = 0.54
    batch_size: int = 6
    compile: bool = True
    precision: str = "bf16"
    threads: int = 1
    processes: int = 1
    others: tuple[str, ...] = ()
    config: str = "l3ac-1k-cpu"
    start: tuple[str, ...] = ("--init-from", "l3ac-1k")
    network: tuple[str, str] = ("l3ac-1k-light", "spectral")
    """Preset and analysis of the codec with random weights that stands for CHECKPOINT in `start`."""

    def arguments(self) -> list[str]:
        """Command-line arguments of the recipe."""
        phase = {"crop_seconds": self.crop_seconds, "batch_size": self.batch_size, "compile": self.compile}
        return ["--phases", json.dumps([phase]), "--mixed-precision", self.precision, *self.start, *self.others]


def stage(title: str, config: str, crop_seconds: float = 1.08, batch_size: int = 6, **fields: Any) -> Setting:
    """A stage of a chain: eager and in float32, with the perceptual loss that its configuration has."""
    others = ("--perceptual-encoder", "ENCODER", *fields.pop("others", ()))
    values: dict[str, Any] = {"start": (), "compile": False, "precision": "no"} | fields
    return Setting(title, crop_seconds, batch_size, config=config, others=others, **values)


PERCEPTUAL = ("--weights.perceptual_max", "1.5", "--perceptual-encoder", "ENCODER")
SETTINGS = {
    "compiled": Setting("compiled, bfloat16, 6 × 0.54 s"),
    "eager": Setting("the same, eager", compile=False),
    "eager-float32": Setting("the same, eager, float32", compile=False, precision="no"),
    "compiled-float32": Setting("the same, float32", precision="no"),
    "batch": Setting("the same, 12 × 0.54 s", batch_size=12),
    "longer": Setting("the same, 3 × 1.08 s", crop_seconds=1.08, batch_size=3),
    "long": Setting("the same, eager, 1 × 9.72 s", crop_seconds=9.72, batch_size=1, compile=False),
    "frozen": Setting("the same, the decoder alone", others=("--stage", "decode")),
    "threads": Setting("the same, two threads", threads=2),
    "processes": Setting("the same, two processes, each 6 × 0.54 s", processes=2),
    "perceptual": Setting(
        "the same, perceptual loss on the crop alone", others=(*PERCEPTUAL, "--perceptual-seconds", "null")
    ),
    "perceptual-window": Setting(
        "the same, perceptual loss on its window of 30 s", others=(*PERCEPTUAL, "--perceptual-seconds", "30")
    ),
    "discriminator": Setting(
        "the same, discriminator every 22 updates",
        others=("--discriminator", "{every: 22}", "--weights.adversarial_max", "10"),
    ),
    "tokens": stage("stage tokens, light, 8 × 2.16 s", "light/tokens", 2.16, 8),
    "distill": stage(
        "stage distill, published encoder, 6 × 1.08 s",
        "staged/distill",
        start=("--teacher", "CHECKPOINT"),
        network=("l3ac-1k", "spectral"),
    ),
    "encode": stage("stage encode, published encoder, 6 × 1.08 s", "staged/encode"),
    "decode": stage(
        "stage decode, light, 6 × 1.08 s, before the discriminator",
        "light/decode",
        start=("--init-from", "CHECKPOINT"),
        others=("--weights.adversarial_max", "0"),
    ),
    "decode-discriminator": stage(
        "stage decode, light, 6 × 1.08 s, with the discriminator",
        "light/decode",
        start=("--init-from", "CHECKPOINT"),
        others=("--discriminator.start", "0"),
    ),
    "joint": stage("stage joint, light, 6 × 1.08 s", "light/joint"),
}
"""Name on the command line → setting; "the same" refers to the first."""


def random_checkpoint(network: tuple[str, str], folder: str) -> None:
    """Write a codec with random weights, as speed does not depend on them."""
    preset, analysis = network
    L3ACModel(L3ACConfig.from_preset(preset, analysis=analysis)).save_pretrained(folder)


def measure(name: str, data: list[str], encoder: str, steps: int) -> dict[str, Any]:
    """Speed and memory of one setting.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    setting = SETTINGS[name]
    launcher = [sys.executable]
    if setting.processes > 1:
        launcher += ["-P", "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={setting.processes}", "--"]
    with tempfile.TemporaryDirectory() as run, tempfile.TemporaryDirectory() as checkpoint:
        if "CHECKPOINT" in setting.start:
            random_checkpoint(setting.network, checkpoint)
        places = {"ENCODER": encoder, "CHECKPOINT": checkpoint}
        command = [
            *launcher,
            str(RECIPE),
            *("--config", setting.config, "--data", *data, "--run", run),
            *("--domains", "{speech: 1, music: 0, general: 0}"),  # files in folders of other names count as speech
            *("--holdout", "[]", "--tracker", "null", "--max-minutes", "null", "--max-steps", str(steps)),
            *("--log-every", str(EVERY), *(places.get(argument, argument) for argument in setting.arguments())),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads), "ACCELERATE_USE_CPU": "true"}
        process = subprocess.Popen(command, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
        records = [json.loads(line) for line in Path(run, "log.jsonl").read_text("utf-8").splitlines()]
    speeds = [record["audio_seconds_per_second"] for record in records if "audio_seconds_per_second" in record][2:]
    update = setting.crop_seconds * setting.batch_size * setting.processes
    return {
        "audio_seconds_per_second": statistics.median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "updates_per_second": statistics.median(speeds) / update,
        "peak_gib": usage.ru_maxrss / 2**20,
    }


def markdown(result: dict[str, Any]) -> str:
    """The section of the page."""
    rows = [["", "seconds of audio per second", "slowest, fastest", "updates per second", "largest process, GiB"]]
    for name, found in result["settings"].items():
        rows.append(
            [
                SETTINGS[name].title,
                f"{found['audio_seconds_per_second']:.2f}",
                f"{found['slowest']:.2f}, {found['fastest']:.2f}",
                f"{found['updates_per_second']:.2f}",
                f"{found['peak_gib']:.1f}",
            ]
        )
    return (
        "## Training with the recipe\n\n"
        f"Made by `python -m benchmarks.training_run` on {machine_line(result['machine'])}\n\n"
        f"Runs of {result['steps']} updates each, one after the other, on one thread unless stated otherwise; "
        f"medians over every {EVERY} updates, without the first 20.\n\n{table(rows)}\n"
    )


def main() -> None:
    """Parse the arguments, measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs="+", required=True, help="speech, as for train_codec.py; a few minutes are enough"
    )
    parser.add_argument("--encoder", required=True, metavar="DIRECTORY", help="speech encoder of the perceptual loss")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="updates per run (default: %(default)d)")
    add_output(parser)
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(1), "steps": options.steps, "settings": {}}
    for name in options.settings:
        result["settings"][name] = measure(name, options.data, options.encoder, options.steps)
        record("training_run", result, options.output)  # after each, so that an interruption loses only one
    print(markdown(result))


if __name__ == "__main__":
    main()
