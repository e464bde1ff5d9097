"""What a training process is fed with: the micro-batches of one update after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import count, islice

from accelerate import Accelerator

from ..config import TrainingConfig
from ..state import Position
from .corpus import DataError
from .sampler import Batch, BatchStream, Request, batches

logger = logging.getLogger(__name__)

FEW_UNUSABLE = 10
"""Unusable files that never stop a run."""


class Feed:
    """Asks the stream for what this process needs, and watches what could not be read.

    Args:
        stream: Gives the items.
        config: Phases, accumulation, workers.
        sampling_rate: In Hz.
        accelerator: Knows how many processes share an update, and which one this is.
    """

    def __init__(self, stream: BatchStream, config: TrainingConfig, sampling_rate: int, accelerator: Accelerator):
        self.stream = stream
        self.config = config
        self.sampling_rate = sampling_rate
        self.accelerator = accelerator

    def groups(self, position: Position, progress_at: Callable[[int], float]) -> Generator[list[Batch], None, None]:
        """The micro-batches of each update from `position` on, without end; close it to stop the workers.

        `progress_at` gives the share of the run, 0 to 1, that is over after so many updates.

        Raises:
            DataError: too many files are unusable.
        """
        on_gpu = self.accelerator.device.type == "cuda"
        requests = self._requests(position.step, position.items, progress_at)
        read = 0  # by this process, as what is skipped
        skipped: set[str] = set()
        # Closed here: an error would keep it, and with it the workers, for as long as someone holds the error.
        with closing(batches(self.stream, requests, workers=self.config.workers, pin=on_gpu)) as stream:
            for step in count(position.step):
                group = list(islice(stream, self._micro_batches(step)))
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
        """What this process asks of the stream, some updates ahead of the training."""
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
        """Micro-batches of an update: the discriminator's come first where it has its own."""
        options = self.config.discriminator
        own = options is not None and options.own_batches and options.is_due(step)
        return self.config.accumulation * (2 if own else 1)
