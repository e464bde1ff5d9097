"""Running the recipes as a user does, on a made corpus."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("speechbrain", exc_type=ImportError)
pytest.importorskip("sentencepiece")
pytest.importorskip("pyarrow")

sys.path.insert(0, str(Path(__file__).parent))

from made_speech import make_librispeech, make_ljspeech

RECIPES = Path(__file__).parents[2] / "recipes"
ASR = RECIPES / "LibriSpeech" / "ASR"
TTS = RECIPES / "LJSpeech" / "TTS"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def run(folder: Path, script: str, *arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> str:
    """Run a script of a recipe, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(RECIPES.parent)}
    done = subprocess.run(
        [*launcher, script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def load(path: Path) -> ModuleType:
    """A script of a recipe as a module, which finds those beside it."""
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"{path.parts[-3]}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(path.parent))


def asr_arguments(data: Path, cache: Path, output: Path, **overrides) -> list[str]:
    """`hparams/lstm_small.yaml`, made smaller still for the made corpus."""
    values = {
        "data_folder": data,
        "cached_data_folder": cache,
        "output_folder": output,
        "train_splits": "[train]",
        "dev_splits": "[dev]",
        "test_splits": "[test]",
        "test_csv": f"[{cache}/test.csv]",
        "output_neurons": 12,
        "encoder_dim": 32,
        "dnn_neurons": 48,
        "lr": 0.005,
        "max_batch_length_train": 10,
        "number_of_epochs": 12,
        **overrides,
    }
    return ["hparams/lstm_small.yaml", *(f"--{name}={value}" for name, value in values.items())]


def tts_arguments(data: Path, cache: Path, output: Path, **overrides) -> list[str]:
    """`hparams/transformer_small.yaml`, made smaller still for the made corpus."""
    values = {
        "data_folder": data,
        "cached_data_folder": cache,
        "output_folder": output,
        "d_model": 64,
        "d_ffn": 128,
        "enc_num_layers": 2,
        "dec_num_layers": 2,
        "lr": 0.01,
        "lr_warmup_steps": 50,
        "batch_size": 8,
        "number_of_epochs": 30,
        "max_seconds": 2,
        "samples_interval": 0,
        **overrides,
    }
    return ["hparams/transformer_small.yaml", *(f"--{name}={value}" for name, value in values.items())]


@pytest.fixture(scope="session")
def asr_corpus(tmp_path_factory) -> Path:
    return make_librispeech(tmp_path_factory.mktemp("libri"), {"train": 64, "dev": 8, "test": 12})


@pytest.fixture(scope="session")
def asr_run(asr_corpus, tmp_path_factory) -> dict[str, Path]:
    """Folders of a recogniser that was extracted for, trained and tested."""
    folder = tmp_path_factory.mktemp("asr")
    paths = {"data": asr_corpus, "cache": folder / "cache", "output": folder / "run"}
    arguments = asr_arguments(*paths.values())
    run(ASR, "extract.py", *arguments)
    run(ASR, "train.py", *arguments)
    return paths


@pytest.fixture(scope="session")
def tts_corpus(tmp_path_factory) -> Path:
    return make_ljspeech(tmp_path_factory.mktemp("lj") / "corpus", 64)


@pytest.fixture(scope="session")
def tts_run(tts_corpus, tmp_path_factory) -> dict[str, Path]:
    """Folders of a voice that was extracted for and trained."""
    folder = tmp_path_factory.mktemp("tts")
    paths = {"data": tts_corpus, "cache": folder / "cache", "output": folder / "run"}
    arguments = tts_arguments(*paths.values())
    run(TTS, "extract.py", *arguments)
    run(TTS, "train.py", *arguments)
    return paths
