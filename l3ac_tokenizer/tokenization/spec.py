"""Specification of a tokenized corpus: metadata of its ids, and the division of a source into shards and jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..hub import model_name
from ..id_metadata import IdMetadata, checked_levels
from ..limits import CORPUS_ROWS, HIGHEST_RATE, HOP_SAMPLES
from ..loudness import checked_lufs
from ..names import without_folders
from ..parsing import parse_json
from ..version import __version__
from .errors import CorpusError

if TYPE_CHECKING:
    from ..modeling import CodecEncoding
    from .sources.base import Source

METADATA_KEY = b"l3ac"
"""Key in the Parquet metadata under which `CorpusMetadata` is stored as JSON."""

SHARD_ROWS = 1000
WINDOW_ROWS = 64
"""Rows that are encoded together, counted from a shard's first row: a worker's unit of work, within which clips of
similar length are batched. A constant, so that a resumed run makes the same batches as an uninterrupted one."""


@dataclass(frozen=True)
class TokenizationOptions:
    """Options that determine the rows of a tokenized corpus, beside the model and the source.

    Attributes:
        split: groups of digits an id is written as; 1: the id itself.
        max_seconds: longer clips are failures; None: no limit.
        shard_rows: rows of the source in one shard, failures included.
        num_shards: jobs that the source is divided over.
        shard_index: number of this job, from 0.
        allow_truncated: encode what is there of truncated clips; False: they are failures.
        level_lufs: loudness to which clips are leveled, see `CodecFeatureExtractor`; None: they keep their level.

    Raises:
        ValueError: a number out of range, by its name.
    """

    split: int = 1
    max_seconds: float | None = None
    shard_rows: int = SHARD_ROWS
    num_shards: int = 1
    shard_index: int = 0
    allow_truncated: bool = False
    level_lufs: float | None = None

    def __post_init__(self) -> None:
        for name in ("split", "shard_rows", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"`shard_index` is {self.shard_index}; it must be 0 to {self.num_shards - 1}.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"`max_seconds` is {self.max_seconds}; it must be above 0.")
        object.__setattr__(self, "level_lufs", checked_lufs(self.level_lufs))


@dataclass(frozen=True)
class CorpusMetadata:
    """Metadata of a tokenized corpus; ids of two `weights_digest`, or of two `level_lufs`, are never mixed.

    Attributes:
        model: preset, or name of the model's directory.
        weights_digest: `CodecModel.weights_digest()`.
        levels: levels of each FSQ dimension.
        hop_length: samples an id.
        sampling_rate: in Hz.
        options: `split`, `max_seconds` and `allow_truncated`, see `TokenizationOptions`.
        version: of this library.
        level_lufs: loudness to which the clips were leveled; None: they kept their level.
    """

    model: str
    weights_digest: str
    levels: tuple[int, ...]
    hop_length: int
    sampling_rate: int
    options: Mapping[str, Any]
    version: str = __version__
    level_lufs: float | None = None

    @classmethod
    def of(
        cls,
        model: CodecEncoding,
        split: int,
        max_seconds: float | None,
        allow_truncated: bool = False,
        level_lufs: float | None = None,
    ) -> CorpusMetadata:
        """The metadata of a model's ids."""
        config = model.config
        return cls(
            model=model_name(model.name_or_path) if model.name_or_path else "unnamed",
            weights_digest=model.weights_digest(),
            levels=config.frame_levels,
            hop_length=config.hop_length,
            sampling_rate=config.sampling_rate,
            options={"split": split, "max_seconds": max_seconds, "allow_truncated": allow_truncated},
            level_lufs=checked_lufs(level_lufs),
        )

    def _check(self) -> None:
        """Refuse values that no codec has, of metadata that came from outside."""
        for text in (self.model, self.weights_digest, self.version):
            if not isinstance(text, str):
                raise ValueError(f"{text!r} is not text")
        for name, value, most in (
            ("sampling_rate", self.sampling_rate, HIGHEST_RATE.value),
            ("hop_length", self.hop_length, HOP_SAMPLES),
            ("split", self.options["split"], len(self.levels)),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"`{name}` is {value!r}, not a number from 1 to {most}")
        checked_lufs(self.level_lufs)

    @property
    def split(self) -> int:
        """Groups of digits that an id is written as."""
        return int(self.options["split"])

    @property
    def made_by(self) -> IdMetadata:
        """The model that made the ids."""
        return IdMetadata(self.weights_digest, tuple(self.levels))

    def to_json(self) -> str:
        """The metadata as it stands in a Parquet file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> CorpusMetadata:
        """The inverse of `to_json`; `where` is the file, for messages.

        Raises:
            CorpusError: the text is something else.
        """
        try:
            values = parse_json(text)
            options = {"allow_truncated": False, **values["options"]}  # not in older corpora
            metadata = cls(**{**values, "levels": checked_levels(values["levels"]), "options": options})
            metadata._check()
            return metadata
        except (ValueError, TypeError, KeyError) as error:
            raise CorpusError(f"{where} has `l3ac` metadata of another kind ({error}): make it again.") from error


@dataclass(frozen=True)
class Job:
    """A run over a source, or one of `num_shards` runs that divide it.

    Attributes:
        metadata: of the ids.
        shard_rows, num_shards, shard_index: see `TokenizationOptions`.
        kind: of the source, in words.
        source_digest: digest of the source's list of records.
        source_rows: number of its records.
        remarks: of the source, see `Source.remarks`.
    """

    metadata: CorpusMetadata
    shard_rows: int
    num_shards: int
    shard_index: int
    kind: str
    source_digest: str
    source_rows: int
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source, model: CodecEncoding, options: TokenizationOptions) -> Job:
        """The job of encoding a source."""
        return cls(
            metadata=CorpusMetadata.of(
                model, options.split, options.max_seconds, options.allow_truncated, options.level_lufs
            ),
            shard_rows=options.shard_rows,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            kind=source.kind,
            source_digest=source.digest(),
            source_rows=len(source),
            remarks=tuple(map(without_folders, source.remarks)),
        )

    def shards(self) -> Sequence[int]:
        """Numbers of this job's shards; shard k holds rows from k · shard_rows on, and is of job k mod num_shards."""
        return range(self.shard_index, -(-self.source_rows // self.shard_rows), self.num_shards)

    def rows_of(self, shard: int) -> range:
        """Records of the source that a shard holds."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.source_rows))

    def windows_of(self, shard: int) -> list[tuple[int, int]]:
        """Ranges (start, stop) of the records that are encoded together."""
        rows = self.rows_of(shard)
        return [(start, min(start + WINDOW_ROWS, rows.stop)) for start in range(rows.start, rows.stop, WINDOW_ROWS)]

    def to_json(self) -> str:
        """The job as it stands in the first line of the manifest."""
        values = asdict(self)
        return json.dumps({"l3ac_manifest": 1, "facts": values.pop("metadata"), **values})

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Job:
        """The inverse of `to_json`; `where` is the file, for messages.

        Raises:
            CorpusError: the text is something else.
        """
        try:
            values = parse_json(text)
            if values.pop("l3ac_manifest") != 1:
                raise ValueError("another version")
            metadata = CorpusMetadata.from_json(json.dumps(values.pop("facts")), where)
            for name in ("source_rows", "shard_rows", "num_shards", "shard_index"):
                if type(values[name]) is not int or not 0 <= values[name] <= CORPUS_ROWS:
                    raise ValueError(f"`{name}` is {values[name]!r}, not a number up to {CORPUS_ROWS}")
            if not values["shard_index"] < values["num_shards"] or not values["shard_rows"]:
                raise ValueError("its numbers of shards do not fit together")
            return cls(metadata=metadata, remarks=tuple(values.pop("remarks", ())), **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorpusError(
                f"{where} is not the manifest of a tokenized corpus ({error}): choose another folder."
            ) from error

    def differences(self, other: Job) -> list[str]:
        """Values in which another job differs, each as `NAME is OTHER and was OURS`.

        The library's version may differ, and so may the model's name where its weights are the same.
        """
        mine, others = self._named(), other._named()
        same_weights = self.metadata.weights_digest == other.metadata.weights_digest
        harmless = {"version"} | ({"model"} if same_weights else set())
        return [
            f"{name} is {others[name]} and was {mine[name]}"
            for name in mine
            if mine[name] != others[name] and name not in harmless
        ]

    def _named(self) -> dict[str, Any]:
        """All values by their names in messages."""
        metadata = asdict(self.metadata)
        options = {**metadata.pop("options"), "lufs": metadata.pop("level_lufs")}
        for name in ("shard_rows", "num_shards", "shard_index"):
            options[name] = getattr(self, name)
        return {
            **{name.replace("_", " "): value for name, value in metadata.items()},
            **{f"--{name.replace('_', '-')}": value for name, value in options.items()},
            "kind of corpus": self.kind,
            "number of clips": self.source_rows,
            "digest of the list of clips": self.source_digest,
        }


def shard_name(shard: int) -> str:
    """Name of a shard's file."""
    return f"shard-{shard:05d}.parquet"
