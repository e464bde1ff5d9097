"""`BatchLoader`: the micro-batches of each update for one training process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import count, islice

from accelerate import Accelerator

from ...listing.errors import DataError
from ...logs import get_logger
from ..config import TrainingConfig
from ..state import Counters
from .sampler import Batch, CropSampler, Request, batches

logger = get_logger(__name__)

FEW_UNUSABLE = 10
"""Number of unusable files that never stops a run."""


class BatchLoader:
    """Loads the items that this process needs, and counts the files that cannot be used.

    Args:
        sampler: Draws the items.
        config: Phases, accumulation, workers.
        sampling_rate: In Hz.
        accelerator: Number of processes that share an update, and the index of this one.
    """

    def __init__(self, sampler: CropSampler, config: TrainingConfig, sampling_rate: int, accelerator: Accelerator):
        self.sampler = sampler
        self.config = config
        self.sampling_rate = sampling_rate
        self.accelerator = accelerator

    def groups(self, counters: Counters, progress_at: Callable[[int], float]) -> Generator[list[Batch], None, None]:
        """The micro-batches of each update from `counters` on, endlessly; close the generator to stop the workers.

        `progress_at` gives the fraction of the run, 0 to 1, that is over after a number of updates.

        Raises:
            DataError: too many files are unusable.
        """
        on_gpu = self.accelerator.device.type == "cuda"
        requests = self._requests(counters.step, counters.items, progress_at)
        read = 0  # items of this process alone, as are those skipped
        skipped: set[str] = set()
        # Closed here: an error would keep it alive, and with it the workers, for as long as the error is held.
        with closing(batches(self.sampler, requests, workers=self.config.workers, pin=on_gpu)) as loaded:
            for step in count(counters.step):
                group = list(islice(loaded, self._micro_batches(step)))
                for reason in {reason for batch in group for reason in batch.unusable} - skipped:
                    logger.warning("skipped: %s", reason)
                    skipped.add(reason)
                read += sum(batch.request.size for batch in group)
                if len(skipped) > max(FEW_UNUSABLE, self.config.max_unusable * read):
                    raise DataError(
                        f"{len(skipped)} files among {read} items are unusable, one of them: {min(skipped)}"
                    )
                yield group

    def _requests(self, step: int, items: int, progress_at: Callable[[int], float]) -> Iterator[Request]:
        """Requests of this process to the sampler; the loader takes them some updates ahead of the training."""
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        while True:
            progress = progress_at(step)
            number = next((n for n, p in enumerate(self.config.phases) if progress < p.until), -1)
            phase = self.config.phases[number]
            size, length = phase.batch_size, round(phase.crop_seconds * self.sampling_rate)
            for _ in range(self._micro_batches(step)):
                yield Request(number, items + process * size, size, length)
                items += processes * size
            step += 1

    def _micro_batches(self, step: int) -> int:
        """Number of micro-batches of an update; those of a discriminator with batches of its own come first."""
        options = self.config.discriminator
        own = options is not None and options.own_batches and options.is_due(step)
        return self.config.accumulation * (2 if own else 1)
