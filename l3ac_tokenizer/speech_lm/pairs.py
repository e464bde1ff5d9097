"""Pairs of a likely and an unlikely clip, and tables of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import atomic_write
from ..listing.errors import DataError
from ..listing.table import read_table
from ..markup import csv_cell


class Pair(NamedTuple):
    """A clip that should be likely, and one like it that should not.

    Attributes:
        positive: file of audio or ids that should be the likelier one.
        negative: the other file.
        group: name of the pairs whose accuracy is stated together; empty: none.
        item: name, within its group, of what is judged. Pairs of one item, such as a word said by several voices,
            count as one.
    """

    positive: Path
    negative: Path
    group: str
    item: str


class PairList(NamedTuple):
    """Pairs in the order of their table or folder.

    Attributes:
        pairs: the pairs.
        unpaired: what has no counterpart, one sentence each.
    """

    pairs: list[Pair]
    unpaired: list[str]


def read_pair_table(path: Path) -> PairList:
    """Read a table of pairs.

    The table (CSV, TSV or JSON lines) has the columns `positive` and `negative`, files relative to the table's folder,
    and, if wanted, `group` and `item`. Without `item`, each row is one.

    Raises:
        DataError: a line is damaged or names no clip.
        OSError: the table cannot be read.
    """
    pairs = []
    for line, row in read_table(path, "positive", "negative"):
        sides = [row["positive"], row["negative"]]
        if not all(isinstance(side, str) for side in sides):
            raise DataError(f"{path}, line {line}: positive and negative must be names of files of audio or ids.")
        item = str(row.get("item") or f"line {line}")
        pairs.append(Pair(path.parent / sides[0], path.parent / sides[1], str(row.get("group") or ""), item))
    return PairList(pairs, [])


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table, in which spreadsheets take no text for a formula.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(csv_cell, row) for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
