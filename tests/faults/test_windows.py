"""Modules import without what Windows lacks, and text files name their encoding."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "l3ac_tokenizer"

WITHOUT_UNIX = """
import builtins, importlib, os, pkgutil, signal
ABSENT = ("fcntl", "resource", "termios", "pwd", "grp")
whole = builtins.__import__
def without(name, globals=None, *rest):
    if name in ABSENT and str((globals or {}).get("__name__")).startswith("l3ac_tokenizer"):
        raise AssertionError(f"{globals['__name__']} imports {name}")
    return whole(name, globals, *rest)
import torch, transformers, datasets, torch.utils.data, transformers.processing_utils  # may use what they find
builtins.__import__ = without
for name in ("SIGHUP", "SIGKILL", "SIGCHLD", "SIGALRM", "SIGUSR1", "SIGUSR2", "alarm", "setitimer"):
    delattr(signal, name)
for name in ("killpg", "setsid", "getuid", "geteuid", "uname", "sched_getaffinity", "sysconf", "nice", "mkfifo"):
    kept = getattr(os, name)
    def absent(*arguments, name=name, kept=kept):
        import sys
        caller = sys._getframe(1).f_globals.get("__name__", "")
        assert not caller.startswith("l3ac_tokenizer"), f"{caller} calls os.{name}"
        return kept(*arguments)
    setattr(os, name, absent)
import l3ac_tokenizer
for module in pkgutil.walk_packages(l3ac_tokenizer.__path__, "l3ac_tokenizer."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError:  # an extra that is not installed here
            pass
"""


def test_every_module_imports_without_what_windows_lacks():
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def text_files_without_encoding(tree: ast.AST) -> list[int]:
    """Lines that open a text file in the encoding of the machine."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            modes = [each for each in [*node.args[1:2], *(w.value for w in node.keywords if w.arg == "mode")]]
            mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "r"
            if "b" not in str(mode):
                lines.append(node.lineno)
        elif isinstance(called, ast.Attribute) and called.attr in ("read_text", "write_text"):
            lines += [node.lineno] * (len(node.args) < (1 if called.attr == "read_text" else 2))
    return lines


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_files_name_their_encoding(path):
    if path.relative_to(PACKAGE).parts[:2] != ("training", "data"):
        assert not text_files_without_encoding(ast.parse(path.read_text(encoding="utf-8")))
