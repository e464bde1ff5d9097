"""Windows of a corpus on a Ray cluster, through Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray

from .arrow import WindowEncoder
from .engines import Window
from .errors import CorpusError

MAX_BLOCKS = 10_000
"""Blocks that the windows of a run fall into. A block is what Ray hands to a worker, and does again when it is lost."""


class RayEngine:
    """A pool of workers that grows with the cluster, each with one CPU, or one GPU where the device is one.

    Every node must see the audio and the model's Python environment; ids go back to the process that began the run,
    and only that one writes. What a lost node had in work is done again by others.

    Args:
        address: of a running cluster, "auto" for the one that this machine belongs to; None: a new one of this machine
            alone. Where `ray.init` was called before, that connection is used.
        num_proc: most workers; None: as many as the cluster has place for.
    """

    def __init__(self, address: str | None = None, num_proc: int | None = None) -> None:
        if num_proc is not None and num_proc < 1:
            raise ValueError(f"`num_proc` is {num_proc}; it must be at least 1.")
        self.address = address
        self.num_proc = num_proc

    def run(self, work: WindowEncoder, windows: Sequence[Window]) -> Iterator[pa.Table]:
        """Tables of one or several windows each, in any order.

        Raises:
            CorpusError: the cluster cannot be reached, or gave up.
        """
        if not windows:
            return
        begun = not ray.is_initialized()
        try:
            if begun:
                ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR)
            yield from self._tables(work, windows)
        except (ray.exceptions.RayError, ConnectionError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CorpusError(
                f"the Ray cluster failed ({reason}): repair it; the same command goes on from the shards that are done."
            ) from error
        finally:
            if begun:
                ray.shutdown()

    def _tables(self, work: WindowEncoder, windows: Sequence[Window]) -> Iterator[pa.Table]:
        ray.data.DataContext.get_current().enable_progress_bars = False
        blocks = min(len(windows), MAX_BLOCKS)
        unit = "CPU" if work.encoder.device == "cpu" else "GPU"
        places = int(ray.cluster_resources().get(unit, 0))
        pool = ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=self.num_proc,
            initial_size=max(1, min(places, blocks, self.num_proc or blocks)),
        )
        tables = ray.data.from_items(
            [{"start": start, "stop": stop} for start, stop in windows], override_num_blocks=blocks
        ).map_batches(
            _Worker,
            fn_constructor_kwargs={"work": ray.put(work)},
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=1 if unit == "CPU" else None,
            num_gpus=1 if unit == "GPU" else None,
            max_restarts=-1,
            max_task_retries=-1,
        )
        yield from tables.iter_batches(batch_size=None, batch_format="pyarrow")


class _Worker:
    """One process of the pool."""

    def __init__(self, work: Any) -> None:
        self._work: WindowEncoder = ray.get(work)

    def __call__(self, window: pa.Table) -> pa.Table:
        return self._work(window["start"][0].as_py(), window["stop"][0].as_py(), rank=0)
