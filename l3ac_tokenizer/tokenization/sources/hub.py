"""A dataset of the hub, or one that `datasets` has cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import CorpusError
from .base import Record
from .datasets import DatasetRows, undecoded

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class HubSource:
    """Rows of a `datasets.Dataset`, whose audio is never decoded by `datasets`.

    Args:
        dataset: with a column of audio, see `DatasetRows`.
        name: what messages call it.

    Raises:
        CorpusError: it has no column of audio.
    """

    kind = "hub dataset"

    def __init__(self, dataset: Dataset, name: str) -> None:
        self._dataset, features = undecoded(dataset)
        self._rows = DatasetRows(features, None, name)

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Types of what is carried along."""
        return self._rows.columns

    def __len__(self) -> int:
        return len(self._dataset)

    def digest(self) -> str:
        """SHA-256 over the dataset's own fingerprint, split and size."""
        facts = [self._dataset._fingerprint, str(self._dataset.split), len(self._dataset)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The rows from `start` up to `stop`."""
        for number in range(start, stop):
            yield self._rows.record(self._dataset[number], number)


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
