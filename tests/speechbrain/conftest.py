"""Recipes run as by a user, on a synthetic corpus."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock

pytest.importorskip("speechbrain", exc_type=ImportError)
pytest.importorskip("sentencepiece")
pytest.importorskip("pyarrow")

# Names that SpeechBrain has moved: Hypothesis asks every loaded module for its file, and these raise where the package
# that they stand for is missing.
for _name in [name for name, module in sys.modules.items() if type(module).__name__ == "DeprecatedModuleRedirect"]:
    del sys.modules[_name]

sys.path.insert(0, str(Path(__file__).parent))

from made_speech import make_librispeech, make_ljspeech  # noqa: E402

RECIPES = Path(__file__).parents[2] / "recipes"
ASR = RECIPES / "LibriSpeech" / "ASR"
TTS = RECIPES / "LJSpeech" / "TTS"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def run(folder: Path, script: str, *arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> str:
    """Run a script of a recipe and return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(RECIPES.parent)}
    done = subprocess.run(
        [*launcher, script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stderr + done.stdout)[-4000:]  # SpeechBrain logs a failure to standard output
    return done.stdout + done.stderr


def load(path: Path) -> ModuleType:
    """Import a script of a recipe as a module that can import its siblings."""
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"{path.parts[-3]}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(path.parent))


def asr_arguments(data: Path, cache: Path, output: Path, **overrides) -> list[str]:
    """Arguments that shrink `hparams/lstm_small.yaml` for the synthetic corpus."""
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
        "dropout": 0.1,
        "id_jitter": 0.0,
        "drop_spans": 0,
        "lr": 0.01,
        "max_batch_length_train": 5,
        "number_of_epochs": 40,
        **overrides,
    }
    return ["hparams/lstm_small.yaml", *(f"--{name}={value}" for name, value in values.items())]


def tts_arguments(data: Path, cache: Path, output: Path, **overrides) -> list[str]:
    """Arguments that shrink `hparams/transformer_small.yaml` for the synthetic corpus."""
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
        "number_of_epochs": 45,
        "split_ratio": "[80, 5, 15]",
        "max_seconds": 2,
        "samples_interval": 45,
        "temperature": 0.5,
        **overrides,
    }
    return ["hparams/transformer_small.yaml", *(f"--{name}={value}" for name, value in values.items())]


@pytest.fixture(scope="session")
def asr_run(tmp_path_factory) -> dict[str, Path]:
    """Folders of a recognizer after extraction, training and test."""

    def make(folder: Path) -> None:
        make_librispeech(folder / "data", {"train": 64, "dev": 8, "test": 12})
        arguments = asr_arguments(folder / "data", folder / "cache", folder / "run")
        run(ASR, "extract.py", *arguments)
        run(ASR, "train.py", *arguments)

    return made_once(tmp_path_factory, "asr", make)


@pytest.fixture(scope="session")
def tts_run(tmp_path_factory) -> dict[str, Path]:
    """Folders of a text-to-speech model after extraction and training."""

    def make(folder: Path) -> None:
        make_ljspeech(folder / "data", 64)
        arguments = tts_arguments(folder / "data", folder / "cache", folder / "run")
        run(TTS, "extract.py", *arguments)
        run(TTS, "train.py", *arguments)

    return made_once(tmp_path_factory, "tts", make)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> dict[str, Path]:
    """Folders filled by `make`, once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return {"data": folder / "data", "cache": folder / "cache", "output": folder / "run"}
