"""`l3ac train` and `l3ac_tokenizer.train`: a configuration and audio to a checkpoint."""

from __future__ import annotations

import json

import pytest
from test_run import TINY

from l3ac_tokenizer import L3ACModel, train
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.training.loop import Run

SETTINGS = {
    "model": TINY,
    "max_steps": 2,
    "phases": [{"crop_seconds": 0.2, "batch_size": 2}],
    "accumulation": 1,
    "perceptual_encoder": None,
    "discriminator": None,
    "workers": 0,
    "tracker": None,
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(SETTINGS))
    return path


def test_train_returns_a_checkpoint_and_resumes(corpus_folder, config, tmp_path):
    checkpoint = train(config, corpus_folder, tmp_path / "run", max_steps=1)
    assert checkpoint == tmp_path / "run" / "export"
    digest = L3ACModel.from_pretrained(checkpoint).weights_digest()
    train(str(config), [corpus_folder], str(tmp_path / "run"), max_steps=2)
    assert L3ACModel.from_pretrained(checkpoint).weights_digest() != digest
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 2


def test_with_held_out_audio_it_is_the_best(corpus_folder, config, tmp_path):
    held_out = next(corpus_folder.rglob("*.flac"), None) or next(corpus_folder.rglob("*.wav"))
    (tmp_path / "held-out").mkdir()
    (tmp_path / "held-out" / held_out.name).write_bytes(held_out.read_bytes())
    checkpoint = train(config, corpus_folder, tmp_path / "run", held_out=tmp_path / "held-out")
    assert checkpoint == tmp_path / "run" / "best"


def test_the_last_stage_of_a_chain_is_the_result(corpus_folder, config, tmp_path):
    (tmp_path / "chain.yaml").write_text(
        "max_minutes: 1\nchain:\n- {config: tiny.yaml, share: 0.5}\n- {config: tiny.yaml, share: 0.5}\n"
    )
    checkpoint = train(tmp_path / "chain.yaml", corpus_folder, tmp_path / "run", max_steps=1)
    assert checkpoint == tmp_path / "run" / "2-joint" / "export"


def test_an_interrupted_call_is_an_interrupt(corpus_folder, config, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "train", lambda run: False)
    with pytest.raises(KeyboardInterrupt):
        train(config, corpus_folder, tmp_path / "run")
    assert main(["train", "--config", str(config), "--data", str(corpus_folder), "--run", str(tmp_path / "run")]) == 130


def test_the_command_prints_the_checkpoint(corpus_folder, config, tmp_path, capsys):
    run = tmp_path / "run"
    command = ["train", "--config", str(config), "--data", str(corpus_folder), "--run", str(run), "--max-steps", "1"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"checkpoint": str(run / "export")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lrr", "1"], "Unknown key lrr; the nearest is lr."),
        (["--lr"], "--lr has no value."),
        (["stray"], "'stray': expected --key value."),
        (["--config", "l3ac-1kk"], "nor a bundled configuration of that name; did you mean l3ac-1k?"),
    ],
)
def test_wrong_usage_is_status_2_and_one_sentence(config, tmp_path, capsys, arguments, message):
    command = ["train", "--config", str(config), "--run", str(tmp_path / "run"), "--data", "nowhere"]
    assert main([*command, *arguments] if arguments != ["stray"] else ["train", "stray", *command[1:]]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_other_commands_take_no_further_arguments(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["models", "--lr", "1"])
    assert exit_.value.code == 2 and "unrecognized arguments: --lr 1" in capsys.readouterr().err
