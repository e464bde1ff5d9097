"""Chains of stages: reading them, going through them, resuming anywhere, and with two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from test_config import CONFIGS
from test_processes import SETTINGS, train_in_two_processes
from test_run import RECIPE, TINY, records

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.training import chain
from l3ac_tokenizer.training.chain import load_chain, train_chain
from l3ac_tokenizer.training.config import ConfigError, load_config
from l3ac_tokenizer.training.loop import Run
from l3ac_tokenizer.training.network import HEAD_FILE

CHAINS = sorted(path for path in CONFIGS.glob("*.yaml") if "chain:" in path.read_text())
COMMON = {**SETTINGS, "model": TINY | {"analysis": "spectral", "analysis_depth": 1}, "max_steps": 2, "holdout": []}
SILENT = {"l1": 0, "stft": 0, "perceptual_max": 0, "adversarial_max": 0}
STAGES = {
    "tokens": {"stage": "tokens", "weights": SILENT | {"mel": 1}, "muon": 2.0, "whiten_latents": True},
    "distill": {"stage": "distill", "weights": SILENT | {"distillation": 1}, "model": TINY},
    "decode": {"stage": "decode", "weights": SILENT | {"spectral": 5}, "model": TINY, "mixed_precision": "bf16"},
    "joint": {"stage": "joint", "weights": SILENT | {"spectral": 5}},
}


def write_chain(folder: Path, *stages: str, **changes) -> Path:
    """A chain of `STAGES` of equal shares, with the files of its stages in `folder`."""
    for name in stages:
        (folder / f"{name}.yaml").write_text(json.dumps(COMMON | STAGES[name]))
    entries = [{"config": f"{name}.yaml", "share": 1 / len(stages)} for name in stages]
    (folder / "chain.yaml").write_text(json.dumps({"max_minutes": 600, "chain": entries} | changes))
    return folder / "chain.yaml"


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in records(folder) if "loss" in line]


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_every_chain_of_the_recipes_is_valid(path):
    stages = load_chain(path)
    assert [stage.name for stage in stages] == [f"{n}-{stage.config.stage}" for n, stage in enumerate(stages, 1)]
    assert sum(stage.config.max_minutes for stage in stages) == pytest.approx(
        yaml.safe_load(path.read_text())["max_minutes"]
    )
    assert all(stage.config.max_steps is None for stage in stages)
    assert stages[0].config.stage == "tokens"


def test_a_single_run_is_not_a_chain():
    assert load_chain(CONFIGS / "l3ac-1k.yaml") is None


def test_overrides_reach_every_stage_and_minutes_are_shared(tmp_path):
    path = write_chain(tmp_path, "tokens", "distill", "decode")
    stages = load_chain(path, {"max_minutes": 30, "lr": 1e-2, "augment.polarity": True})
    assert [stage.config.max_minutes for stage in stages] == pytest.approx([10, 10, 10])
    assert all(stage.config.lr == 1e-2 and stage.config.augment.polarity for stage in stages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chain": [{"config": "tokens.yaml", "share": 0.9}]}, "add up to 0.9; they must add up to 1"),
        ({"chain": [{"config": "tokens.yaml"}]}, r"chain\[0\] in .* is .*give `config` \(a file\) and `share`"),
        ({"chain": [{"config": "tokens.yaml", "share": "all"}]}, r"chain\[0\] in .* is .*give `config`"),
        ({"chain": "tokens.yaml"}, "is not a chain"),
        ({"max_minutes": None}, "is not a chain: give `chain`"),
        ({"lr": 1.0}, "is not a chain"),
        ({"chain": [{"config": "nowhere.yaml", "share": 1}]}, "No configuration file .*nowhere.yaml"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_chain(write_chain(tmp_path, "tokens", **changes))


def test_each_stage_begins_with_the_weights_of_the_one_before(corpus_folder, tmp_path, monkeypatch):
    stages = load_chain(write_chain(tmp_path, "tokens", "distill", "decode"))
    assert train_chain(stages, [corpus_folder], tmp_path / "run") is True
    folders = [tmp_path / "run" / name for name in ("1-tokens", "2-distill", "3-decode")]
    assert [steps(folder) for folder in folders] == [[1, 2]] * 3
    tokens, distilled, decoder = (L3ACModel.from_pretrained(folder / "export").state_dict() for folder in folders)
    for name in ("encoder.transformer.down.weight", "quantizer.project_in.weight"):
        assert tokens[name].equal(distilled[name]) and tokens[name].equal(decoder[name])
    heads = [load_file(folder / "export" / HEAD_FILE) for folder in folders[:2]]
    assert all(heads[0][name].equal(heads[1][name]) for name in heads[0])
    second, third = (load_config(folder / "config.yaml") for folder in folders[1:])
    assert second.teacher == second.init_from == str(folders[0] / "export")
    assert (third.init_from, third.teacher) == (str(folders[1] / "export"), None)
    # Finished stages are not even set up again.
    monkeypatch.setattr(chain, "Run", lambda *_: pytest.fail("a finished stage ran again"))
    assert train_chain(stages, [corpus_folder], tmp_path / "run") is True


def test_the_best_weights_are_handed_on_where_there_are_any(corpus_folder, tmp_path, monkeypatch):
    stages = load_chain(write_chain(tmp_path, "tokens", "joint"), {"holdout": ["*/voice3_*"]})
    assert train_chain(stages, [corpus_folder], tmp_path / "run") is True
    assert load_config(tmp_path / "run" / "2-joint" / "config.yaml").init_from.endswith("1-tokens/best")


@pytest.mark.parametrize("step", [1, 3])
def test_an_interrupted_chain_resumes_where_it_was(corpus_folder, tmp_path, monkeypatch, step):
    stages = load_chain(write_chain(tmp_path, "tokens", "joint"))
    train_chain(stages, [corpus_folder], tmp_path / "whole")
    update, updates = Run._update, 0

    def interrupted(run, *arguments):
        nonlocal updates
        update(run, *arguments)
        updates += 1
        if updates == step:
            run._request_stop()

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_update", interrupted)
        assert train_chain(stages, [corpus_folder], tmp_path / "stopped") is False
    assert (tmp_path / "stopped" / "2-joint").is_dir() == (step == 3)
    assert not (tmp_path / "stopped" / "2-joint" / "export").exists()
    assert train_chain(stages, [corpus_folder], tmp_path / "stopped") is True
    for name in ("1-tokens", "2-joint"):
        assert steps(tmp_path / "stopped" / name) == [1, 2]
        whole, resumed = (load_file(tmp_path / run / name / "export/model.safetensors") for run in ("whole", "stopped"))
        assert all(whole[key].equal(resumed[key]) for key in whole)


def test_the_recipe_goes_through_a_chain_in_two_processes(corpus_folder, tmp_path):
    path = write_chain(tmp_path, "tokens", "distill", "decode")
    train_in_two_processes(path, corpus_folder, tmp_path / "run")
    for name in ("1-tokens", "2-distill", "3-decode"):
        assert steps(tmp_path / "run" / name) == [1, 2]
        L3ACModel.from_pretrained(tmp_path / "run" / name / "export")


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["accelerate.commands.launch", "--cpu"],  # on CPUs it starts several processes by mpirun alone
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"],
    ],
    ids=["accelerate", "torchrun"],
)
def test_launchers_go_through_a_chain(corpus_folder, tmp_path, launcher):
    arguments = [
        "--config",
        write_chain(tmp_path, "tokens", "joint"),
        "--data",
        corpus_folder,
        "--run",
        tmp_path / "run",
    ]
    command = [sys.executable, "-m", *launcher, RECIPE, *arguments, "--max-steps", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert steps(tmp_path / "run" / "2-joint") == [1]
    processes = 2 if "--nproc-per-node" in launcher else 1
    assert f"on {processes} x cpu" in (tmp_path / "run" / "2-joint" / "export" / "README.md").read_text()
