"""Failures of a run end it with one sentence that says where the last good state is."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from corpora import write_corpus
from test_processes import SETTINGS
from test_run import RECIPE, TINY, tiny

from l3ac_tokenizer.training import loop
from l3ac_tokenizer.training.config import ConfigError, DiscriminatorOptions
from l3ac_tokenizer.training.data import loader as loader_module
from l3ac_tokenizer.training.loop import Run, TrainingError
from l3ac_tokenizer.training.optimizer import Optimizer
from l3ac_tokenizer.training.schedule import CyclePoint


def test_loss_that_is_not_finite_stops_with_a_sentence(corpus_folder, tmp_path):
    run = Run(tiny(), [corpus_folder], tmp_path)
    with torch.no_grad():
        run.codec.model.decoder.convolutions.to_wave.bias.fill_(np.nan)
    with pytest.raises(
        TrainingError,
        match="The loss or its gradient is not finite at step 0: no state had been saved; try a lower",
    ):
        run.train()


def test_latents_that_are_not_finite_stop_with_the_same_sentence(corpus_folder, tmp_path):
    run = Run(tiny(), [corpus_folder], tmp_path)
    with torch.no_grad():
        run.codec.whitening.linear.bias.fill_(np.nan)
    with pytest.raises(TrainingError, match="The loss or its gradient is not finite at step 0"):
        run.train()


def test_a_loss_that_is_not_finite_in_another_process_stops_this_one(corpus_folder, tmp_path, monkeypatch):
    run = Run(tiny(max_steps=2, discriminator=None), [corpus_folder], tmp_path)
    run._require_finite(torch.ones(2))
    monkeypatch.setattr(run, "_greatest", lambda *facts: [1.0] * len(facts))  # as the reduction over both gives it
    with pytest.raises(TrainingError, match="is not finite"):
        run._require_finite(torch.ones(2))


def test_a_run_whose_gradients_overflow_at_every_step_stops(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "MOST_SKIPPED", 3)
    run = Run(tiny(discriminator=None), [corpus_folder], tmp_path)
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    try:
        with pytest.raises(
            TrainingError, match=r"overflowed in float16 at 3 updates in a row: .*last good state is in"
        ):
            run.train()
    finally:
        run.accelerator.scaler = None


def test_updates_that_overflow_now_and_then_are_forgotten():
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    accelerator = SimpleNamespace(scaler=scaler, backward=lambda loss: scaler.scale(loss).backward())
    layer = torch.nn.Linear(2, 1)
    optimizer = Optimizer(accelerator, layer, weight_decay=0.0, clip_norm=1.0)
    skipped = []
    for factor in (1.0, np.inf, np.inf, 1.0, np.inf):
        optimizer.begin(CyclePoint(1e-3, 0.9))
        optimizer.add(layer(torch.ones(2)).sum() * factor)
        optimizer.step()
        skipped.append(optimizer.skipped)
    assert skipped == [0, 1, 2, 0, 1]


def test_a_state_of_another_network_is_named(corpus_folder, tmp_path):
    Run(tiny(max_steps=1), [corpus_folder], tmp_path).train()
    for other in (
        {"model": TINY | {"feature_dim": 32}},
        {"whiten_latents": False},
        {"discriminator": DiscriminatorOptions(periods=[2], windows=[126])},
    ):
        with pytest.raises(
            TrainingError, match="belongs to other networks than the configuration's: resume with the values"
        ):
            Run(tiny(**other), [corpus_folder], tmp_path)


@pytest.mark.parametrize(("flag", "name"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_sharded_training_is_refused(corpus_folder, tmp_path, monkeypatch, flag, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{flag}", "true")
    with pytest.raises(ConfigError, match=f"Accelerate is configured for {name}, which this recipe does not support"):
        Run(tiny(), [corpus_folder], tmp_path)


def test_an_interrupted_run_has_saved_its_state_and_ends_with_130(corpus_folder, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(SETTINGS | {"max_steps": 1000, "holdout": []}))
    command = [sys.executable, RECIPE, "--config", config, "--data", corpus_folder, "--run", tmp_path / "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "run" / "log.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate()
    assert process.returncode == 130
    assert "the same command resumes it" in messages and "Traceback" not in messages
    assert list((tmp_path / "run" / "state").iterdir()) and not (tmp_path / "run" / "export").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--lrr", "1"], 2, "Unknown key lrr; the nearest is lr."),
        (["--perceptual-encoder", "null"], 1, "nowhere is neither a folder nor a manifest"),
    ],
)
def test_command_line_mistakes(tmp_path, arguments, status, message):
    command = [
        sys.executable,
        RECIPE,
        "--config",
        "l3ac-1k",
        "--data",
        tmp_path / "nowhere",
        "--run",
        tmp_path / "run",
    ]
    done = subprocess.run(command + arguments, capture_output=True, text=True)
    assert done.returncode == status and message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_worker_that_dies_ends_the_run(corpus_folder, tmp_path, monkeypatch):
    update = Run._update

    def then_kill_the_workers(run, *arguments):
        update(run, *arguments)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    monkeypatch.setattr(Run, "_update", then_kill_the_workers)
    run = Run(tiny(discriminator=None, workers=1), [corpus_folder], tmp_path)
    with pytest.raises(
        TrainingError, match=r"A process that reads audio died \(.*the last good state is in .*; try fewer --workers\.$"
    ) as held:
        run.train()
    assert held.traceback and multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unusable_files_end_the_run(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(loader_module, "FEW_UNUSABLE", 0)
    folder = write_corpus(tmp_path / "audio")
    for path in sorted(folder.rglob("voice0*")):
        path.write_bytes(b"broken")
    config = tiny(discriminator=None, workers=workers, decode_gigabytes=0.0, holdout=[])
    with pytest.raises(
        TrainingError,
        match=r"files among \d+ items are unusable, one of them: .*voice0_0.wav.* state .*; check the audio\.$",
    ) as held:
        Run(config, [folder], tmp_path / "run").train()
    assert held.traceback and multiprocessing.active_children() == []  # no worker outlives the run


def test_nothing_usable_ends_the_run(tmp_path):
    folder = write_corpus(tmp_path / "audio")
    for path in sorted((folder / "music").iterdir()):
        path.write_bytes(b"broken")
    config = tiny(discriminator=None, workers=1, decode_gigabytes=0.0, holdout=[])
    with pytest.raises(
        TrainingError, match=r"^9 clips in a row are unusable, the last: .*: no state .*; check the audio\.$"
    ) as held:
        Run(config, [folder], tmp_path / "run").train()
    assert held.traceback and multiprocessing.active_children() == []
