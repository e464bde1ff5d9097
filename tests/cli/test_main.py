from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from l3ac_tokenizer.cli import models as models_command
from l3ac_tokenizer.cli.main import COMMANDS
from l3ac_tokenizer.cli.options import UsageError
from l3ac_tokenizer.version import __version__

from .conftest import is_one_sentence


def test_help_names_every_command(l3ac):
    status, out, _ = l3ac("--help")
    assert status == 0
    for command in COMMANDS:
        assert command in out
        status, help_, _ = l3ac(command, "--help")
        assert status == 0 and "--json" in help_ and "--debug" in help_


def test_the_parser_loads_nothing_heavy():
    program = """
        import sys
        from l3ac_tokenizer.cli.main import make_parser
        make_parser().format_help()
        heavy = {"torch", "transformers", "numpy", "soundfile", "soxr", "matplotlib", "tqdm"}
        print(sorted(heavy & sys.modules.keys()))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_version(l3ac):
    status, out, _ = l3ac("--version")
    assert status == 0 and __version__ in out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("encod",),
        ("encode",),
        ("encode", "a.wav"),
        ("encode", "a.wav", "-o", "a.l3ac", "--coding", "zip"),
        ("encode", "a.wav", "-o", "a.l3ac", "--chunk-seconds", "0"),
        ("encode", "a.wav", "-o", "a.l3ac", "--chunk-seconds", "many"),
        ("encode", "a.wav", "-o", "a.l3ac", "--mod", "x"),
        ("encode", "a.wav", "-o", "a.wav"),
        ("encode", "a.wav", "-o", "-", "--json"),
        ("encode", "a.wav", "b.wav", "-o", "-"),
        ("encode", "-", "-o", "folder/"),
        ("decode", "a.l3ac", "-o", "a.mp3"),
        ("decode", "a.l3ac", "-o", "-", "--json"),
        ("decode", "a.l3ac", "-o", "a.wav", "--time-norm", "none"),
        ("info",),
        ("models", "extra"),
    ],
)
def test_wrong_usage_is_status_2(l3ac, tmp_path, arguments):
    status, out, err = l3ac(*arguments)
    assert status == 2 and out == "" and err != "" and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("the value\n  is wrong."), 1, "l3ac: the value is wrong."),
        (FileNotFoundError("no file."), 1, "l3ac: no file."),
        (UsageError("not so."), 2, "l3ac: not so."),
        (RuntimeError("a bug"), 1, "l3ac: unexpected RuntimeError: a bug (--debug shows where)."),
        (KeyboardInterrupt(), 130, "l3ac: interrupted."),
    ],
)
def test_errors_are_one_sentence_and_a_status(l3ac, monkeypatch, error, status, words):
    def fail(options):
        raise error

    monkeypatch.setattr(models_command, "run", fail)
    assert l3ac("models") == (status, "", words + "\n")
    assert is_one_sentence(words + "\n")


def test_debug_shows_the_traceback(l3ac, monkeypatch):
    def fail(options):
        raise ValueError("where?")

    monkeypatch.setattr(models_command, "run", fail)
    with pytest.raises(ValueError, match="where"):
        l3ac("models", "--debug")


def test_it_runs_as_a_process_and_survives_a_reader_that_leaves():
    command = [sys.executable, "-m", "l3ac_tokenizer.cli", "models"]
    done = subprocess.run(f"{subprocess.list2cmdline(command)} | head -n 2", shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("preset") and done.stderr == ""
