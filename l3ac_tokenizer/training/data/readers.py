"""Dataset readers: training clips of LibriSpeech, Common Voice, MTG-Jamendo, FSD50K, manifests and any folder.

No audio file is opened here; only the tables of the datasets are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ...limits import CLIP_SECONDS
from ...listing.errors import DataError
from ...listing.folder import audio_below
from ...listing.layouts import common_voice_clips, visible_files
from ...listing.manifest import load_manifest
from ...listing.table import TABLE_SUFFIXES, read_table
from ...logs import get_logger
from ...names import is_within
from .corpus import TrainingClip

logger = get_logger(__name__)

JAMENDO_SECONDS = 25.0
"""Length of the segments into which the published training cuts the tracks of MTG-Jamendo."""

Reader = Callable[[Path, bool], "list[TrainingClip] | None"]
"""Clips below a dataset's root, to train on (True) or to validate with (False); None if it is another dataset."""


def librispeech(root: Path, training: bool) -> list[TrainingClip] | None:
    """`train-clean-100` and `train-clean-360`, as published; `dev-clean` to validate. Give other parts as folders."""
    train, dev = ("train-clean-100", "train-clean-360"), ("dev-clean",)
    if not any((root / name).is_dir() for name in train + dev):
        return None
    paths = [path for name in (train if training else dev) for path in _below(root / name, {".flac"})]
    return [TrainingClip(path.as_posix(), "librispeech") for path in paths]


def common_voice(root: Path, training: bool) -> list[TrainingClip] | None:
    """The clips that `train.tsv` (to validate: `dev.tsv`) lists."""
    tables = [root / "dev.tsv", root / "train.tsv"]
    if not (root / "clips").is_dir() or not any(table.is_file() for table in tables):
        return None
    return [
        TrainingClip((root / clip.path).as_posix(), "common_voice") for clip in common_voice_clips(tables[training])
    ]


def mtg_jamendo(root: Path, training: bool) -> list[TrainingClip] | None:
    """Tracks of split 0's `autotagging-train.tsv` (to validate: `-validation`) in segments of 25 s or less at the end.

    The table lies in `root` or in `data/splits/split-0`, as in the dataset's repository; the audio, folders `00` to
    `99`, in `root` or a folder of it. A track is `00/1234.mp3`, or `00/1234.low.mp3` in the low-rate version.
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
    for _, row in read_table(home / names[training], "PATH", "DURATION", open_ended=True):
        track = places[0] / row["PATH"]
        path = (track.with_suffix(".low.mp3") if low else track).as_posix()
        try:
            seconds = float(row["DURATION"])
        except ValueError as error:
            raise DataError(f"{home / names[training]} has the duration {row['DURATION']!r}: give seconds.") from error
        CLIP_SECONDS.check(seconds, f"{home / names[training]} has a track of {seconds:g} s", DataError)
        starts = range(max(1, int(-(-seconds // JAMENDO_SECONDS))))
        clips += [TrainingClip(path, "mtg_jamendo", start * JAMENDO_SECONDS, JAMENDO_SECONDS) for start in starts]
    return clips


def fsd50k(root: Path, training: bool) -> list[TrainingClip] | None:
    """The part `train` of `FSD50K.dev_audio` (to validate: `val`), according to `FSD50K.ground_truth/dev.csv`.

    Without that table all of it is trained on, as published. `FSD50K.eval_audio` is the test split and is not used.
    """
    audio, table = root / "FSD50K.dev_audio", root / "FSD50K.ground_truth" / "dev.csv"
    if not audio.is_dir():
        return [] if (root / "FSD50K.eval_audio").is_dir() else None
    if table.is_file():
        wanted = "train" if training else "val"
        rows = read_table(table, "fname", "split")
        paths = [audio / f"{row['fname']}.wav" for _, row in rows if row["split"] == wanted]
    elif training:
        paths = visible_files(audio, "*.wav", None)
    else:
        raise DataError(f"{table} is missing, which states the validation part of FSD50K: put it there.")
    return [TrainingClip(path.as_posix(), "fsd50k") for path in paths]


def manifest(file: Path, training: bool) -> list[TrainingClip] | None:
    """Rows of a manifest (see `listing.manifest`); a column `domain` states the domain of each."""
    if file.suffix.lower() not in TABLE_SUFFIXES or file.is_dir():
        return None
    listed = load_manifest(file)
    root = Path(listed.root).absolute()
    return [
        TrainingClip((root / row.path).as_posix(), row.values.get("domain") or file.stem, row.start, row.seconds)
        for row in listed.rows
    ]


def folder(root: Path, training: bool) -> list[TrainingClip] | None:
    """Every audio file below a folder; the dataset has the folder's name."""
    if not root.is_dir():
        return None
    name = root.absolute().name
    return [TrainingClip(path.as_posix(), name) for path in _below(root)]


