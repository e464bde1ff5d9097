"""All ids of a tokenized corpus as one array to memory-map, for training loops.

```python
ids = numpy.load("OUT/ids.npy", mmap_mode="r")   # (total,) int32, or (total, split)
index = numpy.load("OUT/index.npy")              # (clips + 1,) int64
clip = ids[index[k] : index[k + 1]]              # of row k of the shards, read in their order
```

`index.json` has the metadata of the corpus, a digest of both arrays, and a digest of the shards' names and sizes.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..parsing import parse_json
from ..storage import objects_below, write_whole, written_whole
from ..urls import is_url, joined
from .audio_tokens import AudioTokens
from .errors import CorpusError
from .output import locked
from .reader import TokenizedCorpus
from .spec import CorpusMetadata

IDS, INDEX, DESCRIPTION = "ids.npy", "index.npy", "index.json"


@dataclass(frozen=True, eq=False)
class NpyIndex:
    """The arrays of a folder, memory-mapped; pickled by the folder's name.

    Attributes:
        folder: where they are.
        ids: (total,) or (total, split) int32.
        index: (clips + 1,) int64; clip k is `ids[index[k] : index[k + 1]]`.
        metadata: of the ids.
        digest: SHA-256 of both arrays.
    """

    folder: str
    ids: np.ndarray
    index: np.ndarray
    metadata: CorpusMetadata
    digest: str

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.index) - 1

    def __reduce__(self) -> tuple[Any, ...]:
        return read_npy_index, (self.folder,)


def write_npy_index(folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> None:
    """Write the array of all ids and its index; memory does not grow with the ids.

    Args:
        folder: with the shards.
        output: folder or URL, created if necessary; None: beside the shards.

    Raises:
        CorpusError: the folder holds no tokenized corpus, an id is out of range, or the output is being written.
        OSError: the disk is full, or cannot be written for another reason.
    """
    target = os.fspath(folder if output is None else output)
    if not (is_url(folder) or os.path.isdir(folder)):
        raise CorpusError(f"{folder} is not a folder: give the output of `l3ac tokenize`.")
    with locked(target):
        corpus = TokenizedCorpus(folder)
        shards = shards_digest(folder)
        tokens = AudioTokens.of(corpus.metadata)
        index = np.zeros(len(corpus) + 1, dtype=np.int64)
        lengths = (len(ids) for table in corpus.tables(["ids"]) for ids in corpus.stored_ids(table))
        index[1:] = np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(index) - 1))
        total = int(index[-1])
        shape = (total,) if corpus.metadata.split == 1 else (total, corpus.metadata.split)
        header = {"descr": "<i4", "fortran_order": False, "shape": shape}
        digest = hashlib.sha256(index.astype("<i8").data)
        if not is_url(target):  # it is written last, of arrays that belong together
            Path(target, DESCRIPTION).unlink(missing_ok=True)
        with written_whole(joined(target, IDS)) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for table in corpus.tables(["ids"]):
                stored = np.concatenate([np.empty((0, *shape[1:]), "<i4"), *corpus.stored_ids(table)])
                tokens.check(stored, str(folder))
                file.write(stored.data)
                digest.update(stored.data)
        with written_whole(joined(target, INDEX)) as file:
            np.save(file, index)
        description = {"l3ac_index": 1, "sha256": digest.hexdigest(), "shards": shards}
        written = json.dumps({**description, "metadata": asdict(corpus.metadata)}, indent=2)
        write_whole(joined(target, DESCRIPTION), written.encode())


def read_npy_index(folder: str | os.PathLike[str]) -> NpyIndex:
    """Memory-map the arrays that `write_npy_index` wrote.

    Raises:
        CorpusError: the folder has none, shards were added or replaced since, or a file is damaged.
    """
    path = Path(folder)
    again = f"write it with `l3ac export-tokens CORPUS -o {folder} --format npy-index`"
    if not (path / DESCRIPTION).is_file():
        raise CorpusError(f"{folder} has no complete index of its ids ({DESCRIPTION}): {again}.")
    try:
        description = parse_json((path / DESCRIPTION).read_bytes())
        if description["l3ac_index"] != 1:
            raise ValueError("another version")
        metadata = CorpusMetadata.from_json(json.dumps(description["metadata"]), str(path / DESCRIPTION))
        ids, index = (np.asarray(np.load(path / name, mmap_mode="r")) for name in (IDS, INDEX))
        shape = (int(index[-1]),) if metadata.split == 1 else (int(index[-1]), metadata.split)
        if index.dtype != np.int64 or index.ndim != 1 or ids.dtype != np.int32 or ids.shape != shape or index[0]:
            raise ValueError("the arrays do not fit together")
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        raise CorpusError(f"the index of {folder} is damaged ({error}): {again}.") from error
    shards = shards_digest(folder)
    if shards is not None and shards != description["shards"]:
        raise CorpusError(f"the shards of {folder} have changed since their index was written: {again} again.")
    return NpyIndex(str(folder), ids, index, metadata, str(description["sha256"]))


def shards_digest(folder: str | os.PathLike[str]) -> str | None:
    """SHA-256 of the names and sizes of the shards in a folder; None without shards."""
    if is_url(folder):
        sizes = {name: size for name, size in objects_below(str(folder)).items() if "/" not in name}
    else:
        with os.scandir(folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
    shards = sorted((name, size) for name, size in sizes.items() if name.endswith(".parquet"))
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest() if shards else None
