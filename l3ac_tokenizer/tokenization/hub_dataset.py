"""A dataset of the hub, or one that `datasets` has cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import CorpusError
from .sources import KNOWN_NAMES, Record, renamed

if TYPE_CHECKING:
    from datasets import Dataset


class HubSource:
    """Rows of a `datasets.Dataset` with a column of audio files, which are never decoded by `datasets`.

    Args:
        dataset: with one column of the feature `Audio`.
        name: what messages call it.

    Raises:
        CorpusError: it has no column of audio.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        from datasets import Audio

        self.kind = "hub dataset"
        audio = [column for column, feature in dataset.features.items() if isinstance(feature, Audio)]
        if not audio:
            raise CorpusError(f"{name} has no column of audio among {', '.join(dataset.column_names)}.")
        self._audio = audio[0]
        self._dataset = dataset.cast_column(self._audio, Audio(decode=False))
        self._names = renamed(column for column in dataset.column_names if column not in audio)
        schema = self._dataset.features.arrow_schema
        import pyarrow as pa

        self.columns = {
            ours: pa.string() if ours in KNOWN_NAMES else schema.field(column).type
            for column, ours in self._names.items()
            if ours not in ("id", "path")
        }

    def __len__(self) -> int:
        return len(self._dataset)

    def digest(self) -> str:
        """SHA-256 over the dataset's own fingerprint, split and size."""
        facts = [self._dataset._fingerprint, str(self._dataset.split), len(self._dataset)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The rows from `start` up to `stop`."""
        for number in range(start, stop):
            row = self._dataset[number]
            columns = {ours: self._value(column, row[column]) for column, ours in self._names.items()}
            audio = row[self._audio] or {}
            data, inner = audio.get("bytes"), audio.get("path")
            name = columns.pop("id", None)
            path = columns.pop("path", None) or inner or str(number)
            error = None if data or inner else f"row {number} has no audio: it is null."
            opened = data if data is not None else inner or ""
            yield Record(str(number) if name is None else name, opened, path, columns, error)

    def _value(self, column: str, value: Any) -> Any:
        if self._names[column] not in KNOWN_NAMES or value is None:
            return value
        feature = self._dataset.features[column]
        return feature.int2str(value) if hasattr(feature, "int2str") else str(value)


def open_hub(name: str, config: str | None, split: str) -> HubSource:
    """A split of a dataset by its name on the hub, downloaded or from the cache.

    Raises:
        CorpusError: it cannot be loaded, or has no audio.
    """
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, config, split=split)
    except Exception as error:  # the hub, the network and the builder each have their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(
            f"{name} is no file or folder, and no dataset of that name could be loaded ({reason}): check the name, "
            "the configuration and the split."
        ) from error
    return HubSource(dataset, name)
