"""The YAML files load, and the large ones have the sizes of DASB."""

from __future__ import annotations

import pytest
from conftest import ASR, TTS
from hyperpyyaml import load_hyperpyyaml

FOLDERS = {"data_folder": "corpus", "cached_data_folder": "cache"}


def load_hparams(path, **overrides):
    with open(path, encoding="utf-8") as file:
        return load_hyperpyyaml(file, {**FOLDERS, **overrides})


def parameters(module) -> float:
    """Number of parameters in millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_recognition_at_the_papers_size_has_the_settings_of_dasb(tmp_path):
    hparams = load_hparams(ASR / "hparams" / "lstm.yaml", output_folder=str(tmp_path))
    wanted = {
        "dnn_layers": 2,
        "dnn_neurons": 1024,
        "dropout": 0.2,
        "lr": 1e-4,
        "weight_decay": 5e-4,
        "number_of_epochs": 20,
        "token_type": "char",
        "embedding": "codes",
        "grad_accumulation_factor": 2,
        "max_batch_length_train": 850,
        "max_batch_ex": 128,
    }
    assert {name: hparams[name] for name in wanted} == wanted
    assert hparams["model_opt_class"].keywords["betas"] == (0.9, 0.98)
    scheduler = hparams["scheduler"]
    assert type(scheduler).__name__ == "NewBobScheduler"
    assert (scheduler.improvement_threshold, scheduler.annealing_factor, scheduler.patient) == (0.0025, 0.8, 0)
    search = {"beam_size": 100, "beam_prune_logp": -12.0, "token_prune_min_logp": -1.2, "alpha": 0.8, "beta": 1.2}
    assert {name: hparams["test_beam_search"][name] for name in search} == search
    assert 41 < parameters(hparams["model"]) < 44


def test_speech_at_the_papers_size_is_as_large_as_tokotron(tmp_path):
    hparams = load_hparams(TTS / "hparams" / "transformer.yaml", output_folder=str(tmp_path))
    wanted = {
        "enc_num_layers": 6,
        "dec_num_layers": 12,
        "d_model": 512,
        "nhead": 4,
        "d_ffn": 2048,
        "transformer_dropout": 0.2,
        "target_dropout": 0.2,
        "id_drop": 0.0,
        "guided_attention_weight": 50.0,
        "guided_attention_sigma": 0.5,
        "number_of_epochs": 150,
        "batch_size": 16,
        "lr": 0.001,
        "lr_warmup_steps": 10_000,
        "head": "chained",
    }
    assert {name: hparams[name] for name in wanted} == wanted
    assert type(hparams["lr_annealing"]).__name__ == "NoamScheduler"
    assert hparams["opt_class"].keywords["lr"] == pytest.approx(1e-7)
    assert hparams["num_characters"] == len(hparams["characters"])
    assert 65 < parameters(hparams["model"]) < 75


@pytest.mark.parametrize(
    ("path", "millions"), [(ASR / "hparams" / "lstm_small.yaml", 2), (TTS / "hparams" / "transformer_small.yaml", 3)]
)
def test_the_small_sizes_are_small(path, millions, tmp_path):
    assert parameters(load_hparams(path, output_folder=str(tmp_path))["model"]) < millions


@pytest.mark.parametrize("path", [ASR / "hparams" / "lstm.yaml", TTS / "hparams" / "transformer.yaml"])
def test_a_corpus_has_to_be_named(path):
    with open(path, encoding="utf-8") as file, pytest.raises(ValueError, match="data_folder"):
        load_hyperpyyaml(file)


@pytest.mark.parametrize("path", [ASR / "hparams", TTS / "hparams"])
def test_the_small_size_has_every_setting_of_the_papers(path):
    small, paper = sorted(path.glob("*.yaml"), key=lambda file: "small" not in file.name)
    names = [
        [line.partition(":")[0] for line in file.read_text("utf-8").splitlines() if line[:1].isalpha()]
        for file in (small, paper)
    ]
    assert [name for name in names[0] if name != "encoder_type"] == names[1]
