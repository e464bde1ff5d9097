from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from .corpora import rows_of

RECIPE = str(Path(__file__).parents[2] / "recipes" / "tokenize_corpus.py")


def test_the_recipe_does_what_the_command_does(tiny_model, corpus, tmp_path, monkeypatch, capsys):
    tiny_model.save_pretrained(tmp_path / "model")
    arguments = [RECIPE, str(corpus), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", arguments)
    capsys.readouterr()
    runpy.run_path(RECIPE, run_name="__main__")
    assert json.loads(capsys.readouterr().out)["clips"] == len(rows_of(tmp_path / "out")) == 10
    monkeypatch.setattr(sys, "argv", [RECIPE, str(tmp_path / "gone"), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="tokenize_corpus: no file or folder"):
        runpy.run_path(RECIPE, run_name="__main__")
