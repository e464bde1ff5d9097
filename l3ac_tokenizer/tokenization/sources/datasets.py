"""Rows of a `datasets` dataset as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa
from datasets import Audio, Dataset, Features, IterableDataset

from ..errors import CorpusError
from .base import KNOWN_NAMES, Record, renamed

_Dataset = TypeVar("_Dataset", Dataset, IterableDataset)


def undecoded(dataset: _Dataset) -> tuple[_Dataset, Features]:
    """The dataset with audio that `datasets` does not decode, and its features.

    Raises:
        CorpusError: an iterable dataset without rows.
    """
    if dataset.features is None:
        dataset = dataset._resolve_features()  # reads the first rows of an iterable dataset
    if dataset.features is None:
        raise CorpusError("the dataset has no rows, so its columns are not known: give one with audio.")
    for column, kind in dataset.features.items():
        if isinstance(kind, Audio):
            dataset = dataset.cast_column(column, Audio(decode=False))
    assert dataset.features is not None
    return dataset, dataset.features


class DatasetRows:
    """What the columns of a dataset mean to us.

    Attributes:
        columns: types of what is carried along.

    Args:
        features: of the dataset, from `undecoded`.
        audio_column: of the feature `Audio`, of paths, of file bytes, of {bytes, path} or {array, sampling_rate}, or
            of samples beside a column `sampling_rate`; None: the first of the feature `Audio`, or `audio`.
        name: what messages call the dataset.

    Raises:
        CorpusError: there is no such column, or samples have no rate.
    """

    def __init__(self, features: Features, audio_column: str | None, name: str) -> None:
        if audio_column is None:
            audio_column = next((column for column, kind in features.items() if isinstance(kind, Audio)), "audio")
        if audio_column not in features:
            raise CorpusError(f"{name} has no column {audio_column!r} of audio; it has {', '.join(features)}.")
        schema = features.arrow_schema
        self._features = features
        self._audio = audio_column
        self._is_samples = pa.types.is_list(schema.field(audio_column).type)
        if self._is_samples and "sampling_rate" not in features:
            raise CorpusError(
                f"{name} has samples in {audio_column!r} and no column `sampling_rate`: add it, in Hz, as without it "
                "ids may be of another pitch."
            )
        self._names = renamed(column for column in features if column != audio_column)
        self.columns: Mapping[str, pa.DataType] = {
            ours: pa.string() if ours in KNOWN_NAMES else schema.field(column).type
            for column, ours in self._names.items()
            if ours not in ("id", "path")
        }

    def record(self, row: Mapping[str, Any], number: int) -> Record:
        """A row as a record; without a column of ids, `number` is its id."""
        columns = {ours: self._value(column, row[column]) for column, ours in self._names.items()}
        audio = row[self._audio]
        if self._is_samples and audio is not None:
            audio = {"array": audio, "sampling_rate": row["sampling_rate"]}
        inner = audio.get("path") if isinstance(audio, dict) else audio if isinstance(audio, str) else None
        name = columns.pop("id", None)
        path = columns.pop("path", None) or inner or f"row {number}"
        missing = audio is None or (isinstance(audio, dict) and not any(value is not None for value in audio.values()))
        error = f"{path} has no audio: it is null." if missing else None
        return Record(str(number) if name is None else name, audio, path, columns, error)

    def _value(self, column: str, value: Any) -> Any:
        if self._names[column] not in KNOWN_NAMES or value is None:
            return value
        feature = self._features[column]
        return feature.int2str(value) if hasattr(feature, "int2str") else str(value)
