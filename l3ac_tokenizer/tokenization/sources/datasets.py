"""Datasets of the `datasets` library: their rows as records, and a dataset of the hub as a source."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from datasets import Audio, Dataset, Features, IterableDataset, config

from ...causes import with_causes
from ...listing.columns import COLUMN_NAMES, renamed
from ...listing.errors import DataError
from ...names import is_within, public_path
from .base import RESERVED, Record

_Dataset = TypeVar("_Dataset", Dataset, IterableDataset)


def undecoded(dataset: _Dataset) -> tuple[_Dataset, Features]:
    """The dataset with audio left undecoded, and its features.

    Raises:
        DataError: an iterable dataset has no rows.
    """
    if dataset.features is None:
        dataset = dataset._resolve_features()  # reads the first rows of an iterable dataset
    if dataset.features is None:
        raise DataError("the dataset has no rows, so its columns are not known: give one with audio.")
    for column, kind in dataset.features.items():
        if isinstance(kind, Audio):
            dataset = dataset.cast_column(column, Audio(decode=False))
    assert dataset.features is not None
    return dataset, dataset.features


class DatasetRows:
    """Turns rows of a dataset into records, by the names and types of its columns.

    Attributes:
        columns: types of the columns that are carried along.

    Args:
        features: of the dataset, from `undecoded`.
        audio_column: of the feature `Audio`, of paths, of file bytes, of {bytes, path} or {array, sampling_rate}, or
            of samples beside a column `sampling_rate`; None: the first of the feature `Audio`, or `audio`.
        name: of the dataset in messages.
        allow_outside: read any file that a row names; without it only those that `datasets` has downloaded.

    Raises:
        DataError: the column does not exist, or samples have no rate.
    """

    def __init__(self, features: Features, audio_column: str | None, name: str, *, allow_outside: bool = False) -> None:
        self._allow_outside = allow_outside
        if audio_column is None:
            audio_column = next((column for column, kind in features.items() if isinstance(kind, Audio)), "audio")
        if audio_column not in features:
            raise DataError(f"{name} has no column {audio_column!r} of audio; it has {', '.join(features)}.")
        schema = features.arrow_schema
        self._features = features
        self._audio = audio_column
        self._is_samples = pa.types.is_list(schema.field(audio_column).type)
        if self._is_samples and "sampling_rate" not in features:
            raise DataError(
                f"{name} has samples in {audio_column!r} and no column `sampling_rate`: add it, in Hz, "
                "without which the samples cannot be resampled."
            )
        self._names = renamed((column for column in features if column != audio_column), RESERVED)
        self.columns: Mapping[str, pa.DataType] = {
            ours: pa.string() if ours in COLUMN_NAMES else schema.field(column).type
            for column, ours in self._names.items()
            if ours not in ("id", "path")
        }

    @property
    def id_column(self) -> str | None:
        """Name of the column of ids, if there is one."""
        return next((column for column, ours in self._names.items() if ours == "id"), None)

    def record(self, row: Mapping[str, Any], number: int) -> Record:
        """A row as a record; its id is `number` where the dataset has no column of ids."""
        columns = {ours: self._value(column, row[column]) for column, ours in self._names.items()}
        audio = row[self._audio]
        if self._is_samples and audio is not None:
            audio = {"array": audio, "sampling_rate": row["sampling_rate"]}
        inner = audio.get("path") if isinstance(audio, dict) else audio if isinstance(audio, str) else None
        name = columns.pop("id", None)
        path = columns.pop("path", None) or inner or f"row {number}"
        missing = audio is None or (isinstance(audio, dict) and not any(value is not None for value in audio.values()))
        error = f"{path} has no audio: it is null." if missing else None
        names_file = isinstance(audio, str) or (isinstance(audio, dict) and audio.get("bytes") is None)
        if error is None and names_file and inner and not self._allow_outside and not _is_downloaded(inner):
            error = (
                f"{path} is not a file that the dataset has brought: store the audio in its rows, or allow paths "
                "(--allow-outside, in Python allow_outside=True) if you know where they come from."
            )
        return Record(str(number) if name is None else name, audio, public_path(path, ""), columns, error)

    def _value(self, column: str, value: Any) -> Any:
        if self._names[column] not in COLUMN_NAMES or value is None:
            return value
        feature = self._features[column]
        return feature.int2str(value) if hasattr(feature, "int2str") else str(value)


def _is_downloaded(path: str) -> bool:
    return any(is_within(path, root) for root in (config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH))


class HubSource:
    """Rows of a `datasets.Dataset`, whose audio is read by us, not decoded by `datasets`.

    Args:
        dataset: with a column of audio, see `DatasetRows`.
        name: of the dataset in messages.
        allow_outside: see `DatasetRows`.

    Raises:
        DataError: it has no column of audio.
    """

    kind = "hub dataset"

    def __init__(self, dataset: Dataset, name: str, *, allow_outside: bool = False) -> None:
        self._dataset, features = undecoded(dataset)
        self._rows = DatasetRows(features, None, name, allow_outside=allow_outside)
        column = self._rows.id_column
        counts = Counter() if column is None else Counter(dataset.select_columns(column)[:][column])
        self._repeated = {str(value) for value, count in counts.items() if count > 1}
        self.remarks = (
            [f"{len(self._repeated)} ids of {name} name several rows: they get the row's number, ID:ROW."]
            if self._repeated
            else []
        )

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Types of the columns that are carried along."""
        return self._rows.columns

    def __len__(self) -> int:
        return len(self._dataset)

    def sizes(self) -> np.ndarray | None:
        """None: only reading the rows would tell."""
        return None

    def digest(self) -> str:
        """SHA-256 over the dataset's own fingerprint, split and size."""
        identity = [self._dataset._fingerprint, str(self._dataset.split), len(self._dataset)]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The rows from `start` up to, not including, `stop`."""
        for number in range(start, stop):
            record = self._rows.record(self._dataset[number], number)
            yield replace(record, id=f"{record.id}:{number}") if record.id in self._repeated else record


def open_hub(name: str, configuration: str | None, split: str, *, allow_outside: bool = False) -> HubSource:
    """A split of a dataset by its name on the hub, downloaded or from the cache; for `allow_outside` see `DatasetRows`.

    Raises:
        DataError: it cannot be loaded, for instance because the download stalled, or it has no audio.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, configuration, split=split)
    except Exception as error:  # hub, network and dataset builder each raise their own
        raise DataError(
            f"no file or folder {name} exists, and no dataset of that name could be loaded ({with_causes(error)}): "
            "check the name, the configuration and the split, and that packages it names are installed."
        ) from error
    return HubSource(dataset, name, allow_outside=allow_outside)