READERS: tuple[Reader, ...] = (librispeech, common_voice, mtg_jamendo, fsd50k, manifest, folder)
"""Tried in this order; the last one takes any folder."""


def find_clips(
    sources: Sequence[str | Path],
    *,
    domains: Sequence[str],
    default_domain: str,
    training: bool = True,
    allow_outside: bool = False,
) -> list[TrainingClip]:
    """The clips of all sources, each read by the first of `READERS` that knows its layout.

    Args:
        sources: Roots of datasets, folders, manifests.
        domains: Names of domains. A clip is of the innermost folder in its path that has one of these names, else of
            its dataset if that is one of them, else of `default_domain`. If empty, every clip is of its dataset.
        default_domain: See `domains`.
        training: Take the datasets' training parts; False: their validation parts.
        allow_outside: Also take files outside of a source (of a manifest: its folder) that paths or links in it name;
            False: they are left out, which is logged.

    Raises:
        DataError: a source is missing or holds no audio, or all of it lies outside.
    """
    clips: dict[TrainingClip, None] = {}  # in order, each once
    for source in map(Path, sources):
        read = ((reader, reader(source, training)) for reader in READERS) if source.exists() else iter(())
        reader, found = next(((reader, found) for reader, found in read if found is not None), (None, None))
        if reader is None or found is None:
            raise DataError(
                f"{source} is neither a folder nor a manifest ({', '.join(TABLE_SUFFIXES)}): give one of them."
            )
        name = reader.__name__
        if not found:
            part = "to train on" if training else "to validate with"
            raise DataError(f"{source}, read as {name}, has no audio {part}: name the folder that has it.")
        if not allow_outside:
            found = _within(source if source.is_dir() else source.parent, found)
        logger.info("%s: read as %s, %d clips", source, name, len(found))
        for clip in found:
            clips[replace(clip, domain=_domain(clip, domains, default_domain))] = None
    return list(clips)


def _within(root: Path, clips: Sequence[TrainingClip]) -> list[TrainingClip]:
    """The clips whose files are in `root`; the others are logged."""
    is_inside = functools.cache(lambda path: is_within(path, root))  # many clips may be segments of one file
    inside = [clip for clip in clips if is_inside(clip.path)]
    if len(inside) < len(clips):
        first = next(clip for clip in clips if not is_inside(clip.path))
        left_out = f"{len(clips) - len(inside)} of {len(clips)} clips lie outside {root}, such as {first.path}"
        remedy = "allow_outside (--allow-outside true) allows them, if you know where the list comes from"
        if not inside:
            raise DataError(f"{left_out}: {remedy}.")
        logger.warning("%s, and are left out: %s.", left_out, remedy)
    return inside


def _domain(clip: TrainingClip, domains: Sequence[str], default: str) -> str:
    if not domains:
        return clip.domain
    folders = reversed(Path(clip.path).parts[:-1])
    return next((name for name in (*folders, clip.domain) if name in domains), default)


def _below(root: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    paths, left_out = audio_below(root, suffixes, allow_outside=True)  # `find_clips` leaves out what lies outside
    for remark in left_out:
        logger.warning(remark)
    return [root / path for path in paths]
