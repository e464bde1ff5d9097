"""Preparation of LibriSpeech, or a corpus in its layout: writes the CSV files of the recipe.

A subset has folders `SPEAKER/CHAPTER` with `SPEAKER-CHAPTER.trans.txt` and one audio file for each utterance, named
after it, in any format that soundfile reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from l3ac_tokenizer.listing.layouts import librispeech_speaker, librispeech_transcripts, visible_files
from l3ac_tokenizer.logs import get_logger
from l3ac_tokenizer.speechbrain.manifests import (
    Utterance,
    audio_by_id,
    is_prepared,
    note_prepared,
    utterances,
    write_manifest,
)

logger = get_logger(__name__)


def prepare_librispeech(
    data_folder: str,
    save_folder: str,
    tr_splits: Sequence[str],
    dev_splits: Sequence[str],
    te_splits: Sequence[str],
    skip_prep: bool = False,
    allow_outside: bool = False,
) -> None:
    """Write `train.csv`, `valid.csv` and one CSV file for each test subset.

    Args:
        data_folder: Folder that holds the subsets.
        save_folder: Folder for the CSV files.
        tr_splits: Training subsets.
        dev_splits: Validation subsets.
        te_splits: Test subsets.
        skip_prep: Do nothing.
        allow_outside: Follow links that lead out of `data_folder`; False: they are left out.

    Raises:
        FileNotFoundError: A subset is missing.
        ValueError: A subset has no utterance with audio and transcript.
    """
    if skip_prep:
        return
    files = {"train.csv": list(tr_splits), "valid.csv": list(dev_splits)}
    files.update({f"{split}.csv": [split] for split in te_splits})
    made_of = {"data_folder": str(Path(data_folder).resolve()), "files": files, "allow_outside": allow_outside}
    if is_prepared(save_folder, made_of, list(files)):
        logger.info("%s is prepared already.", save_folder)
        return
    splits: dict[str, list[Utterance]] = {}
    for split in dict.fromkeys([*tr_splits, *dev_splits, *te_splits]):
        splits[split] = list(utterances(read_split(data_folder, split, allow_outside), data_folder, split))
    for file, names in files.items():
        write_manifest(Path(save_folder, file), [row for name in names for row in splits[name]])
    note_prepared(save_folder, made_of)


def read_split(
    data_folder: str, split: str, allow_outside: bool = False
) -> Iterator[tuple[str, Path | None, str, str]]:
    """Yield the name, audio file, speaker and text of each utterance of a subset.

    Raises:
        FileNotFoundError: The subset is missing.
    """
    within = None if allow_outside else data_folder
    transcripts = visible_files(Path(data_folder, split), "*/*/*.trans.txt", within)
    chapters = sorted({transcript.parent for transcript in transcripts})
    if not chapters:
        raise FileNotFoundError(
            f"{Path(data_folder, split)} has no SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt: give the folder that holds "
            f"the subset {split} of LibriSpeech as --data_folder, or other subsets."
        )
    for chapter in chapters:
        audio = audio_by_id(chapter, within)
        for name, text in librispeech_transcripts(chapter, within).items():
            yield name, audio.get(name), librispeech_speaker(name), text.strip().upper()
