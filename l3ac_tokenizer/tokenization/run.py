"""`tokenize_corpus`: a source to a folder of shards, resumable, with the same rows however often it is killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ..logs import get_logger
from .encoding import ClipEncoder, SegmentEncoder
from .engines import Engine, LocalEngine, WindowEncoder
from .errors import CorpusError
from .output import OutputFolder, locked
from .sources.base import Source
from .spec import Job, TokenizationOptions

if TYPE_CHECKING:
    from ..modeling import CodecEncoding

logger = get_logger(__name__)


def tokenize_corpus(
    source: Source,
    model: CodecEncoding,
    output: str | os.PathLike[str],
    options: TokenizationOptions | None = None,
    *,
    engine: Engine | None = None,
    chunk_seconds: float = 30.0,
    device: str = "cpu",
    max_failures: int | None = None,
) -> dict[str, Any]:
    """Encode a source into Parquet shards with a manifest and a summary; the same call resumes after an interruption.

    The source, the model and `options` determine the rows. The other arguments may change from one call to the next.

    Args:
        source: see `open_source`.
        model: the codec, or its encoder alone, in evaluation mode.
        output: folder, created if necessary, or URL of a place on object storage.
        options: None: their defaults.
        engine: execution backend; None: this process.
        chunk_seconds: seconds of audio in the network at once.
        device: torch device of the engine's workers.
        max_failures: stop when more clips than these cannot be encoded; None: never.

    Returns:
        The summary, as `summary.json` holds it.

    Raises:
        CorpusError: the folder holds another job or is being written, or there are too many failures.
        OSError: the disk is full, or cannot be written for another reason.
    """
    options = options or TokenizationOptions()
    how = (options.split, chunk_seconds, options.max_seconds, device, options.allow_truncated, options.level_lufs)
    encoder = ClipEncoder(model, *how)
    if options.segmentation is not None:
        encoder = SegmentEncoder(options.segmentation, model, *how)
    for remark in source.remarks:
        logger.warning(remark)
    with locked(output):
        folder = OutputFolder(output, Job.of(source, model, options), source.columns)
        folder.prepare()
        sizes = source.sizes()
        pending = folder.pending()
        windows = (window for shard in pending for window in folder.job.windows_of(shard, sizes))
        tables = (engine or LocalEngine()).run(WindowEncoder(source, encoder), windows)
        try:
            with _progress(folder, pending) as bar:
                _write_shards(folder, _watched(tables, folder, max_failures, bar))
        finally:
            tables.close()  # type: ignore[attr-defined]
            summary = folder.write_summary()
    return summary


def _write_shards(folder: OutputFolder, tables: Iterator[pa.Table]) -> None:
    """Collect rows into shards, and write each shard once it is complete.

    Raises:
        CorpusError: the engine lost or repeated a row; incomplete shards are not written.
    """
    parts: dict[int, list[pa.Table]] = {}
    since = time.perf_counter()
    for table in tables:
        shards = folder.job.shards_of(table["row"].to_numpy())
        for shard in map(int, np.unique(shards)):
            parts.setdefault(shard, []).append(table.filter(pa.array(shards == shard)))
            rows = folder.job.rows_of(shard)
            if sum(map(_records, parts[shard])) >= len(rows):
                whole = pa.concat_tables(parts.pop(shard)).sort_by([("row", "ascending"), ("row_segment", "ascending")])
                if not _is_complete(whole, rows):
                    raise CorpusError(f"shard {shard} came back with repeated or missing rows: run the command again.")
                folder.commit(shard, whole, time.perf_counter() - since)
                since = time.perf_counter()
    if folder.pending():
        raise CorpusError(f"{len(folder.pending())} shards did not come back complete: run the command again.")


def _records(table: pa.Table) -> int:
    """Number of records that a table has rows of."""
    return len(np.unique(table["row"].to_numpy()))


def _is_complete(table: pa.Table, rows: range) -> bool:
    """Whether a sorted table has all records of a shard, and the segments of each from the first on, each once."""
    row, segment = (table[name].to_numpy() for name in ("row", "row_segment"))
    first = segment == 0
    return np.array_equal(row[first], rows) and bool(
        np.all(first[1:] | ((np.diff(row) == 0) & (np.diff(segment) == 1)))
    )


def _watched(
    tables: Iterator[pa.Table], folder: OutputFolder, max_failures: int | None, bar: tqdm
) -> Iterator[pa.Table]:
    """The same tables, while failures are logged and limited, truncated clips logged, and the progress bar updated."""
    count = sum(entry.failures for entry in folder.entries.values())
    _check_failures(count, max_failures)
    for table in tables:
        for note in table["truncated"].drop_null().to_pylist():
            logger.warning(note)
        for failure in table.filter(table["error"].is_valid()).to_pylist():
            logger.warning(failure["error"])
            count += 1
            _check_failures(count, max_failures)
        bar.update(_records(table))
        yield table


def _check_failures(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        raise CorpusError(
            f"{count} clips could not be encoded, more than the {limit} allowed: repair them, or allow more; the same "
            "command resumes from the finished shards."
        )


def _progress(folder: OutputFolder, pending: Sequence[int]) -> tqdm:
    total = sum(len(folder.job.rows_of(shard)) for shard in folder.job.shards())
    left = sum(len(folder.job.rows_of(shard)) for shard in pending)
    return tqdm(total=total, initial=total - left, desc="tokenizing", unit=" clips", file=sys.stderr, disable=None)
