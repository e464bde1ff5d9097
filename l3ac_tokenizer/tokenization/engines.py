"""Who encodes the windows of a corpus: this process, several on this machine, or a Ray cluster.

An engine takes windows (start, stop) and gives tables of whole windows in any order, each row of the source once.
"""

from __future__ import annotations

import concurrent.futures.process
import multiprocessing
import multiprocessing.synchronize
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from .arrow import WindowEncoder
from .errors import CorpusError

Window = tuple[int, int]


class Engine(Protocol):
    """Encodes windows."""

    def run(self, work: WindowEncoder, windows: Sequence[Window]) -> Iterator[pa.Table]:
        """Tables of one or several windows each, in any order."""
        ...


class LocalEngine:
    """This machine.

    Args:
        num_proc: processes, each with one thread on the CPU; 1: this process, with the threads that torch has.
    """

    def __init__(self, num_proc: int = 1) -> None:
        if num_proc < 1:
            raise ValueError(f"`num_proc` is {num_proc}; it must be at least 1.")
        self.num_proc = num_proc

    def run(self, work: WindowEncoder, windows: Sequence[Window]) -> Iterator[pa.Table]:
        """Tables of the windows, in their order.

        Raises:
            CorpusError: a worker died.
        """
        if self.num_proc == 1:
            for window in windows:
                yield work(*window)
            return
        # Spawned, not forked: workers must not inherit the folder's lock, nor torch's threads.
        context = multiprocessing.get_context("spawn")
        ranks, stop = context.SimpleQueue(), context.Event()
        for rank in range(self.num_proc):
            ranks.put(rank)
        with concurrent.futures.ProcessPoolExecutor(
            self.num_proc, context, initializer=_begin_worker, initargs=(pickle.dumps(work), ranks, stop)
        ) as pool:
            waiting: deque[concurrent.futures.Future[pa.Table]] = deque()
            try:
                for window in windows:
                    waiting.append(pool.submit(_encode_window, window))
                    if len(waiting) > 2 * self.num_proc:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except concurrent.futures.process.BrokenProcessPool as error:
                raise CorpusError(
                    "a worker process died, most often for want of memory: run the same command again with fewer "
                    "processes or fewer seconds of audio at once."
                ) from error
            finally:
                if waiting:  # stopped early: what is in work is not waited for
                    stop.set()


_worker: tuple[WindowEncoder, int]


def _begin_worker(work: bytes, ranks: multiprocessing.SimpleQueue, stop: multiprocessing.synchronize.Event) -> None:
    """What a worker process does first: it takes its rank, and makes sure that it does not outlive the run."""
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
