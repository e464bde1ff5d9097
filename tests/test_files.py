"""Files below a folder: links to folders are followed, loops end, and nothing is read twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from l3ac_tokenizer.cli.paths import plan_jobs
from l3ac_tokenizer.files import files_below
from l3ac_tokenizer.tokenization.sources.audio_folder import open_audio_folder


@pytest.fixture
def linked(tmp_path) -> Path:
    """A folder with a file, hidden ones, a link to itself, one to a folder in it, and one to a folder elsewhere."""
    root = tmp_path / "root"
    for name in (
        root / "own/a.wav",
        tmp_path / "elsewhere/b.WAV",
        root / "notes.txt",
        root / "._c.wav",
        root / ".x/d.wav",
    ):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()
    (root / "own/again").symlink_to(root)
    (root / "alias").symlink_to(root / "own")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    return root


def test_links_to_folders_are_followed_and_each_folder_is_read_once(linked):
    found = sorted(os.path.relpath(path, linked) for path in files_below(linked, {".wav"}, print))
    assert found == ["linked/b.WAV", "own/a.wav"]


def test_a_corpus_has_what_links_lead_to_once(linked):
    source = open_audio_folder(str(linked), allow_outside=True)
    assert [record.path for record in source.records(0, 2)] == ["linked/b.WAV", "own/a.wav"]


def test_the_command_line_mirrors_what_links_lead_to(linked):
    assert [job.target for job in plan_jobs([str(linked)], "out/", {".wav"}, [".l3ac"], allow_outside=True)] == [
        "out/linked/b.l3ac",
        "out/own/a.l3ac",
    ]
