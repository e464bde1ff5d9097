"""Which clips there are: LibriSpeech, Common Voice, MTG-Jamendo and FSD50K by their layouts, manifests, any folder.

Nothing is decoded here, and no file but the data sets' own tables is opened.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...audio import AUDIO_SUFFIXES
from ...files import files_below
from .corpus import Clip, DataError

logger = logging.getLogger(__name__)

JAMENDO_PIECE = 25.0
"""Seconds of the pieces into which the published training cuts the tracks of MTG-Jamendo."""

Reader = Callable[[Path, bool], "list[Clip] | None"]
"""Clips of a data set's root, for training (True) or for choosing (False); None if it is not that data set."""


def librispeech(root: Path, training: bool) -> list[Clip] | None:
    """`train-clean-100` and `train-clean-360` as published; `dev-clean` to choose. Other parts: name their folder."""
    train, dev = ("train-clean-100", "train-clean-360"), ("dev-clean",)
    if not any((root / name).is_dir() for name in train + dev):
        return None
    paths = [path for name in (train if training else dev) for path in _below(root / name, {".flac"})]
    return [Clip(path.as_posix(), "librispeech") for path in paths]


def common_voice(root: Path, training: bool) -> list[Clip] | None:
    """The clips that `train.tsv` (to choose: `dev.tsv`) lists in its column `path`, in `clips/`."""
    tables = [root / "dev.tsv", root / "train.tsv"]
    if not (root / "clips").is_dir() or not any(table.is_file() for table in tables):
        return None
    names = (row["path"] for row in table_rows(tables[training], "path"))
    return [Clip((root / "clips" / name).as_posix(), "common_voice") for name in names]


