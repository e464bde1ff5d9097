"""Pairs of published benchmarks of spoken language models, in the layouts in which they are distributed.

- sWUGGY (ZeroSpeech 2021, `lexical/dev` or `test`): `gold.csv`, with the columns `filename`, `id`, `voice`, `correct`
  and `frequency`, beside `FILENAME.wav`. A pair is a word and a non-word of one `id` and `voice`, an item an `id`. The
  groups are words that occur in LibriSpeech (`frequency` of 1 or more) and words that do not.
- sBLIMP (`syntactic/dev` or `test`): the same with `type` and `subtype` in place of `frequency`. A pair is of one
  `type`, `subtype`, `id` and `voice`, an item of one `type`, `subtype` and `id`, and a `type` is a group.
- tSC and sSC (Spoken StoryCloze): `N_STORY_correct.wav` and `N+1_STORY_incorrect.wav`, or the same without numbers.
- SALMon: `sample_N_0.wav`, the positive clip, and `sample_N_1.wav`.

The last two may be folders of such folders, as SALMon is; each folder is a group. Layouts and averages are those of the
readers of zerospeech/benchmarks (8a716e8), slp-rl/slamkit (388b402) and slp-rl/salmon (85e2daf): ties count half, and
the voices of an item are averaged before the items are.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ..files import is_visible
from ..listing.errors import DataError
from ..listing.table import read_table, table_columns
from ..names import file_within
from .pairs import Pair, PairList, read_pair_table

_STORY = re.compile(r"(?:\d+_)?(.+)_(correct|incorrect)")
_SAMPLE = re.compile(r"sample_(\d+)_(\d+)")


def read_pairs(path: str | os.PathLike[str], *, allow_outside: bool = False) -> PairList:
    """Read a table of pairs, see `read_pair_table`, or a benchmark's folder.

    Args:
        path: The table or folder.
        allow_outside: Also take clips outside the folder, or the table's folder, that paths or links in it name.

    Raises:
        DataError: the layout of the folder is none of the known ones, or a table is damaged.
        OSError: the folder or table cannot be read.
        OutsideError: a clip lies outside.
    """
    given = Path(path)
    root, found = (given, read_benchmark(given)) if given.is_dir() else (given.parent, read_pair_table(given))
    for pair in found.pairs:
        for clip in (pair.positive, pair.negative):
            file_within(os.path.abspath(clip), os.path.abspath(root), allow_outside=allow_outside)
    return found


def read_benchmark(folder: Path) -> PairList:
    """Read the pairs of a benchmark's folder.

    Raises:
        DataError: its layout is none of the known ones, or its table is damaged.
        OSError: the folder or its table cannot be read.
    """
    if (folder / "gold.csv").is_file():
        return _zerospeech(folder / "gold.csv")
    below = sorted(path for path in folder.iterdir() if path.is_dir() and is_visible(path.name))
    for read in (_story_cloze, _salmon):
        found = [read(part) for part in (folder, *below)]
        if any(part.pairs or part.unpaired for part in found):
            return PairList(*(list(itertools.chain(*lists)) for lists in zip(*found, strict=True)))
    raise DataError(
        f"{folder} has neither the gold.csv of ZeroSpeech 2021 nor the *_correct.wav of StoryCloze nor the "
        "sample_N_0.wav of SALMon: give the folder that holds them, or a table of pairs."
    )


def _zerospeech(gold: Path) -> PairList:
    columns = table_columns(gold)
    parts = ("type", "subtype") if "type" in columns else ()
    if not parts and "frequency" not in columns:
        raise DataError(
            f"{gold} has neither a column frequency (sWUGGY) nor type (sBLIMP): it is of another benchmark."
        )
    clips: dict[tuple[str, ...], dict[str, list[Path]]] = {}
    groups = {}
    for line, row in read_table(gold, "id", "filename", "voice", "correct", *parts):
        if row["correct"] not in ("0", "1"):
            raise DataError(f"{gold}, line {line}, has {row['correct']!r} as `correct`; it must be 0 or 1.")
        key = (*(row[part] for part in parts), row["id"], row["voice"])
        sides = clips.setdefault(key, {"1": [], "0": []})
        sides[row["correct"]].append(gold.parent / f"{row['filename']}.wav")
        if row["correct"] == "1":
            groups[key] = row["type"] if parts else _vocabulary(row["frequency"], f"{gold}, line {line},")
    pairs, unpaired = [], []
    for key, sides in clips.items():
        item = "/".join(key[len(parts[:1]) : -1])  # a group is the type, which an item need not repeat
        pairs += [Pair(*files, groups[key], item) for files in itertools.product(sides["1"], sides["0"])]
        if not all(sides.values()):
            missing = "correct" if not sides["1"] else "incorrect"
            unpaired.append(f"{gold.name}: id {item}, voice {key[-1]}, has no {missing} clip.")
    return PairList(pairs, unpaired)


def _vocabulary(frequency: str, where: str) -> str:
    """Group of a word by its number of occurrences in LibriSpeech; `where` is named if it is none."""
    try:
        return "in vocabulary" if float(frequency or 0) >= 1 else "out of vocabulary"
    except ValueError:
        raise DataError(f"{where} has {frequency!r} as `frequency`; it must be a number.") from None


def _story_cloze(folder: Path) -> PairList:
    stories: dict[str, dict[str, Path]] = defaultdict(dict)
    for path, match in _matching(folder, _STORY):
        stories[match[1]][match[2]] = path
    pairs = [
        Pair(found["correct"], found["incorrect"], folder.resolve().name, story)
        for story, found in stories.items()
        if len(found) == 2
    ]
    alone = [next(iter(found.values())) for found in stories.values() if len(found) == 1]
    unpaired = [f"{path} has no counterpart of the same story." for path in alone]
    return PairList(pairs, unpaired)


def _salmon(folder: Path) -> PairList:
    samples: dict[int, dict[int, Path]] = defaultdict(dict)
    for path, match in _matching(folder, _SAMPLE):
        samples[int(match[1])][int(match[2])] = path
    pairs, unpaired = [], []
    for number, found in sorted(samples.items()):
        negatives = [path for place, path in sorted(found.items()) if place > 0]
        if 0 in found and negatives:
            pairs += [Pair(found[0], path, folder.resolve().name, str(number)) for path in negatives]
        else:
            unpaired.append(f"{next(iter(found.values()))} has no counterpart of the same number.")
    return PairList(pairs, unpaired)


def _matching(folder: Path, name: re.Pattern[str]) -> Iterable[tuple[Path, re.Match[str]]]:
    """The WAV files directly in a folder whose names, without the suffix, match."""
    for path in sorted(folder.glob("*.wav")):
        if is_visible(path.name) and (match := name.fullmatch(path.stem)):
            yield path, match
