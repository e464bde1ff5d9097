from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.cli import main

RATE = 16000
TINY = {
    "feature_dim": 16,
    "encoder_dims": [4, 6, 8, 12],
    "decoder_dims": [16, 12, 8, 8, 6],
    "num_attention_heads": 2,
    "attention_window": 20,
}


def save_model(folder: Path, seed: int = 0, **changes) -> L3ACModel:
    torch.manual_seed(seed)
    model = L3ACModel(L3ACConfig(**{**TINY, **changes})).eval()
    with torch.no_grad():
        model.quantizer.project_in.weight.mul_(8)  # ids that vary
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, tuple[str, L3ACModel]]:
    """Directories of tiny random models: two of one shape, and one with another codebook."""
    root = tmp_path_factory.mktemp("models")
    changes = {"tiny": {}, "twin": {"seed": 1}, "wide": {"levels": [9, 9, 9, 7, 7, 7]}}
    return {name: (str(root / name), save_model(root / name, **change)) for name, change in changes.items()}


@pytest.fixture
def tiny(models) -> str:
    return models["tiny"][0]


@pytest.fixture
def tiny_model(models) -> L3ACModel:
    return models["tiny"][1]


@pytest.fixture(scope="session")
def bundled() -> L3ACModel:
    """Trained weights, for what compares audio: random ones amplify float32 rounding to 3e-4."""
    return L3ACModel.from_pretrained("l3ac-1k").eval()


@pytest.fixture
def l3ac(capsys, tmp_path, monkeypatch):
    """Run a command in an empty working folder: (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse
            status = exit_.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def l3ac_json(l3ac):
    def run(*arguments):
        status, out, err = l3ac(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return run


def speechlike(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Gliding harmonics under a syllable-like envelope, (T,) float32 below 1."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (120 + 7 * seed) * (time + 0.02 * np.sin(3 * time))
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.2 * voice * np.sin(2 * np.pi * 2 * time) ** 2).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def is_one_sentence(err: str) -> bool:
    """One line from l3ac that begins with its name and ends like a sentence, and no traceback."""
    return err.count("\n") == 1 and err.startswith("l3ac: ") and err[-2] in ".?:)" and "Traceback" not in err
