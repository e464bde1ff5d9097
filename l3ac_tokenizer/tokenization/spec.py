"""What a tokenized corpus is made of: the facts that decide its rows, and how its shards are numbered."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..version import __version__
from .errors import CorpusError

if TYPE_CHECKING:
    from ..modeling import CodecModel
    from .sources.base import Source

METADATA_KEY = b"l3ac"
"""Where the Parquet metadata holds the facts, as JSON."""

SHARD_ROWS = 1000
WINDOW_ROWS = 64
"""Rows that are encoded together, from a shard's first one on: what a worker takes, and within which clips of similar
length meet. A constant, so that a resumed run makes the batches of an uninterrupted one."""


@dataclass(frozen=True)
class Options:
    """What decides the rows beside the model and the corpus.

    Attributes:
        split: groups of digits an id is written as; 1: the id itself.
        max_seconds: longer clips are failures; None: no limit.
        shard_rows: rows of the corpus in one shard, failures included.
        num_shards: jobs that the corpus is spread over.
        shard_index: which of them this is.

    Raises:
        ValueError: a number out of range, by its name.
    """

    split: int = 1
    max_seconds: float | None = None
    shard_rows: int = SHARD_ROWS
    num_shards: int = 1
    shard_index: int = 0

    def __post_init__(self) -> None:
        for name in ("split", "shard_rows", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"`shard_index` is {self.shard_index}; it must be 0 to {self.num_shards - 1}.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"`max_seconds` is {self.max_seconds}; it must be above 0.")


@dataclass(frozen=True)
class Facts:
    """The metadata of a tokenized corpus; ids of two `weights_digest` are never mixed.

    Attributes:
        model: preset, or name of the model's directory.
        weights_digest: `CodecModel.weights_digest()`.
        levels: levels of each FSQ dimension.
        hop_length: samples an id.
        sampling_rate: in Hz.
        options: `split` and `max_seconds`, see `Options`.
        version: of this library.
    """

    model: str
    weights_digest: str
    levels: tuple[int, ...]
    hop_length: int
    sampling_rate: int
    options: Mapping[str, Any]
    version: str = __version__

    @classmethod
    def of(cls, model: CodecModel, split: int, max_seconds: float | None) -> Facts:
        """The facts of a model's ids."""
        config = model.config
        return cls(
            model=os.path.basename(os.path.abspath(model.name_or_path)) if model.name_or_path else "unnamed",
            weights_digest=model.weights_digest(),
            levels=config.frame_levels,
            hop_length=config.hop_length,
            sampling_rate=config.sampling_rate,
            options={"split": split, "max_seconds": max_seconds},
        )

    @property
    def split(self) -> int:
        """Groups of digits that an id is written as."""
        return int(self.options["split"])

    def to_json(self) -> str:
        """As the Parquet metadata holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Facts:
        """The inverse of `to_json`.

        Raises:
            CorpusError: `where` holds something else.
        """
        try:
            values = json.loads(text)
            return cls(**{**values, "levels": tuple(values["levels"])})
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(f"{where} has `l3ac` metadata of another kind ({error}): make it again.") from error


@dataclass(frozen=True)
class Job:
    """One run, or one of `num_shards` runs, over a corpus.

    Attributes:
        facts: what its ids are.
        shard_rows, num_shards, shard_index: see `Options`.
        kind: of the source, in words.
        source_digest: of the source's list.
        source_rows: number of its records.
    """

    facts: Facts
    shard_rows: int
    num_shards: int
    shard_index: int
    kind: str
    source_digest: str
    source_rows: int

    @classmethod
    def of(cls, source: Source, model: CodecModel, options: Options) -> Job:
        """The job of encoding a source."""
        return cls(
            facts=Facts.of(model, options.split, options.max_seconds),
            shard_rows=options.shard_rows,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            kind=source.kind,
            source_digest=source.digest(),
            source_rows=len(source),
        )

    def shards(self) -> list[int]:
        """Numbers of this run's shards; shard k is rows k · shard_rows onwards, of job k mod num_shards."""
        return list(range(self.shard_index, -(-self.source_rows // self.shard_rows), self.num_shards))

    def rows_of(self, shard: int) -> range:
        """Records of the source that a shard holds."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.source_rows))

    def windows_of(self, shard: int) -> list[tuple[int, int]]:
        """The pieces that a shard is encoded in."""
        rows = self.rows_of(shard)
        return [(start, min(start + WINDOW_ROWS, rows.stop)) for start in range(rows.start, rows.stop, WINDOW_ROWS)]

    def to_json(self) -> str:
        """As the first line of the manifest holds it."""
        return json.dumps({"l3ac_manifest": 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Job:
        """The inverse of `to_json`.

        Raises:
            CorpusError: `where` holds something else.
        """
        try:
            values = json.loads(text)
            if values.pop("l3ac_manifest") != 1:
                raise ValueError("another version")
            facts = Facts.from_json(json.dumps(values.pop("facts")), where)
            return cls(facts=facts, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorpusError(f"{where} is no manifest of a tokenized corpus ({error}): choose another.") from error

    def differences(self, other: Job) -> list[str]:
        """What another job would do otherwise, both values named.

        The library's version may differ, and so may the model's name where its weights are the same.
        """
        mine, others = self._named(), other._named()
        harmless = {"version"} | ({"model"} if self.facts.weights_digest == other.facts.weights_digest else set())
        return [
            f"{name} is {others[name]} and was {mine[name]}"
            for name in mine
            if mine[name] != others[name] and name not in harmless
        ]

    def _named(self) -> dict[str, Any]:
        """All values, called as messages call them."""
        facts = asdict(self.facts)
        options = facts.pop("options")
        for name in ("shard_rows", "num_shards", "shard_index"):
            options[name] = getattr(self, name)
        return {
            **{name.replace("_", " "): value for name, value in facts.items()},
            **{f"--{name.replace('_', '-')}": value for name, value in options.items()},
            "kind of corpus": self.kind,
            "number of clips": self.source_rows,
            "digest of the corpus' list": self.source_digest,
        }


def file_name(shard: int) -> str:
    """What the file of a shard is called."""
    return f"shard-{shard:05d}.parquet"
