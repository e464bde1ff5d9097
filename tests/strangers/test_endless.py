"""Reading that never ends: pipes and devices are not opened, and offsets only advance."""

from __future__ import annotations

import os
from pathlib import Path

import hostile
import pytest
from test_sizes import ENTRANCES

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.tokenization import open_source

NAMES = {
    "read_l3ac": "x.l3ac",
    "l3ac info": "x.l3ac",
    "audio": "x.wav",
    "training": "x.wav",
    "manifest": "x.jsonl",
    "YAML": "x.yaml",
    "corpus": "x.parquet",
    "tables of datasets": "x.csv",
}
"""Entrances that open a file of a name, and such a name."""
SOURCES = ("x.tar", "x.parquet", "x.csv", "x.tsv", "x.json", "x.jsonl")


def irregular(path: Path, kind: str) -> Path:
    """A pipe without a writer, a link to an endless device, or a folder."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("entrance", NAMES)
def test_only_regular_files_are_opened(entrance, kind, limited, tmp_path):
    path = irregular(tmp_path / NAMES[entrance], kind)
    outcome = limited(lambda: ENTRANCES[entrance](path))
    assert outcome.is_refusal, outcome


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", SOURCES)
def test_only_regular_files_are_corpora(name, kind, limited, tmp_path):
    path = irregular(tmp_path / name, kind)
    outcome = limited(lambda: len(open_source(str(path))))
    assert outcome.is_refusal, outcome


def test_a_stream_without_end_is_not_copied_for_ever(limited, monkeypatch):
    class Endless:
        name = "the stream"

        def seekable(self):
            return False

        def read(self, count=-1):
            return bytes(count)

    monkeypatch.setenv("L3AC_STREAM_BYTES", str(1 << 24))
    outcome = limited(lambda: read_audio(Endless(), 16_000))
    assert outcome.is_refusal and "the stream goes on after" in outcome.message


@pytest.mark.parametrize("size", [-512, -1024, -513, -(1 << 40)])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S", b"5"])
def test_a_member_of_a_negative_size_ends_the_archive(kind, size, limited, tmp_path):
    path = hostile.tar(tmp_path / "x.tar", hostile.tar_member("bad.flac", size, kind=kind))
    outcome = limited(lambda: [record.error for record in open_source(str(path)).records(0, 2)])
    assert outcome.value is not None, outcome
    assert outcome.value[0] is None and "is damaged after" in outcome.value[1]


def test_a_pax_header_of_digits_ends_the_archive(limited, tmp_path):
    header = hostile.tar_member("pax", 1 << 19, b"1" * (1 << 19), b"x")
    path = hostile.tar(tmp_path / "x.tar", header)
    outcome = limited(lambda: [record.error for record in open_source(str(path)).records(0, 2)])
    assert outcome.value and outcome.value[0] is None and "digits" in outcome.value[1]


@pytest.mark.parametrize("make", [hostile.broken_ogg, hostile.mp3_of_headers, hostile.endless_ape])
def test_a_search_in_audio_ends_soon(make, limited, tmp_path):
    path = make(tmp_path / "x.mp3")
    outcome = limited(lambda: len(read_audio(path, 16_000)[0]))
    assert not outcome.signal and (outcome.value or outcome.is_refusal), outcome


def test_a_normalizer_takes_linear_time(limited):
    from l3ac_tokenizer.asr import normalized_words

    for text in ("[" * 100_000, "(" * 100_000, " " * 100_000 + "x", "one " * 25_000, "<a" * 50_000, "1 " * 50_000):
        assert not limited(lambda text=text: len(normalized_words(text))).signal, text[:10]
    for text in ("um " * 40_000, "[x] " * 30_000):
        assert not limited(lambda text=text: len(normalized_words(text))).signal, text[:10]
    spoken = "He said [noise] (well) it's twenty one (dogs"
    assert normalized_words(spoken) == ["he", "said", "it", "is", "21", "dogs"]
    long = "It is twenty one. " * 2_000
    assert normalized_words(long) == ["it", "is", "21"] * 2_000
    assert limited(lambda: normalized_words("x" * 200_000)).is_refusal
