"""`write_npy_index`: all ids of a tokenized corpus as one array to memory-map, for training loops.

```python
ids = numpy.load("OUT/ids.npy", mmap_mode="r")   # (total,) int32, or (total, split)
index = numpy.load("OUT/index.npy")              # (clips + 1,) int64
clip = ids[index[k] : index[k + 1]]              # of row k of the shards, read in their order
```
"""

from __future__ import annotations

import os

import numpy as np

from ..storage import written_whole
from ..urls import joined
from .output import locked
from .reader import TokenizedCorpus


def write_npy_index(folder: str | os.PathLike[str]) -> None:
    """Write `ids.npy` and `index.npy` beside the shards of a corpus, at its path or URL, in memory of constant size.

    Raises:
        CorpusError: the folder holds no tokenized corpus, or is being written.
        OSError: the disk is full, or cannot be written for another reason.
    """
    with locked(folder):
        corpus = TokenizedCorpus(folder)
        index = np.zeros(len(corpus) + 1, dtype=np.int64)
        lengths = (len(ids) for table in corpus.tables(["ids"]) for ids in corpus.stored_ids(table))
        index[1:] = np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(index) - 1))
        total = int(index[-1])
        shape = (total,) if corpus.metadata.split == 1 else (total, corpus.metadata.split)
        header = {"descr": "<i4", "fortran_order": False, "shape": shape}
        with written_whole(joined(os.fspath(folder), "ids.npy")) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for table in corpus.tables(["ids"]):
                for ids in corpus.stored_ids(table):
                    file.write(np.ascontiguousarray(ids, dtype="<i4").data)
        with written_whole(joined(os.fspath(folder), "index.npy")) as file:
            np.save(file, index)
