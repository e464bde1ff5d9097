"""Folders of audio in the layouts of well-known corpora, which state text and speaker, and any other folder.

| layout | recognized by | id | text | speaker | language |
|---|---|---|---|---|---|
| LibriSpeech | `*.trans.txt` beside the audio | file name | that file | first part of the name | |
| LJSpeech | `metadata.csv` and `wavs/` | file name | third field of the line, or second | | |
| Common Voice | `clips/` and `*.tsv` | file name | `sentence` | `client_id` | `locale` |
| VCTK | `txt/` and `wav48…/` | file name | `txt/SPEAKER/NAME.txt` | folder | |
| AudioFolder | `metadata.csv` or `.jsonl` with a column `file_name` | path without suffix | as in a manifest | | |
| any other | | path without suffix | | | |
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from ..files import is_visible
from ..names import is_within
from .folder import audio_below
from .manifest import load_manifest
from .table import read_table, table_columns
from .text import read_lines, read_text


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


class Layout(NamedTuple):
    """A folder of audio, read according to its layout.

    Attributes:
        name: of the layout.
        files: sorted by path.
        remarks: what is left out, lacks a transcript, or got another id than its file name: one sentence each.
    """

    name: str
    files: list[ListedFile]
    remarks: list[str]


def read_layout(root: str | os.PathLike[str], *, allow_outside: bool = False) -> Layout:
    """The audio below a folder, with what the folder's layout states about it; ids are unique.

    Links to places outside the folder are followed with `allow_outside` only, to audio and to transcripts.

    Raises:
        DataError: a table or transcript is damaged.
        OSError: a file of transcripts cannot be read.
    """
    folder = Path(root)
    paths, remarks = audio_below(folder, allow_outside=allow_outside)
    name, files, transcribed = _read(folder, paths, None if allow_outside else folder)
    remarks += _unmatched(name, files, transcribed)
    files, renamed = _with_unique_ids(files)
    return Layout(name, files, remarks + renamed)


def _read(folder: Path, paths: list[str], within: Path | None) -> tuple[str, list[ListedFile], Collection[str]]:
    """Name of the layout, the files, and the ids that its transcripts, those `within` a folder, have."""
    if visible_files(folder, "wav48*", within) and (folder / "txt").is_dir():
        return "VCTK", list(_vctk(folder, paths, within)), ()
    for table in (folder / "metadata.jsonl", folder / "metadata.csv"):
        if _is_file(table, within) and "file_name" in next(iter(read_lines(table)), ""):
            return "AudioFolder", *_audio_folder(table, paths)
    if _is_file(folder / "metadata.csv", within) and (folder / "wavs").is_dir():
        texts = ljspeech_transcripts(folder)
        return "LJSpeech", [ListedFile(path, Path(path).stem, texts.get(Path(path).stem)) for path in paths], texts
    if (folder / "clips").is_dir() and visible_files(folder, "*.tsv", within):
        known = _common_voice(folder, within)
        return "Common Voice", [_known_clip(path, known) for path in paths], known
    spoken: dict[str, str] = {}
    for chapter in sorted({(folder / path).parent for path in paths}):
        spoken |= librispeech_transcripts(chapter, within)
    if spoken:
        return "LibriSpeech", list(_librispeech(paths, spoken)), spoken
    return "folder", [ListedFile(path, os.path.splitext(path)[0]) for path in paths], ()


def _unmatched(name: str, files: list[ListedFile], transcribed: Collection[str]) -> list[str]:
    """Remarks on clips without transcripts and transcripts without clips."""
    remarks = []
    without_text = [file.path for file in files if file.text is None]
    if without_text and name != "folder":
        remarks.append(f"{len(without_text)} of {len(files)} clips have no transcript, such as {without_text[0]}.")
    ids = {file.id for file in files}
    without_audio = [each for each in transcribed if each not in ids]
    if without_audio:
        remarks.append(f"{len(without_audio)} transcripts have no audio, such as that of {without_audio[0]}.")
    return remarks


def _with_unique_ids(files: list[ListedFile]) -> tuple[list[ListedFile], list[str]]:
    """Files with the same id get their path as the id, with the suffix where paths differ in that alone."""
    remarks = []
    for rename in (lambda path: os.path.splitext(path)[0], lambda path: path):
        counts = Counter(file.id for file in files)
        shared = [file for file in files if counts[file.id] > 1]
        files = [file._replace(id=rename(file.path)) if counts[file.id] > 1 else file for file in files]
        if shared:
            remarks = [f"{len(shared)} files share an id, such as {shared[0].path}: their ids are their paths."]
    return files, remarks


def visible_files(folder: Path, pattern: str, within: str | os.PathLike[str] | None = None) -> list[Path]:
    """Sorted files and folders in a folder whose names fit a pattern; hidden ones, which `glob` gives, are not.

    Links that lead out of `within` are left out; None: they are not.
    """
    found = (path for path in folder.glob(pattern) if is_visible(path.name))
    return sorted(path for path in found if within is None or is_within(path, within))


def _is_file(path: Path, within: Path | None) -> bool:
    return path.is_file() and (within is None or is_within(path, within))


def librispeech_transcripts(chapter: Path, within: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Text of each utterance of a chapter's folder by its id, from `*.trans.txt` (`within`: see `visible_files`)."""
    transcripts = visible_files(chapter, "*.trans.txt", within)
    lines = (line.partition(" ") for transcript in transcripts for line in read_lines(transcript))
    return {name: text for name, _, text in lines if name}


def librispeech_speaker(utterance: str) -> str:
    """Speaker of an utterance `SPEAKER-CHAPTER-NUMBER`."""
    return utterance.partition("-")[0]


def ljspeech_transcripts(root: Path) -> dict[str, str | None]:
    """Normalized text of each clip of `metadata.csv`, or the original one where that is empty."""
    rows = [row for row in (line.split("|") for line in read_lines(root / "metadata.csv")) if row[0]]
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


def _librispeech(paths: list[str], texts: dict[str, str]) -> Iterator[ListedFile]:
    for path in paths:
        name = Path(path).stem
        yield ListedFile(path, name, texts.get(name), librispeech_speaker(name))


def _common_voice(root: Path, within: Path | None) -> dict[str, ListedFile]:
    """Clips that the tables list, by id; a release has tables of other things, too."""
    known: dict[str, ListedFile] = {}
    for table in visible_files(root, "*.tsv", within):
        if "path" in table_columns(table):
            for clip in common_voice_clips(table):
                known.setdefault(clip.id, clip)
    return known


def _audio_folder(table: Path, paths: list[str]) -> tuple[list[ListedFile], Collection[str]]:
    listed = {os.path.normpath(row.path): row.values for row in load_manifest(table).rows}
    files = []
    for path in paths:
        values = listed.get(os.path.normpath(path), {})
        known = {name: None if values.get(name) is None else str(values[name]) for name in _STATED}
        files.append(ListedFile(path, os.path.splitext(path)[0], **known))
    return files, [os.path.splitext(path)[0] for path in listed]


_STATED = ("text", "speaker", "language")


def _known_clip(path: str, known: dict[str, ListedFile]) -> ListedFile:
    name = Path(path).stem
    return known[name]._replace(path=path) if name in known else ListedFile(path, name)


def _vctk(root: Path, paths: list[str], within: Path | None) -> Iterator[ListedFile]:
    for path in paths:
        name, speaker = Path(path).stem, Path(path).parent.name
        transcript = root / "txt" / speaker / (re.sub(r"_mic\d$", "", name) + ".txt")
        text = read_text(transcript).strip() if _is_file(transcript, within) else None
        yield ListedFile(path, name, text, speaker)
