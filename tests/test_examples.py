"""The programs of `examples/` run as they stand, and use nothing but the public API."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
from hub_stub import LocalHub
from networks import speech_like, tiny

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel
from l3ac_tokenizer.cli import main as l3ac
from l3ac_tokenizer.inference import encode_clips

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SENTENCE = ROOT / "l3ac_tokenizer" / "assets" / "demo.flac"
SAID = "One stream of whole numbers carries this sentence: about sixty of them a second, and nothing else."


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder, without network; returns what it prints."""

    def run(name: str, *arguments: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / f"{name}.py", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_docstring_and_imports_only_the_top_of_the_package(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert "python examples/" in (ast.get_docstring(tree) or "")
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module.startswith("l3ac_tokenizer.")]


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != "public_api"], ids=lambda path: path.stem)
def test_an_example_is_at_most_40_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 40


# --- command line and evaluation ------------------------------------------------------------------------------


def write_voice(folder: Path, *seeds: int, seconds: float = 2.0) -> Path:
    folder.mkdir()
    for seed in seeds:
        soundfile.write(folder / f"{seed}.wav", speech_like(round(seconds * 16_000), seed).numpy(), 16_000)
    return folder


def save_tiny(folder: Path) -> str:
    """A checkpoint of a tiny network."""
    tiny("tiny").save_pretrained(folder)
    CodecFeatureExtractor().save_pretrained(folder)
    return str(folder)


def test_finetune(run, tmp_path):
    voice, held_out = write_voice(tmp_path / "voice", 0, 1), write_voice(tmp_path / "held-out", 2)
    out = run("finetune", voice, "--held-out", held_out, "--run", "mine", "--minutes", 0.05)
    assert "| l3ac-1k-light |" in out and "| best |" in out
    assert (tmp_path / "mine" / "best" / "model.safetensors").is_file()


def test_push(run, tmp_path, monkeypatch, capsys):
    hub = LocalHub(tmp_path / "home")
    with monkeypatch.context() as patched:
        hub.install(patched)
        runpy.run_path(str(ROOT / "examples" / "push.py"))["push"]("l3ac-1k-light", "me/my-codec")
    pushed = capsys.readouterr().out
    assert hub.private == {"me/my-codec"}
    card = (hub.files("me/my-codec") / "README.md").read_text("utf-8")
    assert "import l3ac_tokenizer" in card and 'AutoModel.from_pretrained("me/my-codec")' in card
    loaded = run("push", "--load", "me/my-codec", SENTENCE, **hub.environment)
    assert loaded.splitlines()[0] == pushed.splitlines()[0].replace("pushed", "loaded")


def test_wer(run, tmp_path):
    pytest.importorskip("faster_whisper", reason="the extra `eval-offline` is not installed")
    out = run("wer", SENTENCE, "--text", SAID)
    assert "WER" in out and re.search(r"^\s*l3ac-1k-light +1 +0\.\d+", out, re.MULTILINE)
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_onnx_runtime(run, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    assert l3ac(["export-onnx", "--model", save_tiny(tmp_path / "tiny"), "-o", str(tmp_path / "onnx")]) == 0
    voice = write_voice(tmp_path / "voice", 0, seconds=0.3)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "torch.py").write_text("raise ImportError('torch is not installed')")
    assert "ids of" in run("onnx_runtime", "onnx", voice / "0.wav", "decoded.wav", PYTHONPATH=str(tmp_path / "blocked"))
    assert soundfile.info(tmp_path / "decoded.wav").frames == soundfile.info(voice / "0.wav").frames


@pytest.mark.slow
def test_ray_map(run, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    (write_voice(tmp_path / "voice", 0, 1) / "notes.wav").write_text("not audio")
    run("ray_map", "voice", "ids", RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=str(ROOT))
    rows = {Path(row["path"]).name: row for row in pq.read_table(tmp_path / "ids").to_pylist()}
    model = CodecModel.from_pretrained("l3ac-1k-light")
    for seed in (0, 1):
        (ids,) = encode_clips(model, [speech_like(32_000, seed).numpy()])
        assert rows[f"{seed}.wav"]["ids"] == ids.tolist()
    assert "notes.wav" in rows["notes.wav"]["error"] and rows["notes.wav"]["ids"] == []
