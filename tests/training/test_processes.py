"""Two processes over gloo give the losses of one process with the same items in an update."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import RECIPE, TINY, records

from l3ac_tokenizer.training.config import load_config
from l3ac_tokenizer.training.loop import Run

SETTINGS = {
    "model": TINY,
    "max_steps": 4,
    "phases": [{"crop_seconds": 0.2, "batch_size": 2}],
    "perceptual_encoder": None,
    "discriminator": None,
    "accumulation": 1,
    "workers": 0,
    "log_every": 1,
    "ema_decay": 0.9,
    "holdout": ["*/general/voice*_*"],
    "domains": {"speech": 1, "music": 1, "general": 0},
    "tracker": None,
}
CASES = {
    # The running averages of whitening, which the discriminator's step uses, are the first process's own.
    "whitening": {"whiten_latents": True},
    "discriminator": {"discriminator": {"every": 2, "periods": [], "windows": [126], "lr": 1e-3, "clip_norm": 1e6}},
}


@pytest.fixture(scope="module", autouse=True)
def few_clips():
    """All clips, as in the processes of the recipe, which no fixture reaches."""


def train_in_two_processes(config: Path, corpus: Path, run: Path) -> None:
    """Run the recipe on the CPU as `torchrun` and `accelerate launch` start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, RECIPE, "--config", config, "--data", corpus, "--run", run]
    started = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["accelerate.commands.launch", "--cpu"],
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"],
    ],
    ids=["accelerate", "torchrun"],
)
def test_launchers_pass_on_the_command_line(corpus_folder, tmp_path, launcher):
    (tmp_path / "tiny.yaml").write_text(json.dumps(SETTINGS))
    arguments = ["--config", tmp_path / "tiny.yaml", "--data", corpus_folder, "--run", tmp_path / "run"]
    command = [sys.executable, "-m", *launcher, RECIPE, *arguments, "--max-steps", "1", "--mixed-precision", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in records(tmp_path / "run") if "loss" in line] == [1]
    assert (tmp_path / "run" / "export" / "model.safetensors").exists()


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_losses_of_one(corpus_folder, tmp_path, case):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(SETTINGS | CASES[case]))
    Run(load_config(config, {"accumulation": 2}), [corpus_folder], tmp_path / "one").train()
    train_in_two_processes(config, corpus_folder, tmp_path / "two")
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    names = {"loss", "l1", "stft", "frames", "ids_in_use", "discriminator", "adversarial", "held_out/general/si_sdr"}
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        for name in names & left.keys():
            tolerance = 1e-2 if name.startswith("held_out") else 1e-4
            assert left[name] == pytest.approx(right[name], rel=tolerance), (name, left["step"])
    assert sum("loss" in line for line in one) == 4 and "held_out/score" in one[-1]
