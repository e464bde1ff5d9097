"""The CSV files that SpeechBrain recipes list their corpora in, and what is left out of them."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..audio import AudioReader, readable_suffixes
from ..causes import failure
from ..files import atomic_write
from ..listing.errors import DataError
from ..listing.layouts import visible_files
from ..listing.manifest import segment_of
from ..listing.table import read_table
from ..logs import get_logger

logger = get_logger(__name__)

DATA_ROOT = "$data_root"
"""Prefix of paths, which SpeechBrain replaces by the folder of the corpus."""


PREPARED = "prepared.json"

_ANY_RATE = 16_000  # for the length of files that do not state it


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        ID: its name in the corpus.
        duration: in seconds.
        wav: path of the audio, from `DATA_ROOT` on.
        spk_id: speaker.
        wrd: what is said.
    """

    ID: str
    duration: float
    wav: str
    spk_id: str
    wrd: str


def audio_by_id(folder: str | os.PathLike[str], within: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """The audio files in a folder by their names without suffix, whatever the format.

    Of files with the same name but other suffixes, the first is taken, and the others are counted in a warning. Links
    that lead out of `within` are left out; None: they are not.
    """
    suffixes = readable_suffixes()
    audio: dict[str, Path] = {}
    others = []
    for path in visible_files(Path(folder), "*", within):
        if path.suffix.lower() in suffixes and audio.setdefault(path.stem, path) != path:
            others.append(path)
    if others:
        first = others[0]
        logger.warning(
            "%d audio files are left out: others have their names, such as %s beside %s.",
            len(others),
            first,
            audio[first.stem].name,
        )
    return audio


def utterances(
    candidates: Iterable[tuple[str, Path | None, str, str]], data_folder: str | os.PathLike[str], what: str
) -> Iterator[Utterance]:
    """The utterances that can be used; the others are counted by reason, in one warning.

    Args:
        candidates: of each its id, audio file (None: there is none), speaker and text.
        data_folder: that paths are written relative to.
        what: what messages call these utterances.
    """
    skipped: Counter[str] = Counter()
    total = 0
    first = ""
    for name, path, speaker, text in candidates:
        total += 1
        reason, duration = None, 0.0
        if not text.strip():
            reason = "without a transcript"
        elif "$" in text:
            reason = "with a $ in the transcript, which SpeechBrain takes for a variable"
        elif path is None:
            reason = "without audio"
        else:
            try:
                duration = _seconds(path)
            except Exception as error:
                reason = "of audio that cannot be read"
                first = first or failure(error)
        if reason is None and path is not None:
            yield Utterance(name, round(duration, 4), f"{DATA_ROOT}/{_below(path, data_folder)}", speaker, text)
        else:
            skipped[str(reason)] += 1
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        reasons += f", the first: {first.rstrip('.')}" if first else ""
        logger.warning("%s: %d of %d utterances are skipped: %s.", what, skipped.total(), total, reasons)


def _seconds(path: Path) -> float:
    """Length of an audio file; raises the errors of `AudioReader`, for truncated files too."""
    with AudioReader(path, _ANY_RATE) as reader:
        if reader.duration is not None:
            return reader.duration
        return len(reader.read()) / _ANY_RATE


def write_manifest(path: str | os.PathLike[str], rows: Iterable[Utterance]) -> int:
    """Write a manifest, and return its number of utterances.

    Raises:
        ValueError: there is none.
        OSError: the file cannot be written.
    """
    rows = list(rows)
    if not rows:
        raise ValueError(f"There is not one utterance for {path}: check the folder and the splits.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        lines = _Lines(file)
        writer = csv.DictWriter(lines, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    minutes = sum(row.duration for row in rows) / 60
    logger.info("%s: %d utterances, %.1f minutes.", path, len(rows), minutes)
    return len(rows)


def is_prepared(folder: str | os.PathLike[str], made_of: Mapping[str, Any], files: Sequence[str]) -> bool:
    """Whether a folder has the manifests of an earlier preparation with the same settings."""
    note = Path(folder, PREPARED)
    if not note.exists() or not all(Path(folder, file).exists() for file in files):
        return False
    return json.loads(note.read_text("utf-8")) == dict(made_of)


def note_prepared(folder: str | os.PathLike[str], made_of: Mapping[str, Any]) -> None:
    """Write down what manifests were made of, for `is_prepared`."""
    with atomic_write(Path(folder, PREPARED)) as file:
        file.write(json.dumps(dict(made_of), indent=2).encode())


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """The inverse of `write_manifest`.

    Raises:
        DataError: a column or value is missing, or a row is a segment of a file, which recipes do not cut.
        OSError: the file does not exist.
    """
    rows = []
    for line, row in read_table(path, "ID", "duration", "wav"):
        start, seconds, _ = segment_of(row, f"{path}, line {line}")
        if start or seconds is not None:
            raise DataError(f"{path}, line {line}, is a segment of {row['wav']}: cut it into a file of its own.")
        rows.append(Utterance(row["ID"], float(row["duration"]), row["wav"], row["spk_id"], row["wrd"]))
    return rows


class _Lines:
    """Text for a file of bytes."""

    def __init__(self, file: object) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())  # type: ignore[attr-defined]


def _below(path: Path, folder: str | os.PathLike[str]) -> str:
    """A path as seen from a folder; links stay as they are, since parts of a corpus may lie on other disks."""
    return Path(os.path.relpath(path, folder)).as_posix()
