"""Folders of audio: the layouts of well-known corpora, which say text and speaker, and any other folder.

| layout | recognised by | id | text | speaker | language |
|---|---|---|---|---|---|
| LibriSpeech | `*.trans.txt` beside the audio | file name | that file | first part of the name | |
| LJSpeech | `metadata.csv` and `wavs/` | file name | third field of the line, or second | | |
| Common Voice | `clips/` and `*.tsv` | file name | `sentence` | `client_id` | `locale` |
| VCTK | `txt/` and `wav48…/` | file name | `txt/SPEAKER/NAME.txt` | folder | |
| flat | | path without suffix | | | |
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..audio import AUDIO_SUFFIXES
from ..files import files_below
from ..tokenization.sources.audio_folder import Listing

Row = dict[str, "str | int | None"]


class AudioFile(NamedTuple):
    """One file: its path below the root with `/`, and its size in bytes."""

    path: str
    size: int

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return Path(self.path).stem


def open_layout(root: str) -> Listing:
    """The audio below `root`, sorted by path, with what its layout tells.

    Raises:
        CorpusError: there is no audio, or two files have one id.
        OSError: a file of transcripts cannot be read.
    """
    files = sorted(_audio_files(root))
    folder = Path(root)
    kind, rows = "folder", _flat(files)
    if any(folder.glob("wav48*")) and (folder / "txt").is_dir():
        kind, rows = "VCTK", _vctk(folder, files)
    elif (folder / "metadata.csv").is_file() and (folder / "wavs").is_dir():
        kind, rows = "LJSpeech", _ljspeech(folder, files)
    elif (folder / "clips").is_dir() and any(folder.glob("*.tsv")):
        kind, rows = "Common Voice", _common_voice(folder, files)
    elif any(any(where.glob("*.trans.txt")) for where in {folder / os.path.dirname(file.path) for file in files}):
        kind, rows = "LibriSpeech", _librispeech(folder, files)
    pairs = zip(rows, files, strict=True)
    return Listing(kind, root, [{**row, "path": file.path, "size": file.size} for row, file in pairs])


def _audio_files(root: str) -> Iterator[AudioFile]:
    for path in files_below(root, AUDIO_SUFFIXES):
        yield AudioFile(Path(path).relative_to(root).as_posix(), os.path.getsize(path))


def _flat(files: list[AudioFile]) -> Iterator[Row]:
    for file in files:
        yield {"id": os.path.splitext(file.path)[0]}


def _librispeech(root: Path, files: list[AudioFile]) -> Iterator[Row]:
    folder: str | None = None
    texts: dict[str, str] = {}
    for file in files:
        if os.path.dirname(file.path) != folder:
            folder = os.path.dirname(file.path)
            texts = dict(
                line.partition(" ")[::2]
                for transcript in sorted((root / folder).glob("*.trans.txt"))
                for line in transcript.read_text("utf-8").splitlines()
            )
        yield {"id": file.stem, "text": texts.get(file.stem), "speaker": file.stem.partition("-")[0]}


def _ljspeech(root: Path, files: list[AudioFile]) -> Iterator[Row]:
    with open(root / "metadata.csv", encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE) if len(row) > 1]
    texts = {row[0]: next(filter(None, reversed(row[1:3])), None) for row in rows}
    for file in files:
        yield {"id": file.stem, "text": texts.get(file.stem)}


def _common_voice(root: Path, files: list[AudioFile]) -> Iterator[Row]:
    known: dict[str, Row] = {}
    for table in sorted(root.glob("*.tsv")):
        with open(table, encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                if row.get("path"):
                    known.setdefault(
                        Path(row["path"]).stem,
                        {"text": row.get("sentence"), "speaker": row.get("client_id"), "language": row.get("locale")},
                    )
    for file in files:
        yield {"id": file.stem, **known.get(file.stem, {})}


def _vctk(root: Path, files: list[AudioFile]) -> Iterator[Row]:
    for file in files:
        speaker = os.path.basename(os.path.dirname(file.path))
        transcript = root / "txt" / speaker / (re.sub(r"_mic\d$", "", file.stem) + ".txt")
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        yield {"id": file.stem, "text": text, "speaker": speaker}
