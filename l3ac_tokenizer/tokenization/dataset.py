"""`tokenize_dataset`: a `datasets` dataset of audio to one of ids, through `map`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset
from datasets.fingerprint import Hasher

from ..logs import get_logger
from .arrow import encode_records, shard_schema
from .encoding import ClipEncoder
from .errors import CorpusError
from .sources.datasets import DatasetRows, undecoded
from .spec import WINDOW_ROWS, CorpusMetadata

if TYPE_CHECKING:
    from ..modeling import CodecEncoding

logger = get_logger(__name__)

_Dataset = TypeVar("_Dataset", Dataset, IterableDataset)


def tokenize_dataset(
    dataset: _Dataset,
    model: CodecEncoding,
    *,
    audio_column: str | None = None,
    split: int = 1,
    chunk_seconds: float = 30.0,
    max_seconds: float | None = None,
    max_failures: int | None = None,
    num_proc: int | None = None,
    device: str = "cpu",
    allow_truncated: bool = False,
    allow_outside: bool = False,
    level_lufs: float | None = None,
) -> _Dataset:
    """The ids of every clip, in the dataset's order, equal to those of clips encoded one by one.

    Clips that cannot be read are left out, each with a warning. The fingerprint of the result depends on that of the
    `Dataset`, the model's weights and the options, so `datasets` finds it in its cache when, and only when, all are
    the same.

    Args:
        dataset: with audio as path, file bytes, samples beside a column `sampling_rate`, or the feature `Audio`,
            which is read from its bytes or path.
        model: the codec, or its encoder alone, in evaluation mode, on the CPU where `num_proc` is given.
        audio_column: None: the first of the feature `Audio`, or `audio`.
        split: groups of digits an id is written as; 1: the id itself.
        chunk_seconds: seconds of audio in the network at once.
        max_seconds: longer clips count as failures; None: no limit.
        max_failures: raise an error at more failures; None: never.
        num_proc: processes, each with one thread on the CPU or, by its rank, a GPU of its own (CUDA also needs
            `multiprocess.set_start_method("spawn")`); None: this process. Not for an `IterableDataset`.
        device: torch device.
        allow_truncated: encode what is there of truncated clips, each with a warning; False: they are failures.
        allow_outside: read any file that a row names; False: only files that `datasets` has downloaded, so that the
            rows of a stranger do not name files of yours. Others are failures.
        level_lufs: loudness to which clips are leveled, see `CodecFeatureExtractor`; None: they keep their level.

    Returns:
        `id` string; `ids` List(int32) (N,) or List(List(int32)) (N, split); `num_samples` int64 and `sampling_rate`
        int32 after resampling; `path` string; with `level_lufs`, `audio_scale` float32, by which the decoded clip is
        multiplied to have its level; then the other columns, with `text`, `speaker` and `language` under these names.
        `info.description` holds `CorpusMetadata` as JSON.

    Raises:
        DataError: the audio column is missing, samples have no rate, or there are too many failures.
        ValueError: an option is out of range.
    """
    encoder = ClipEncoder(model, split, chunk_seconds, max_seconds, device, allow_truncated, level_lufs)
    source, source_features = undecoded(dataset)
    rows = DatasetRows(source_features, audio_column, "the dataset", allow_outside=allow_outside)
    metadata = CorpusMetadata.of(model, split, max_seconds, allow_truncated, level_lufs)
    encode = _BatchEncoder(rows, encoder, max_failures)
    schema = shard_schema(rows.columns, metadata)
    features = Features.from_arrow_schema(schema.remove_metadata().append(pa.field("error", pa.string())))
    every: dict[str, Any] = {
        "batched": True,
        "batch_size": WINDOW_ROWS,
        "with_indices": True,
        "remove_columns": list(source_features),
        "features": features,
    }
    if isinstance(source, IterableDataset):
        if num_proc is not None:
            raise ValueError("`num_proc` is not for an `IterableDataset`; give it to its DataLoader instead.")
        tokenized: Any = source.map(encode, **every).filter(_is_kept, input_columns="error")
    else:
        tokenized = source.map(
            encode,
            **every,
            num_proc=num_proc,
            with_rank=num_proc is not None and num_proc > 1,
            desc="tokenizing",
            new_fingerprint=Hasher.hash([source._fingerprint, metadata.to_json(), audio_column, allow_outside]),
        )
        if not len(source):  # `map` leaves the columns of an empty dataset as they are
            tokenized = Dataset.from_dict({name: [] for name in features}, features=features, split=source.split)
        failed = [error for error in tokenized["error"] if error is not None]
        _check(len(failed), max_failures)
        if failed:
            logger.warning("%d of %d clips could not be encoded and are left out.", len(failed), len(tokenized))
            tokenized = tokenized.filter(_is_kept, input_columns="error")
    tokenized = tokenized.remove_columns("error")
    tokenized.info.description = metadata.to_json()
    return tokenized


class _BatchEncoder:
    """The function that `map` applies to each batch of rows."""

    def __init__(self, rows: DatasetRows, encoder: ClipEncoder, max_failures: int | None) -> None:
        self._rows = rows
        self._encoder = encoder
        self._max_failures = max_failures
        self._failures = 0

    def __call__(self, batch: dict[str, list[Any]], numbers: list[int], rank: int | None = None) -> dict[str, Any]:
        rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
        records = [self._rows.record(row, number) for row, number in zip(rows, numbers, strict=True)]
        table = encode_records(records, 0, self._rows.columns, self._encoder, rank)
        for note in table["truncated"].drop_null().to_pylist():
            logger.warning(note)
        for error in filter(None, table["error"].to_pylist()):
            logger.warning(error)
            self._failures += 1
        _check(self._failures, self._max_failures)
        return table.drop_columns(["truncated", "row", "row_segment"]).to_pydict()


def _is_kept(error: str | None) -> bool:
    return error is None


def _check(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        raise CorpusError(
            f"{count} clips could not be encoded, more than the {limit} allowed: repair them, or allow more."
        )
