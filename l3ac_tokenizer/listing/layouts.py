"""Folders of audio in the layouts of well-known corpora, which state text and speaker, and any other folder.

| layout | recognized by | id | text | speaker | language |
|---|---|---|---|---|---|
| LibriSpeech | `*.trans.txt` beside the audio | file name | that file | first part of the name | |
| LJSpeech | `metadata.csv` and `wavs/` | file name | third field of the line, or second | | |
| Common Voice | `clips/` and `*.tsv` | file name | `sentence` | `client_id` | `locale` |
| VCTK | `txt/` and `wav48…/` | file name | `txt/SPEAKER/NAME.txt` | folder | |
| any other | | path without suffix | | | |
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ..audio import AUDIO_SUFFIXES
from ..files import files_below
from .table import read_table, table_columns


class ListedFile(NamedTuple):
    """An audio file of a corpus, and what the corpus states about it.

    Attributes:
        path: below the root, with `/`.
        id: its name in the corpus.
        text: transcript; None: unknown.
        speaker: None: unknown.
        language: None: unknown.
    """

    path: str
    id: str
    text: str | None = None
    speaker: str | None = None
    language: str | None = None


def read_layout(root: str | os.PathLike[str]) -> tuple[str, list[ListedFile]]:
    """The name of a folder's layout, and the audio below it, sorted by path.

    Raises:
        DataError: a table is damaged.
        OSError: a file of transcripts cannot be read.
    """
    folder = Path(root)
    paths = audio_below(folder)
    if any(folder.glob("wav48*")) and (folder / "txt").is_dir():
        return "VCTK", list(_vctk(folder, paths))
    if (folder / "metadata.csv").is_file() and (folder / "wavs").is_dir():
        return "LJSpeech", list(_ljspeech(folder, paths))
    if (folder / "clips").is_dir() and any(folder.glob("*.tsv")):
        return "Common Voice", list(_common_voice(folder, paths))
    if any(any(chapter.glob("*.trans.txt")) for chapter in {(folder / path).parent for path in paths}):
        return "LibriSpeech", list(_librispeech(folder, paths))
    return "folder", [ListedFile(path, os.path.splitext(path)[0]) for path in paths]


def audio_below(root: Path, suffixes: Collection[str] = AUDIO_SUFFIXES) -> list[str]:
    """Sorted paths, relative to `root` and with `/`, of the audio files at any depth of it."""
    return sorted(Path(path).relative_to(root).as_posix() for path in files_below(root, suffixes))


def librispeech_transcripts(chapter: Path) -> dict[str, str]:
    """Text of each utterance of a chapter's folder by its id, from `*.trans.txt`."""
    lines = (
        line.partition(" ")
        for transcript in sorted(chapter.glob("*.trans.txt"))
        for line in transcript.read_text("utf-8").splitlines()
    )
    return {name: text for name, _, text in lines if name}


def librispeech_speaker(utterance: str) -> str:
    """Speaker of an utterance `SPEAKER-CHAPTER-NUMBER`."""
    return utterance.partition("-")[0]


def ljspeech_transcripts(root: Path) -> dict[str, str | None]:
    """Normalized text of each clip of `metadata.csv`, or the original one where that is empty."""
    with open(root / "metadata.csv", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE) if row and row[0]]
    return {row[0]: next(filter(None, reversed(row[1:3])), None) for row in rows}


def common_voice_clips(table: Path) -> Iterator[ListedFile]:
    """The clips that a table of Common Voice lists, in its order, whether or not their audio exists.

    Raises:
        DataError: the table is damaged or has no column `path`.
        OSError: the table cannot be read.
    """
    for _, row in read_table(table, "path"):
        name = row["path"]
        yield ListedFile(f"clips/{name}", Path(name).stem, row.get("sentence"), row.get("client_id"), row.get("locale"))


def _librispeech(root: Path, paths: list[str]) -> Iterator[ListedFile]:
    chapter: str | None = None
    texts: dict[str, str] = {}
    for path in paths:
        if os.path.dirname(path) != chapter:
            chapter = os.path.dirname(path)
            texts = librispeech_transcripts(root / chapter)
        name = Path(path).stem
        yield ListedFile(path, name, texts.get(name), librispeech_speaker(name))


def _ljspeech(root: Path, paths: list[str]) -> Iterator[ListedFile]:
    texts = ljspeech_transcripts(root)
    for path in paths:
        name = Path(path).stem
        yield ListedFile(path, name, texts.get(name))


def _common_voice(root: Path, paths: list[str]) -> Iterator[ListedFile]:
    known: dict[str, ListedFile] = {}
    for table in sorted(root.glob("*.tsv")):
        if "path" in table_columns(table):  # a release has tables of other things, too
            for clip in common_voice_clips(table):
                known.setdefault(clip.id, clip)
    for path in paths:
        name = Path(path).stem
        yield known[name]._replace(path=path) if name in known else ListedFile(path, name)


def _vctk(root: Path, paths: list[str]) -> Iterator[ListedFile]:
    for path in paths:
        name, speaker = Path(path).stem, Path(path).parent.name
        transcript = root / "txt" / speaker / (re.sub(r"_mic\d$", "", name) + ".txt")
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        yield ListedFile(path, name, text, speaker)
