"""Specification of a tokenized corpus: metadata of its ids, and the division of a source into shards and jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hub import model_name
from ..id_metadata import IdMetadata, checked_levels
from ..limits import CORPUS_ROWS, HIGHEST_RATE, HOP_SAMPLES
from ..loudness import checked_lufs
from ..names import without_folders
from ..parsing import parse_json
from ..version import __version__
from .errors import CorpusError
from .segments import Segmentation

if TYPE_CHECKING:
    from ..modeling import CodecEncoding
    from .sources.base import Source

METADATA_KEY = b"l3ac"
"""Key in the Parquet metadata under which `CorpusMetadata` is stored as JSON."""

SHARD_ROWS = 1000
SHARD_BYTES = 1 << 30
"""Bytes of audio after which a shard ends, however few rows it has: 10 hours of FLAC, 100 of Opus."""
WINDOW_ROWS = 64
"""Rows that are encoded together, counted from a shard's first row: a worker's unit of work, within which clips of
similar length are batched. A constant, so that a resumed run makes the same batches as an uninterrupted one."""
WINDOW_BYTES = 1 << 25
"""Bytes of audio after which such a unit ends: no worker is long at work while the others have nothing left to do."""


@dataclass(frozen=True)
class TokenizationOptions:
    """Options that determine the rows of a tokenized corpus, beside the model and the source.

    Attributes:
        split: groups of digits an id is written as; 1: the id itself.
        max_seconds: longer clips are failures; None: no limit.
        shard_rows: most rows of the source in one shard, failures included; one ends earlier after `SHARD_BYTES`.
        num_shards: jobs that the source is divided over.
        shard_index: number of this job, from 0.
        allow_truncated: encode what is there of truncated clips; False: they are failures.
        level_lufs: loudness to which clips are leveled, see `CodecFeatureExtractor`; None: they keep their level.
        segmentation: where recordings are cut into rows of their own; None: each is one row.

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
    segmentation: Segmentation | None = None

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
        options: `split`, `max_seconds` and `allow_truncated`, see `TokenizationOptions`; of recordings in segments,
            `segment_seconds` and `segment_margin`.
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
        segmentation: Segmentation | None = None,
    ) -> CorpusMetadata:
        """The metadata of a model's ids."""
        config = model.config
        segments: dict[str, Any] = {}
        if segmentation is not None:
            segments = {"segment_seconds": segmentation.seconds, "segment_margin": segmentation.margin}
        return cls(
            model=model_name(model.name_or_path) if model.name_or_path else "unnamed",
            weights_digest=model.weights_digest(),
            levels=config.frame_levels,
            hop_length=config.hop_length,
            sampling_rate=config.sampling_rate,
            options={"split": split, "max_seconds": max_seconds, "allow_truncated": allow_truncated, **segments},
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
    def in_segments(self) -> bool:
        """Whether rows are segments of recordings."""
        return "segment_seconds" in self.options

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
        shard_starts: first record of each shard; None: one every `shard_rows`.
    """

    metadata: CorpusMetadata
    shard_rows: int
    num_shards: int
    shard_index: int
    kind: str
    source_digest: str
    source_rows: int
    remarks: tuple[str, ...] = ()
    shard_starts: tuple[int, ...] | None = None

    @classmethod
    def of(cls, source: Source, model: CodecEncoding, options: TokenizationOptions) -> Job:
        """The job of encoding a source."""
        starts = tuple(
            start for start, _ in ranges(range(len(source)), source.sizes(), options.shard_rows, SHARD_BYTES)
        )
        return cls(
            metadata=CorpusMetadata.of(
                model,
                options.split,
                options.max_seconds,
                options.allow_truncated,
                options.level_lufs,
                options.segmentation,
            ),
            shard_rows=options.shard_rows,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            kind=source.kind,
            source_digest=source.digest(),
            source_rows=len(source),
            remarks=tuple(map(without_folders, source.remarks)),
            shard_starts=None if starts == tuple(range(0, len(source), options.shard_rows)) else starts,
        )

    def shards(self) -> Sequence[int]:
        """Numbers of this job's shards; shard k is of job k mod num_shards."""
        return range(self.shard_index, len(self._starts), self.num_shards)

    def rows_of(self, shard: int) -> range:
        """Records of the source that a shard holds."""
        starts = self._starts
        return range(starts[shard], starts[shard + 1] if shard + 1 < len(starts) else self.source_rows)

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """The shards (R,) that hold some records (R,) of the source."""
        if self.shard_starts is None:
            return rows // self.shard_rows
        return np.searchsorted(self.shard_starts, rows, side="right") - 1

    def windows_of(self, shard: int, sizes: np.ndarray | None) -> Iterator[tuple[int, int]]:
        """Ranges (start, stop) of the records that are encoded together, by the sizes that the source states.

        The largest come first, so that no worker is busy with one when the others have finished.
        """
        windows = ranges(self.rows_of(shard), sizes, WINDOW_ROWS, WINDOW_BYTES)
        if sizes is None:
            return windows
        return iter(sorted(windows, key=lambda window: -int(sizes[slice(*window)].sum())))

    @property
    def _starts(self) -> Sequence[int]:
        return range(0, self.source_rows, self.shard_rows) if self.shard_starts is None else self.shard_starts

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
            starts = values.pop("shard_starts", None)
            if starts is not None:
                starts = tuple(starts)
                if any(type(start) is not int for start in starts) or list(starts) != sorted({*starts}):
                    raise ValueError("its shards do not begin at rising numbers")
                if not starts or starts[0] != 0 or starts[-1] >= values["source_rows"]:
                    raise ValueError("its shards are not those of its clips")
            remarks = tuple(values.pop("remarks", ()))
            return cls(metadata=metadata, remarks=remarks, shard_starts=starts, **values)
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
        uncut = {"segment_seconds": None, "segment_margin": None}
        options = {**uncut, **metadata.pop("options"), "lufs": metadata.pop("level_lufs")}
        for name in ("shard_rows", "num_shards", "shard_index"):
            options[name] = getattr(self, name)
        return {
            **{name.replace("_", " "): value for name, value in metadata.items()},
            **{f"--{name.replace('_', '-')}": value for name, value in options.items()},
            "kind of corpus": self.kind,
            "number of clips": self.source_rows,
            "digest of the list of clips": self.source_digest,
        }


def ranges(rows: range, sizes: np.ndarray | None, most_rows: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut records into ranges (start, stop) of at most `most_rows`, and of at most `most_bytes` or one record."""
    start = rows.start
    while start < rows.stop:
        stop = min(start + most_rows, rows.stop)
        if sizes is not None:
            total = np.cumsum(np.clip(sizes[start:stop], 0, most_bytes + 1))  # strangers' files state any size
            stop = min(stop, start + max(1, int(np.searchsorted(total, most_bytes, side="right"))))
        yield start, stop
        start = stop


def shard_name(shard: int) -> str:
    """Name of a shard's file."""
    return f"shard-{shard:05d}.parquet"
