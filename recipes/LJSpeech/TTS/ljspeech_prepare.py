"""Preparation of LJSpeech, or a single-speaker corpus in its layout: writes the CSV files of the recipe.

The layout is `metadata.csv` with lines `ID|text|normalized text` and `wavs/ID` in any format that soundfile reads.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from l3ac_tokenizer.listing.layouts import ljspeech_transcripts
from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.names import file_within
from l3ac_tokenizer.speechbrain.manifests import (
    Utterance,
    audio_by_id,
    is_prepared,
    note_prepared,
    utterances,
    write_manifest,
)

logger = get_logger(__name__)

FILES = ("train.csv", "valid.csv", "test.csv")


def prepare_ljspeech(
    data_folder: str,
    save_folder: str,
    split: str,
    split_ratio: Sequence[float],
    seed: int,
    skip_prep: bool = False,
    allow_outside: bool = False,
) -> None:
    """Write `train.csv`, `valid.csv` and `test.csv`.

    Args:
        data_folder: Folder with `metadata.csv` and `wavs`.
        save_folder: Folder for the CSV files.
        split: `"session"` keeps the clips of a session together (`LJ001-0001` belongs to `LJ001`), as is right for
            chapters of a book; `"random"` is for corpora without sessions.
        split_ratio: Relative sizes of the three files.
        seed: Seed of the split.
        skip_prep: Do nothing.
        allow_outside: Follow links that lead out of `data_folder`; False: they are left out.

    Raises:
        FileNotFoundError: The corpus is missing.
        ValueError: `split` is unknown, or there are too few sessions or clips for three files.
    """
    if skip_prep:
        return
    made_of = {
        "data_folder": str(Path(data_folder).resolve()),
        "split": split,
        "split_ratio": list(split_ratio),
        "seed": seed,
        "allow_outside": allow_outside,
    }
    if is_prepared(save_folder, made_of, FILES):
        logger.info("%s is prepared already.", save_folder)
        return
    rows = list(utterances(read_corpus(data_folder, allow_outside), data_folder, str(data_folder)))
    for file, part in zip(FILES, split_rows(rows, split, split_ratio, seed), strict=True):
        write_manifest(Path(save_folder, file), part)
    note_prepared(save_folder, made_of)


def read_corpus(data_folder: str, allow_outside: bool = False) -> Iterator[tuple[str, Path | None, str, str]]:
    """Yield the name, audio file, speaker and text of each clip.

    Raises:
        FileNotFoundError: The corpus is missing.
        OutsideError: Its table is a link that leads out of it.
    """
    metadata = Path(file_within("metadata.csv", data_folder, allow_outside=allow_outside))
    wavs = Path(data_folder, "wavs")
    for path in (metadata, wavs):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: give the folder of LJSpeech-1.1 as --data_folder.")
    audio = audio_by_id(wavs, None if allow_outside else data_folder)
    for name, text in ljspeech_transcripts(Path(data_folder)).items():
        yield name, audio.get(name), Path(data_folder).resolve().name, (text or "").strip()


def split_rows(rows: Sequence[Utterance], split: str, split_ratio: Sequence[float], seed: int) -> list[list[Utterance]]:
    """Split the rows into three parts, each in the order of the corpus.

    Raises:
        ValueError: `split` is unknown, or there are too few groups.
    """
    if split not in ("session", "random"):
        raise ValueError(f"`split` is {split!r}; it must be session or random.")
    groups: dict[str, list[Utterance]] = {}
    for row in rows:
        groups.setdefault(row.ID.partition("-")[0] if split == "session" else row.ID, []).append(row)
    if len(groups) < len(FILES):
        raise ValueError(
            f"The corpus has {len(groups)} {'sessions' if split == 'session' else 'clips'}, too few for "
            f"{', '.join(FILES)}: give more clips{', or --split=random' if split == 'session' else ''}."
        )
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    held_out = [max(1, round(len(names) * ratio / sum(split_ratio))) for ratio in split_ratio[1:]]
    starts = [len(names) - sum(held_out), len(names) - held_out[-1]]
    parts = [names[: starts[0]], names[starts[0] : starts[1]], names[starts[1] :]]
    return [[row for name in sorted(part) for row in groups[name]] for part in parts]
