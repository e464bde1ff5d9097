"""Whole runs of a tiny codec: both networks, resume after SIGKILL, trackers, export, fine-tuning."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from l3ac_tokenizer import CodecModel, L3ACConfig, L3ACModel
from l3ac_tokenizer.modeling.pretrained import ENCODER
from l3ac_tokenizer.training import loop, objective
from l3ac_tokenizer.training.config import (
    Augment,
    ConfigError,
    DiscriminatorOptions,
    LossWeights,
    Phase,
    TrainingConfig,
    load_config,
)
from l3ac_tokenizer.training.data.sampler import Request
from l3ac_tokenizer.training.evaluator import Evaluator
from l3ac_tokenizer.training.export import plain_model
from l3ac_tokenizer.training.loop import Run, TrainingError
from l3ac_tokenizer.training.network import build_codec, load_fitting
from l3ac_tokenizer.training.perceptual import SpeechEncoderAbsentError
from l3ac_tokenizer.training.state import load_state
from l3ac_tokenizer.training.tracking import Figures

RECIPE = Path(__file__).parents[2] / "recipes" / "train_codec.py"
TINY = {
    "feature_dim": 16,
    "encoder_dims": [4, 6, 8, 8],
    "encoder_depths": [1, 1, 1, 1],
    "encoder_layers": [1, 1],
    "decoder_dims": [16, 8, 8, 6, 4],
    "decoder_depths": [1, 1, 1, 1],
    "decoder_layers": [1, 1],
    "num_attention_heads": 2,
    "attention_window": 10,
}


LEVELS = L3ACConfig().levels
JUDGE = DiscriminatorOptions(every=2, periods=[], windows=[126])


def tiny(**options) -> TrainingConfig:
    """Twelve steps of a tiny codec with everything that has a state switched on."""
    values = dict(
        model=TINY,
        max_steps=12,
        phases=[Phase(0.2, 3, 0.5), Phase(0.4, 2, 1.0)],
        accumulation=2,
        perceptual_encoder=None,
        discriminator=DiscriminatorOptions(every=3, start=0.25, lr=1e-3, periods=[], windows=[126]),
        ema_decay=0.99,
        whiten_latents=True,
        domains={"speech": 1.0, "music": 1.0, "general": 1.0},
        workers=0,
        augment=Augment(gain_db=[-6.0, 0.0], polarity=True),
        holdout=["*/voice3_*"],
        log_every=1,
        save_every_minutes=0.0,
        evaluate_every_minutes=100.0,
    )
    return TrainingConfig(**(values | options))


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> dict[int, tuple[float, float | None]]:
    """Step → loss of the codec and, where it was trained, of the discriminator."""
    return {line["step"]: (line["loss"], line.get("discriminator")) for line in records(folder) if "loss" in line}


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory) -> Path:
    """Folder of a tiny run that went through."""
    folder = tmp_path_factory.mktemp("run")
    Run(tiny(), [corpus_folder], folder).train()
    return folder


def test_a_run_logs_every_step_and_keeps_two_states(finished):
    assert sorted(losses(finished)) == list(range(1, 13))
    assert [path.name for path in sorted((finished / "state").iterdir())] == [
        "state-00000011.pt",
        "state-00000012.pt",
    ]


def test_a_run_of_fewer_updates_than_a_line_of_the_log_has_logs_them(corpus_folder, tmp_path):
    run = Run(tiny(max_steps=3, log_every=2, discriminator=None), [corpus_folder], tmp_path)
    assert run.train() is True
    assert sorted(losses(tmp_path)) == [2, 3]


def test_a_log_without_a_state_is_begun_anew(corpus_folder, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n')  # killed before the first state
    Run(tiny(max_steps=1), [corpus_folder], tmp_path)
    assert records(tmp_path) == []


def test_minutes_end_a_run_with_its_schedule(corpus_folder, tmp_path, monkeypatch):
    seconds = count(0, 3)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    config = tiny(max_steps=None, max_minutes=1.0, discriminator=None)
    run = Run(config, [corpus_folder], tmp_path)
    assert run.train() is True and run.progress == 1.0
    rates = [line["lr"] for line in records(tmp_path) if "loss" in line]
    assert len(rates) == 20 and max(rates) == pytest.approx(config.lr, rel=0.05)
    assert rates[-1] < rates[0] / 2
    assert (tmp_path / "export" / "model.safetensors").exists()


def test_without_held_out_clips_there_is_no_best(corpus_folder, tmp_path):
    config = tiny(max_steps=2, discriminator=None, holdout=[], evaluate_every_minutes=0.0)
    run = Run(config, [corpus_folder], tmp_path)
    run.train()
    assert (tmp_path / "export").exists() and not (tmp_path / "best").exists()
    assert run.counters.best == -math.inf and not any("held_out/score" in line for line in records(tmp_path))


def test_best_weights_stay_the_best_after_a_kill(corpus_folder, tmp_path, monkeypatch):
    scores = iter([-2.0, -1.0, -1.5])

    def score(evaluator, step, model):
        value = next(scores, None)
        if value is None:
            raise KeyboardInterrupt  # stands for a kill: nothing more is saved
        return {"si_sdr": value, "score": value}

    monkeypatch.setattr(Evaluator, "score", score)
    config = tiny(max_steps=4, discriminator=None, save_every_minutes=1000.0, evaluate_every_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        Run(config, [corpus_folder], tmp_path).train()
    state = load_state(tmp_path / "state")
    assert (state["counters"]["step"], state["counters"]["best"]) == (2, -1.0)
    assert "| si_sdr | -1.000 |" in (tmp_path / "best" / "README.md").read_text()
    monkeypatch.setattr(Evaluator, "score", lambda *_: {"si_sdr": -1.2, "score": -1.2})
    Run(config, [corpus_folder], tmp_path).train()
    assert "| si_sdr | -1.000 |" in (tmp_path / "best" / "README.md").read_text()


def test_the_last_state_is_saved_before_the_last_evaluation(corpus_folder, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "score", killed)
    config = tiny(max_steps=2, discriminator=None, save_every_minutes=1000.0)
    with pytest.raises(KeyboardInterrupt):
        Run(config, [corpus_folder], tmp_path).train()
    assert load_state(tmp_path / "state")["counters"]["step"] == 2


def test_sessions_shorter_than_the_interval_are_evaluated_all_the_same(corpus_folder, tmp_path, monkeypatch):
    agree, evaluated = Run._agree, []

    def twenty_minutes_later(run):
        run._session_start -= 20 * 60
        agree(run)
        run._stop = run.counters.step < 3  # a session is one update

    monkeypatch.setattr(Run, "_agree", twenty_minutes_later)
    monkeypatch.setattr(Run, "_evaluate", lambda run: evaluated.append(run.counters.step))
    for _ in range(2):
        config = tiny(discriminator=None, evaluate_every_minutes=30.0)
        assert Run(config, [corpus_folder], tmp_path).train() is False
    assert evaluated == [2]


def test_a_run_says_what_was_run(finished, corpus_folder):
    assert load_config(finished / "config.yaml") == tiny()
    first_line = (finished / "config.yaml").read_text().partition("\n")[0]
    assert json.loads(first_line[2:]) == {"data": [str(corpus_folder)], "held_out": []}
    (for_the_tracker,) = {path.read_text() for path in finished.glob("tensorboard/l3ac/*/hparams.yml")}
    assert "discriminator.every: 3" in for_the_tracker


def test_values_that_a_resumed_run_changes_are_named(corpus_folder, tmp_path, caplog):
    Run(tiny(max_steps=2, discriminator=None), [corpus_folder], tmp_path).train()
    assert "other values" not in caplog.text
    Run(tiny(lr=1e-3, max_steps=2, weights=LossWeights(l1=5.0)), [str(corpus_folder), corpus_folder], tmp_path)
    assert "resumed with other values than before: data, discriminator, lr, weights.l1" in caplog.messages
    assert load_config(tmp_path / "config.yaml").lr == 1e-3


def test_a_run_can_start_from_a_bundled_name(corpus_folder, tmp_path):
    run = Run(
        TrainingConfig(
            init_from="l3ac-1k",
            max_steps=1,
            accumulation=1,
            phases=[Phase(0.1, 1)],
            perceptual_encoder=None,
            discriminator=None,
            workers=0,
            tracker=None,
        ),
        [corpus_folder],
        tmp_path,
    )
    given = CodecModel.from_pretrained("l3ac-1k").state_dict()
    for name, tensor in run.codec.plain_state().items():
        torch.testing.assert_close(tensor, given[name], msg=name)
    assert run.train() is True
    assert "It began from `l3ac-1k`" in (tmp_path / "export" / "README.md").read_text()


def test_a_run_that_goes_without_the_default_speech_encoder_does_not_claim_it(corpus_folder, tmp_path, monkeypatch):
    def absent(*_):
        raise SpeechEncoderAbsentError("There is none.")

    monkeypatch.setattr(objective, "speech_features", absent)
    config = tiny(max_steps=1, discriminator=None, perceptual_encoder=TrainingConfig.perceptual_encoder)
    assert Run(config, [corpus_folder], tmp_path).train() is True
    assert "speech encoder" not in (tmp_path / "export" / "README.md").read_text()
    assert load_config(tmp_path / "config.yaml").perceptual_encoder == config.perceptual_encoder


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_phase_trains_as_one_that_is_not(corpus_folder, tmp_path, monkeypatch, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    # Without the quantizer's noise, which inductor draws with a generator of its own.
    config = tiny(max_steps=2, discriminator=None, model=TINY | {"noise_probability": 0.0})
    for compiled in (False, True):
        phases = [Phase(0.2, 2, compile=compiled)]
        Run(dataclasses.replace(config, phases=phases), [corpus_folder], tmp_path / str(compiled)).train()
    eager, fast = losses(tmp_path / "False"), losses(tmp_path / "True")
    assert [fast[step][0] for step in (1, 2)] == pytest.approx([eager[step][0] for step in (1, 2)], rel=1e-3)


def test_discriminator_is_trained_every_so_many_updates_from_its_start_on(finished):
    judged = {line["step"] for line in records(finished) if "adversarial" in line}
    assert judged == set(range(4, 13))  # a quarter of twelve updates has passed before the fourth
    trained = {step for step, (_, discriminator) in losses(finished).items() if discriminator is not None}
    assert trained == {4, 7, 10}


def test_codec_and_discriminator_learn_from_their_own_losses_alone(corpus_folder, tmp_path):
    run = Run(tiny(discriminator=JUDGE), [corpus_folder], tmp_path)

    def weights() -> tuple[torch.Tensor, torch.Tensor]:
        networks = (run.codec, run.discriminator.network)
        return tuple(torch.cat([p.detach().flatten() for p in network.parameters()]).clone() for network in networks)

    groups, figures, before = run.loader.groups(run.counters, run._progress_at), Figures(LEVELS), weights()
    for discriminator_moves in (True, False, True):
        run._update(next(groups), figures)
        after = weights()
        assert not torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1]) != discriminator_moves
        before = after


def test_a_state_without_discriminator_can_get_one(corpus_folder, tmp_path, caplog):
    Run(tiny(discriminator=None, max_steps=2), [corpus_folder], tmp_path).train()
    run = Run(tiny(max_steps=6), [corpus_folder], tmp_path)
    assert "the state has no discriminator" in caplog.text
    run.train()
    assert sorted(losses(tmp_path)) == list(range(1, 7))


def test_stop_of_all_processes_and_resume_equals_the_uninterrupted_run(finished, corpus_folder, tmp_path, monkeypatch):
    update = Run._update

    def interrupted(run, *arguments):
        update(run, *arguments)
        if run.counters.step == 5:  # as a batch system does it: all processes of the job get the signal
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGTERM)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_update", interrupted)
        Run(tiny(workers=1), [corpus_folder], tmp_path).train()
    assert max(losses(tmp_path)) == 5 and not (tmp_path / "export").exists()
    Run(tiny(), [corpus_folder], tmp_path).train()
    assert losses(tmp_path) == losses(finished)


def test_kill_and_resume_equals_the_uninterrupted_run(corpus_folder, tmp_path):
    config = tmp_path / "tiny.yaml"
    text = json.dumps(
        {
            "model": TINY,
            "max_steps": 16,
            "phases": [{"crop_seconds": 0.2, "batch_size": 2}],
            "accumulation": 1,
            "perceptual_encoder": None,
            "discriminator": {"every": 2, "periods": [], "windows": [126]},
            "whiten_latents": True,
            "workers": 1,
            "ema_decay": 0.9,
            "log_every": 1,
            "save_every_minutes": 0.001,
        }
    )
    config.write_text(text)

    def start(run: str) -> subprocess.Popen:
        command = [
            sys.executable,
            RECIPE,
            "--config",
            config,
            "--data",
            corpus_folder,
            "--run",
            tmp_path / run,
        ]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    process, log = start("killed"), tmp_path / "killed" / "log.jsonl"
    lines = random.SystemRandom().randrange(12)
    print(f"killed once the log had more than {lines} lines")
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > lines):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_plain_model_computes_what_the_codec_computes(finished, corpus_folder):
    run = Run(tiny(), [corpus_folder], finished)  # resumes at the end
    codec = run.codec.eval()
    audio = run.sampler[Request(0, 0, 2, 8000)].samples
    plain = plain_model(codec, [audio[0, 0]])
    with torch.no_grad():
        expected = codec.model.encode(audio).latents
        torch.testing.assert_close(plain.encode(audio).latents, expected, atol=1e-3, rtol=1e-3)


def test_export_is_the_averaged_model_in_half_precision(finished, corpus_folder):
    run = Run(tiny(), [corpus_folder], finished)
    model, averaged = (
        L3ACModel.from_pretrained(finished / "export"),
        run.evaluator.averaged(run.codec, run.average).model,
    )
    assert model.dtype == torch.float32
    for name, parameter in averaged.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter.half().float()), name
    model.decode(torch.zeros(1, 1, 5, dtype=torch.int64), time_norm="frozen")
    assert {path.name for path in (finished / "export").iterdir()} == {
        "README.md",
        "config.json",
        "discriminator.safetensors",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_fine_tuning_takes_what_fits_and_lists_the_rest(finished):
    wider = L3ACModel(L3ACConfig(**{**TINY, "levels": [9, 9, 9, 7, 7, 7, 5]}))
    before = {name: tensor.clone() for name, tensor in wider.state_dict().items()}
    missing = load_fitting(wider, finished / "export")
    assert missing == [
        "quantizer.project_in.bias",
        "quantizer.project_in.weight",
        "quantizer.project_out.weight",
    ]
    given = L3ACModel.from_pretrained(finished / "export").state_dict()
    for name, tensor in wider.state_dict().items():
        assert torch.equal(tensor, before[name] if name in missing else given[name])


def test_a_frozen_encoder_keeps_every_id(finished, corpus_folder, tmp_path):
    given = L3ACModel.from_pretrained(finished / "export")
    with torch.no_grad():
        next(given.encoder.parameters()).mul_(1.0001)  # not a number of float16
    given.save_pretrained(tmp_path / "given")
    options = dict(init_from=str(tmp_path / "given"), stage="decode", discriminator=JUDGE)
    for steps in (2, 4):  # and resumed
        Run(tiny(max_steps=steps, **options), [corpus_folder], tmp_path / "run").train()
    trained = L3ACModel.from_pretrained(tmp_path / "run" / "export")
    before, after = given.state_dict(), trained.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(ENCODER))
    assert not torch.equal(given.decoder.output_layer.weight, trained.decoder.output_layer.weight)
    assert trained.id_digests() == (trained.weights_digest(), given.weights_digest())
    assert "the ids are the same" in (tmp_path / "run" / "export" / "README.md").read_text()
    with torch.no_grad():
        next(given.encoder.parameters()).mul_(1.01)
        next(trained.encoder.parameters()).mul_(1.01)
    assert trained.id_digests() == (trained.weights_digest(),)  # another encoder has other ids
    given.save_pretrained(tmp_path / "given")
    with pytest.raises(TrainingError, match=r"given has another encoder than when the run .* began"):
        Run(tiny(max_steps=5, **options), [corpus_folder], tmp_path / "run")


def test_a_frozen_encoder_gives_the_ids_of_evaluation_under_autocast(finished):
    config = tiny(model=TINY, init_from=str(finished / "export"), stage="decode")
    codec, plain = build_codec(config).train(), L3ACModel.from_pretrained(finished / "export").eval()
    audio = 0.1 * torch.randn(2, 1, 16_000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        prediction = codec(audio)
    assert torch.equal(prediction.ids, plain.encode(audio).audio_codes[:, 0])
    prediction.audio.float().sum().backward()
    graded = {name for name, parameter in codec.model.named_parameters() if parameter.grad is not None}
    assert graded and not any(name.startswith(ENCODER) for name in graded)


@pytest.mark.parametrize(("field", "value"), [("levels", [5, 5, 5, 5, 5, 5]), ("attention_window", 20)])
def test_a_frozen_encoder_is_refused_for_another_network(finished, field, value):
    config = tiny(model=TINY | {field: value}, init_from=str(finished / "export"), stage="decode")
    with pytest.raises(ConfigError, match=f"{field} is .* and that of .*; in stage decode only the decoder can differ"):
        build_codec(config)


def test_tracker_has_numbers_sounds_and_pictures(finished):
    (folder,) = {path.parent for path in finished.glob("tensorboard/l3ac/events*")}
    board = EventAccumulator(str(folder)).Reload()
    numbers = {"loss", "lr", "gradient_norm", "discriminator_gradient_norm", "ids_in_use", "held_out/score"}
    entropies = {f"entropy/dimension_{number}" for number in range(1, 7)}
    assert numbers | entropies <= set(board.Tags()["scalars"])
    assert all(0 <= event.value <= 1 for name in entropies for event in board.Scalars(name))
    assert all("minutes" in line for line in records(finished))
    assert any(name.endswith("/decoded") for name in board.Tags()["audio"])
    assert any(name.endswith("/spectrogram") for name in board.Tags()["images"])


@pytest.mark.parametrize(("precision", "of_accelerate"), [("bf16", "no"), (None, "bf16")])
def test_half_precision_trains_both_networks(corpus_folder, tmp_path, monkeypatch, precision, of_accelerate):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", of_accelerate)  # as `accelerate launch --mixed_precision` does
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        run = Run(tiny(max_steps=2, discriminator=JUDGE, mixed_precision=precision), [corpus_folder], tmp_path)
        assert run.accelerator.mixed_precision == "bf16"
        run.train()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert all(np.isfinite(line["loss"]) and np.isfinite(line["adversarial"]) for line in records(tmp_path)[:2])
    assert {p.dtype for p in [*run.codec.parameters(), *run.discriminator.network.parameters()]} == {torch.float32}
