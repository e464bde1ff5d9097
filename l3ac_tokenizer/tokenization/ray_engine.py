"""`RayEngine`: windows of a source encoded on a Ray cluster, through Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray

from ..causes import with_causes
from .engines import Window, WindowEncoder
from .errors import CorpusError

MAX_BLOCKS = 10_000
"""Largest number of blocks of windows. A block is the unit that Ray gives to a worker, and repeats if it is lost."""


class RayEngine:
    """Encodes with a pool of workers that grows with the cluster, each with one CPU or, if the device is one, a GPU.

    Every node must see the audio and have the same Python environment. Ids return to the process that started the run,
    the only one that writes. Work of a lost node is repeated by others.

    Args:
        address: of a running cluster, "auto" for that of this machine; None: a new one on this machine alone. An
            existing connection of `ray.init` is used as it is.
        num_proc: largest number of workers; None: as many as the cluster has room for.
        gpus_per_worker: GPUs of a worker: a fraction, such as 0.25, by which workers share one, or 1; without effect on
            a CPU.

    Raises:
        ValueError: `num_proc` is below 1, or `gpus_per_worker` not in (0, 1].
    """

    def __init__(self, address: str | None = None, num_proc: int | None = None, gpus_per_worker: float = 1.0) -> None:
        if num_proc is not None and num_proc < 1:
            raise ValueError(f"`num_proc` is {num_proc}; it must be at least 1.")
        if not 0 < gpus_per_worker <= 1:
            raise ValueError(f"`gpus_per_worker` is {gpus_per_worker}; it must be above 0 and at most 1.")
        self.address = address
        self.num_proc = num_proc
        self.gpus_per_worker = gpus_per_worker

    def run(self, work: WindowEncoder, windows: Iterable[Window]) -> Iterator[pa.Table]:
        """Tables of one or several windows each, in any order; all windows are listed first.

        Raises:
            CorpusError: the cluster cannot be reached, or failed.
        """
        windows = list(windows)
        if not windows:
            return
        started = not ray.is_initialized()
        try:
            if started:
                ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR)
            yield from self._tables(work, windows)
        except (ray.exceptions.RayError, ConnectionError) as error:
            reason = with_causes(error)
            raise CorpusError(
                f"the Ray cluster failed ({reason}): repair it; the same command resumes from the finished shards."
            ) from error
        finally:
            if started:
                ray.shutdown()

    def _tables(self, work: WindowEncoder, windows: Sequence[Window]) -> Iterator[pa.Table]:
        ray.data.DataContext.get_current().enable_progress_bars = False
        blocks = min(len(windows), MAX_BLOCKS)
        unit, share = ("CPU", 1.0) if work.encoder.device == "cpu" else ("GPU", self.gpus_per_worker)
        places = int(ray.cluster_resources().get(unit, 0)) * int(1 / share)
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
            num_cpus=share if unit == "CPU" else None,
            num_gpus=share if unit == "GPU" else None,
            max_restarts=-1,
            max_task_retries=-1,
        )
        yield from tables.iter_batches(batch_size=None, batch_format="pyarrow")


class _Worker:
    """A process of the pool."""

    def __init__(self, work: Any) -> None:
        self._work: WindowEncoder = ray.get(work)

    def __call__(self, window: pa.Table) -> pa.Table:
        return self._work(window["start"][0].as_py(), window["stop"][0].as_py(), rank=0)
