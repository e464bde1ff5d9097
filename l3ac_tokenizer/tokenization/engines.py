"""Execution backends: this process, or several on this machine; `ray_engine` has a cluster.

An engine takes windows (start, stop) of a source and gives tables of complete windows in any order, each row once.
"""

from __future__ import annotations

import concurrent.futures.process
import itertools
import multiprocessing
import multiprocessing.synchronize
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import pyarrow as pa

from ..audio import AudioSegment
from ..children import spawn_context
from ..limits import WINDOW_BYTES
from .arrow import encode_records
from .encoding import ClipEncoder
from .errors import CorpusError
from .sources.base import Record, Source, safe_records

Window = tuple[int, int]


class WindowEncoder:
    """Encodes windows of a source: all the work of a worker, and all that is sent to it."""

    def __init__(self, source: Source, encoder: ClipEncoder) -> None:
        self.source = source
        self.encoder = encoder

    def __call__(self, start: int, stop: int, rank: int | None = None) -> pa.Table:
        """The table of the records from `start` up to, not including, `stop`; see `arrow.encode_records`."""
        records = safe_records(self.source, start, stop)
        parts = []
        for part in _by_bytes(records, WINDOW_BYTES.value):
            parts.append(encode_records(part, start, self.source.columns, self.encoder, rank))
            start += len(part)
        return pa.concat_tables(parts)


def _by_bytes(records: Iterable[Record], most: float) -> Iterator[list[Record]]:
    """Records in groups whose audio takes at most `most` bytes of memory together, or of one record."""
    group: list[Record] = []
    size = 0
    for record in records:
        audio = record.audio.get("bytes") if isinstance(record.audio, dict) else record.audio
        audio = audio.path if isinstance(audio, AudioSegment) else audio
        own = len(audio) if isinstance(audio, (bytes, bytearray)) else 0
        if group and size + own > most:
            yield group
            group, size = [], 0
        group.append(record)
        size += own
    yield group


class Engine(Protocol):
    """Encodes windows."""

    def run(self, work: WindowEncoder, windows: Iterable[Window]) -> Iterator[pa.Table]:
        """Tables of one or several windows each, in any order."""
        ...


class LocalEngine:
    """Encodes on this machine.

    Args:
        num_proc: processes, each with one thread on the CPU; 1: this process, with all threads of torch.
    """

    def __init__(self, num_proc: int = 1) -> None:
        if num_proc < 1:
            raise ValueError(f"`num_proc` is {num_proc}; it must be at least 1.")
        self.num_proc = num_proc

    def run(self, work: WindowEncoder, windows: Iterable[Window]) -> Iterator[pa.Table]:
        """Tables of the windows; of several processes, each as soon as it is there.

        Raises:
            CorpusError: a worker died.
        """
        if self.num_proc == 1:
            for window in windows:
                yield work(*window)
            return
        # Spawned, not forked: workers must not inherit the folder's lock, nor torch's threads.
        context = spawn_context()
        ranks, stop = context.SimpleQueue(), context.Event()
        for rank in range(self.num_proc):
            ranks.put(rank)
        with concurrent.futures.ProcessPoolExecutor(
            self.num_proc, context, initializer=_begin_worker, initargs=(pickle.dumps(work), ranks, stop)
        ) as pool:
            waiting: set[concurrent.futures.Future[pa.Table]] = set()
            left = iter(windows)
            try:
                while True:
                    free = 2 * self.num_proc + 1 - len(waiting)  # a worker never waits for this process
                    waiting |= {pool.submit(_encode_window, window) for window in itertools.islice(left, free)}
                    if not waiting:
                        return
                    done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            except concurrent.futures.process.BrokenProcessPool as error:
                waiting.clear()  # the pool ends its workers; an event waits for all that wait for it, dead ones too
                raise CorpusError(
                    "a worker process died, most often because memory ran out: run the same command again with fewer "
                    "processes or fewer seconds of audio at once."
                ) from error
            finally:
                if waiting:  # stopped early: windows in progress are not awaited
                    stop.set()


_worker: tuple[WindowEncoder, int]


def _begin_worker(work: bytes, ranks: multiprocessing.SimpleQueue, stop: multiprocessing.synchronize.Event) -> None:
    """Initialize a worker process: it takes a rank, and ends with the run."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's interrupt is for the run, which ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    for end in (parent.join, stop.wait):
        threading.Thread(target=_leave_after, args=(end,), daemon=True).start()
    _worker = pickle.loads(work), ranks.get()


def _leave_after(end: Callable[[], object]) -> None:
    end()
    os._exit(1)


def _encode_window(window: Window) -> pa.Table:
    work, rank = _worker
    return work(*window, rank=rank)
