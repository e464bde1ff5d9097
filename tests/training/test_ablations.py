"""Every ablation of the paper runs, and their table reads what the runs logged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from networks import TINY as TINY_NETWORK
from networks import speech_like, with_varied_ids
from test_run import RECIPE, TINY, records

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.training.config import load_config
from l3ac_tokenizer.training.config_files import bundled_configs
from l3ac_tokenizer.training.loop import Run

ABLATIONS = [name for name in bundled_configs() if name.startswith("ablations/")]


@pytest.fixture(scope="module")
def ablations():
    spec = importlib.util.spec_from_file_location("ablations", RECIPE.parent / "ablations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_runs(corpus_folder, tmp_path, tiny_whisper, name):
    published, config = load_config("l3ac-1k"), load_config(name)
    changed = {name for name, value in vars(config).items() if value != getattr(published, name)}
    assert len(changed) == 1  # one difference an ablation
    sizes = {name: value for name, value in TINY.items() if name != "attention_window"}
    overrides = {f"model.{name}": value for name, value in sizes.items()} | {
        "max_steps": 1,
        "accumulation": 1,
        "log_every": 1,
        "workers": 0,
        "phases": [{"crop_seconds": 0.2, "batch_size": 2}],
        "perceptual_encoder": config.perceptual_encoder and str(tiny_whisper),
    }
    if config.discriminator is not None:
        overrides |= {"discriminator.periods": [], "discriminator.windows": [126]}
    Run(load_config(name, overrides), [corpus_folder], tmp_path / "run").train()
    (record,) = (line for line in records(tmp_path / "run") if "loss" in line)
    assert ("perceptual" in record) == (config.perceptual_encoder is not None)
    assert ("adversarial" in record) == (config.discriminator is not None)


def test_without_tconv_ids_do_not_depend_on_chunks():
    model = with_varied_ids(L3ACModel(L3ACConfig(**TINY_NETWORK, tconv=False)).eval())
    audio = speech_like(3001)[None, None]
    with torch.no_grad():
        whole = model.encode(audio).audio_codes
        assert torch.equal(model.encode(audio, chunk_seconds=0.02).audio_codes, whole)
    assert whole.unique().numel() > 10


def test_table_holds_the_last_figures_of_each_run(ablations, tmp_path):
    lines = [
        {"step": 10, "hours_of_audio": 0.1, "l1": 0.5, "stft": 3.0},
        {
            "step": 20,
            "hours_of_audio": 0.2,
            "held_out/speech/stoi": 0.5,
            "held_out/a/si_sdr": -2.0,
            "held_out/ids": 7.0,
        },
        {"step": 30, "hours_of_audio": 0.3, "l1": 0.25, "stft": 2.0, "held_out/b/si_sdr": -1.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    title, _, _, _, row = ablations.ablation_table({"no-clamp": Path(tmp_path)}, 5).splitlines()
    assert title.startswith("Short runs: 5 minutes each")
    assert row == "| no-clamp | 30 | 0.30 | 0.500 | – | -1.500 | 7 | 0.2500 | 2.000 |"


def test_table_of_a_run_that_has_no_losses_has_gaps(ablations, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "hours_of_audio": 0.5, "held_out/speech/stoi": 0.25}\n')
    *_, row = ablations.ablation_table({"no-clamp": tmp_path}, 5).splitlines()
    assert row == "| no-clamp | 1 | 0.50 | 0.250 | – | – | – | – | – |"


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablations.py", "--data", "audio", "--runs", str(tmp_path), "--minutes", "1"])


def test_all_runs_share_one_decoded_corpus(ablations, command_line, tmp_path, monkeypatch, capsys):
    def run(command):
        folder = Path(command[command.index("--run") + 1])
        (folder / "corpus" / folder.name).touch()
        (folder / "export").mkdir()
        (folder / "log.jsonl").write_text('{"step": 1}\n')
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(ablations.subprocess, "Popen", run)
    assert ablations.main() == 0
    names = {Path(config).name for config in ablations.CONFIGS}
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == names
    assert capsys.readouterr().out.count("| 1 |") == len(names)
    monkeypatch.setattr(ablations.subprocess, "Popen", None)  # no run is repeated
    assert ablations.main() == 0


@pytest.mark.parametrize("status", [0, 1, 130])
def test_a_run_that_was_stopped_is_not_taken_for_one_that_has_ended(
    ablations, command_line, monkeypatch, capsys, status
):
    monkeypatch.setattr(ablations.subprocess, "Popen", lambda command: SimpleNamespace(wait=lambda: status))
    assert ablations.main() == 1
    assert "the run l3ac-1k did not finish" in capsys.readouterr().err
