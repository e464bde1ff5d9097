"""No code of strangers runs: not that of a model's configuration, and none that lies in the working directory."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l3ac_tokenizer.children import module_command, spawn_context
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.evaluation import memory
from l3ac_tokenizer.evaluation.run import EvaluationOptions
from l3ac_tokenizer.evaluation.scorers.registry import open_scorer
from l3ac_tokenizer.evaluation.scorers.speaker import open_embedder
from l3ac_tokenizer.modeling import CodecModel
from l3ac_tokenizer.speechbrain.recognition import TokenRecognizer
from l3ac_tokenizer.trust import UntrustedCodeError

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("l3ac_tokenizer", "recipes", "benchmarks", "hf_integration", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "proposal" not in path.parts
]

TRUSTING: dict[str, Callable[[str], object]] = {
    "recognizer": lambda folder: TokenRecognizer(folder),
    "speaker embedding": lambda folder: open_embedder(f"speechbrain:{folder}"),
    "scorer": lambda folder: open_scorer("speaker", f"speechbrain:{folder}", "cpu"),
    "evaluation": lambda folder: EvaluationOptions(scorers=(("speaker", f"speechbrain:{folder}"),)).make_scorer(),
}
"""Entrances that take a model of SpeechBrain."""


@pytest.fixture
def booby_trap(tmp_path) -> tuple[str, Path]:
    """A model of SpeechBrain that makes a folder when its configuration is loaded."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/hyperparams.yaml").write_text(f"x: !apply:os.mkdir ['{tmp_path}/ran']\ncheckpointer: {{}}\n")
    return str(tmp_path / "run"), tmp_path / "ran"


@pytest.mark.parametrize("entrance", TRUSTING)
def test_a_configuration_that_is_a_program_needs_trust(booby_trap, entrance):
    folder, ran = booby_trap
    with pytest.raises(UntrustedCodeError, match="--trust"):
        TRUSTING[entrance](folder)
    assert not ran.exists()


def test_it_runs_where_it_is_trusted(booby_trap):
    folder, ran = booby_trap
    with pytest.raises(Exception):  # noqa: B017 - it is no whole model
        TokenRecognizer(folder, trust=True)
    assert ran.exists()


def test_the_command_says_what_trust_is_for(tmp_path, monkeypatch, capsys):
    import numpy as np
    import soundfile

    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", 0.1 * np.sin(np.arange(8000) / 9), 16_000)
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    command = ["evaluate", "m.csv", "-o", "out", "--codec", "original", "--speaker", "speechbrain:someone/else"]
    assert main(command) == 1 and "give --trust" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- transformers


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))


def loads_a_model(call: ast.Call) -> bool:
    """Whether a call loads something of transformers that may bring code: an Auto class, or a pipeline."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "pipeline" and any(keyword.arg == "model" for keyword in call.keywords)
    named = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    return named and function.attr == "from_pretrained" and re.match("Auto|auto|kind", function.value.id) is not None


def test_every_call_of_transformers_refuses_code():
    ours = [path for path in SOURCES if path.parent.name != "examples"]  # users' programs, where transformers asks
    found = [(path, call) for path in ours for call in calls(path) if loads_a_model(call)]
    without = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in found
        if "trust_remote_code" not in {keyword.arg for keyword in call.keywords}
        and None not in {keyword.arg for keyword in call.keywords}  # **options, tested by what they do
    ]
    assert len(found) > 8 and without == []


def test_code_of_a_checkpoint_is_refused(tmp_path):
    config = '{"model_type": "mine", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}'
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError):
        CodecModel.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------------------------------- child processes


@pytest.fixture
def mined_folder(tmp_path, monkeypatch) -> Path:
    """A working directory with modules that leave a mark where they are imported."""
    for name in ("multiprocessing", "json", "runpy", "torch", "numpy", "l3ac_tokenizer", "accelerate", "encodings"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


def measured() -> None:
    memory.measure_pass("builtins:print", [], 1.0, 1, 1)


def spawned() -> None:
    process = spawn_context().Process(target=print)
    process.start()
    process.join()
    assert process.exitcode == 0


def module() -> None:
    import subprocess

    assert subprocess.run(module_command("timeit", "-n1", "-r1"), capture_output=True).returncode == 0


@pytest.mark.parametrize("start", [measured, spawned, module])
def test_children_import_nothing_from_the_working_directory(mined_folder, start):
    start()
    assert not mined_folder.exists(), mined_folder.read_text()


def test_the_mines_work(mined_folder):
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    assert mined_folder.exists()


def test_every_child_is_started_by_the_safe_ways():
    for path in SOURCES:
        text = path.read_text("utf-8")
        if path.name != "children.py":
            assert 'get_context("spawn")' not in text, path
            assert not re.search(r'(?<!"-P", )"-m", "', text), path
