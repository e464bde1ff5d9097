"""Output of the commands: results on standard output, messages and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..causes import failure, shortened
from ..files import concerns_all_files
from ..markup import printable
from ..storage import suffix_of
from ..urls import is_url, public_text

if TYPE_CHECKING:
    from tqdm import tqdm


class Failures:
    """Files that failed while the others continue.

    Attributes:
        reasons: File → error message, one sentence.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    @contextlib.contextmanager
    def of(self, source: str) -> Iterator[None]:
        """Record and print an error inside the `with` block, and continue after it, unless the disk is full."""
        try:
            yield
        except Exception as error:
            if concerns_all_files(error):
                raise
            self.add(source, failure(error))

    def add(self, source: str, reason: str) -> None:
        """Record and print why a file failed."""
        self.reasons[source] = reason
        say(reason)


def say(text: str) -> None:
    """Print a message on standard error, above any progress bar; credentials in it are left out."""
    text = f"l3ac: {printable(public_text(text))}"
    if "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr)


def say_truncated(count: int, example: str | None) -> None:
    """Say how many clips were used although their files are truncated, and name one."""
    if count:
        say(f"{count} clips of truncated files were used as far as they go, for example {example}.")


def say_unfinished(folder: str) -> None:
    """Say if a tokenized corpus lacks shards, and how many."""
    from ..tokenization.output import read_shard_manifest

    if not (os.path.isdir(folder) or (is_url(folder) and suffix_of(folder) != ".parquet")):
        return
    job, entries = read_shard_manifest(folder)
    if job is not None and len(entries) < len(job.shards()):
        say(f"{public_text(folder)} is not finished: this is of {len(entries)} of {len(job.shards())} shards.")


def one_sentence(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return shortened(" ".join(str(error).split())) or type(error).__name__


@contextlib.contextmanager
def needing_extra(extra: str) -> Iterator[None]:
    """Turn a failed import inside the `with` block into an error that says how to install the package.

    Raises:
        ValueError: A package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this needs the package {error.name}, which is not installed: pip install 'l3ac-tokenizer[{extra}]'."
        ) from error


def show_json(value: Any) -> None:
    """Print a result as JSON."""
    print(printable(json.dumps(value, indent=2, ensure_ascii=False), keep="\n"))


def show_table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> None:
    """Print rows of text in columns, the first one left-aligned and the others right-aligned."""
    every = [tuple(map(printable, row)) for row in ([header, *rows] if header else rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(every[0]))]
    for position, row in enumerate(every):
        numbers = zip(row[1:], widths[1:], strict=True)
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in numbers)]
        print("  ".join(cells).rstrip())
        if header and position == 0:
            print("  ".join("-" * width for width in widths))


def show_facts(facts: dict[str, str]) -> None:
    """Print names and values, one pair per line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {printable(value)}")


def progress(seconds: float, what: str) -> tqdm:
    """Return a progress bar over seconds of audio, shown on terminals only."""
    from tqdm import tqdm

    return tqdm(
        total=round(seconds, 1),
        desc=what,
        unit="s",
        disable=None,
        file=sys.stderr,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]",
    )
