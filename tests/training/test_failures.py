"""What goes wrong in a run ends it with one sentence that says where the last good state is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from corpora import write_corpus
from test_run import RECIPE, tiny

from l3ac_tokenizer.training import feed
from l3ac_tokenizer.training.loop import Run, TrainingError


def test_loss_that_is_not_finite_stops_with_a_sentence(corpus_folder, tmp_path):
    run = Run(tiny(), [corpus_folder], tmp_path)
    with torch.no_grad():
        run.codec.model.decoder.convolutions.to_wave.bias.fill_(np.nan)
    with pytest.raises(
        TrainingError, match="The loss or its gradient is not finite at step 0: the last good state is in"
    ):
        run.train()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--lrr", "1"], 2, "Unknown key lrr; the nearest is lr."),
        (["--perceptual-encoder", "null"], 1, "nowhere is neither a folder nor a manifest"),
    ],
)
def test_command_line_mistakes(tmp_path, arguments, status, message):
    config = RECIPE.parent / "configs" / "l3ac-1k.yaml"
    command = [
        sys.executable,
        RECIPE,
        "--config",
        config,
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
    with pytest.raises(TrainingError, match=r"A process that reads audio died \(.*the last good state is in"):
        run.train()


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unusable_files_end_the_run(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(feed, "FEW_UNUSABLE", 0)
    folder = write_corpus(tmp_path / "audio")
    for path in sorted(folder.rglob("voice0*")):
        path.write_bytes(b"broken")
    config = tiny(discriminator=None, workers=workers, decode_gigabytes=0.0, holdout=[])
    with pytest.raises(
        TrainingError,
        match=r"files among \d+ items are unusable, one of them: .*voice0_0.wav.*the last good state is in",
    ):
        Run(config, [folder], tmp_path / "run").train()


def test_nothing_usable_ends_the_run(tmp_path):
    folder = write_corpus(tmp_path / "audio")
    for path in sorted((folder / "music").iterdir()):
        path.write_bytes(b"broken")
    config = tiny(discriminator=None, workers=1, decode_gigabytes=0.0, holdout=[])
    with pytest.raises(TrainingError, match=r"^9 clips in a row are unusable, the last: .*the last good state is in"):
        Run(config, [folder], tmp_path / "run").train()