def mtg_jamendo(root: Path, training: bool) -> list[Clip] | None:
    """Tracks of split 0's `autotagging-train.tsv` (to choose: `-validation`) in pieces of 25 s, the last one shorter.

    The table lies in `root` or where the data set's repository has it (`data/splits/split-0`); the audio, folders
    `00` to `99`, in `root` or a folder of it. A track is `00/1234.mp3` or, low-rate, `00/1234.low.mp3`.
    """
    names = ["autotagging-validation.tsv", "autotagging-train.tsv"]
    homes = [root, root / "splits/split-0", root / "data/splits/split-0"]
    home = next((home for home in homes if any((home / name).is_file() for name in names)), None)
    if home is None:
        return None
    places = [place for place in (root, *sorted(root.iterdir())) if (place / "00").is_dir()]
    if not places:
        raise DataError(f"{root} has MTG-Jamendo's tables but no folder 00 with audio: unpack the audio into it.")
    low = any((places[0] / "00").glob("*.low.mp3"))
    clips = []
    for row in table_rows(home / names[training], "PATH", "DURATION"):
        track = places[0] / row["PATH"]
        path = (track.with_suffix(".low.mp3") if low else track).as_posix()
        starts = range(max(1, int(-(-float(row["DURATION"]) // JAMENDO_PIECE))))
        clips += [Clip(path, "mtg_jamendo", start * JAMENDO_PIECE, JAMENDO_PIECE) for start in starts]
    return clips


def fsd50k(root: Path, training: bool) -> list[Clip] | None:
    """The part `train` of `FSD50K.dev_audio` (to choose: `val`), as `FSD50K.ground_truth/dev.csv` splits it.

    Without that table all of it is trained on, as published. `FSD50K.eval_audio` is the test split and not taken.
    """
    audio, table = root / "FSD50K.dev_audio", root / "FSD50K.ground_truth" / "dev.csv"
    if not audio.is_dir():
        return [] if (root / "FSD50K.eval_audio").is_dir() else None
    if table.is_file():
        wanted = "train" if training else "val"
        rows = table_rows(table, "fname", "split")
        paths = [audio / f"{row['fname']}.wav" for row in rows if row["split"] == wanted]
    elif training:
        paths = sorted(audio.glob("*.wav"))
    else:
        raise DataError(f"{table} is missing, which says what of FSD50K is to choose by: put it there.")
    return [Clip(path.as_posix(), "fsd50k") for path in paths]


def manifest(file: Path, training: bool) -> list[Clip] | None:
    """Rows of a CSV, TSV or JSON-lines file: `path` (relative to it), and if wanted `start`, `seconds`, `domain`."""
    if file.suffix not in (".csv", ".tsv", ".jsonl"):
        return None
    clips = []
    for line, row in _json_rows(file) if file.suffix == ".jsonl" else _numbered_rows(file, "path"):
        try:
            start, seconds = float(row.get("start") or 0), float(row["seconds"]) if row.get("seconds") else None
        except (TypeError, ValueError) as error:
            raise DataError(f"{file}, line {line}: start and seconds must be numbers ({error}).") from error
        path = file.absolute().parent / row["path"]
        clips.append(Clip(path.as_posix(), row.get("domain") or file.stem, start, seconds))
    return clips


def folder(root: Path, training: bool) -> list[Clip] | None:
    """Every audio file below a folder; the data set bears the folder's name."""
    if not root.is_dir():
        return None
    name = root.absolute().name
    return [Clip(path.as_posix(), name) for path in _below(root, AUDIO_SUFFIXES)]


READERS: tuple[Reader, ...] = (librispeech, common_voice, mtg_jamendo, fsd50k, manifest, folder)
"""In the order in which they are asked; the last ones take what no other knows."""


def find_clips(
    sources: Sequence[str | Path], *, domains: Sequence[str], default_domain: str, training: bool = True
) -> list[Clip]:
    """The clips of all sources, each read by the first of `READERS` that knows its layout.

    Args:
        sources: Roots of data sets, folders, manifests.
        domains: Where given, a clip belongs to the innermost folder of its path that bears one of these names,
            else to its data set if that is one of them, else to `default_domain`. Without any it belongs to its
            data set.
        default_domain: See there.
        training: The data sets' training parts; else those to choose by.

    Raises:
        DataError: a source is missing or holds no audio.
    """
    clips: dict[Clip, None] = {}  # in order, each once
    for source in map(Path, sources):
        read = ((reader, reader(source, training)) for reader in READERS) if source.exists() else iter(())
        reader, found = next(((reader, found) for reader, found in read if found is not None), (None, None))
        if reader is None or found is None:
            raise DataError(f"{source} is neither a folder nor a manifest (.csv, .tsv, .jsonl): give one of them.")
        name = reader.__name__
        if not found:
            part = "to train on" if training else "to choose by"
            raise DataError(f"{source}, read as {name}, has no audio {part}: name the folder that has it.")
        logger.info("%s: read as %s, %d clips", source, name, len(found))
        for clip in found:
            clips[replace(clip, domain=_domain(clip, domains, default_domain))] = None
    return list(clips)


def _domain(clip: Clip, domains: Sequence[str], default: str) -> str:
    if not domains:
        return clip.domain
    folders = reversed(Path(clip.path).parts[:-1])
    return next((name for name in (*folders, clip.domain) if name in domains), default)


def _below(root: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(map(Path, files_below(root, suffixes)))


def table_rows(table: Path, *needed: str) -> Iterator[dict[str, Any]]:
    """Values of a TSV (which quotes nothing) or CSV, as its header names the columns."""
    return (row for _, row in _numbered_rows(table, *needed))


def _numbered_rows(table: Path, *needed: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same with the number of each line."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        if table.suffix == ".tsv":
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.DictReader(file)
        missing = [name for name in needed if name not in (rows.fieldnames or [])]
        if missing:
            raise DataError(f"{table} has no column {missing[0]!r}; its header is {rows.fieldnames}.")
        for row in rows:
            if empty := [name for name in needed if not row[name]]:
                raise DataError(f"{table}, line {rows.line_num}, has no {empty[0]}: give it one, or remove the line.")
            yield rows.line_num, row


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same of JSON lines, each with a path; blank ones are passed over."""
    with open(file, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{file}, line {number}, is not JSON ({error.msg}): repair or remove it.") from error
            if not (isinstance(row, dict) and isinstance(row.get("path"), str) and row["path"]):
                raise DataError(f"{file}, line {number}, has no path: give it one, or remove the line.")
            yield number, row
