"""`CropSampler`: an endless sequence of random crops, and batches of them from worker processes.

Item i is a function of (seed, i) alone, so a resumed run, or one with more processes, sees the same items.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...causes import failure
from ...children import safe_start
from ...listing.errors import DataError
from ..config import Augment
from . import augment
from .augment import Samples
from .corpus import Corpus, TrainingClip

ATTEMPTS = 8
"""Number of other clips of the domain that are tried instead of one that cannot be used."""

SHORTEST_CYCLE = 60
"""Smallest number of items after which the turns of the domains repeat."""
LONGEST_CYCLE = 100_000
SHARE_TOLERANCE = 1 / 8
"""Relative tolerance of a domain's sampling share in a cycle."""

SECONDS_TO_SAVE = 15
"""Time that workers outlive a SIGTERM."""


class WorkerDied(DataError):
    """A process that reads audio died."""


class Request(NamedTuple):
    """Request for the items of one micro-batch of one process."""

    phase: int
    first: int
    size: int
    length: int
    """Samples of each item."""


class Batch(NamedTuple):
    """One micro-batch."""

    request: Request
    samples: Tensor
    """(B, 1, T) float32 in [-1, 1]."""
    unusable: list[str]
    """Reasons why clips were skipped."""


class CropSampler:
    """Random crops whose domains take turns in fixed shares.

    Within a domain every clip comes once before any comes again. Clips shorter than a crop are zero-padded to its
    length; the published training pads to the longest item of the batch.

    Args:
        corpus: Reads the clips.
        clips: Clips to draw from.
        shares: Share of each domain; empty: equal shares of all domains of the clips.
        options: Augmentation.
        seed: Determines the order, the crops and the augmentation.

    Raises:
        DataError: a domain with a share has no clips or too small a share, or no domain has a share.
    """

    def __init__(
        self, corpus: Corpus, clips: Sequence[TrainingClip], shares: Mapping[str, float], options: Augment, seed: int
    ):
        self.corpus = corpus
        self.options = options
        self.seed = seed
        shares = shares or dict.fromkeys(sorted({clip.domain for clip in clips}), 1.0)
        self.domains = [name for name, share in shares.items() if share > 0]
        if not self.domains:
            raise DataError("No audio is left to train on: hold out less of it, or give a domain a share above 0.")
        by_domain: dict[str, list[TrainingClip]] = {name: [] for name in self.domains}
        for clip in clips:
            if clip.domain in by_domain:
                by_domain[clip.domain].append(clip)
        for name, members in by_domain.items():
            if not members:
                raise DataError(f"No training audio in domain {name!r}: add a folder of it or set its share to 0.")
        self.clips = list(by_domain.values())
        self._turns = _turns({name: shares[name] for name in self.domains})
        self._rank = np.empty_like(self._turns)  # of a turn among those of its domain
        for domain in range(len(self.domains)):
            own = self._turns == domain
            self._rank[own] = np.arange(own.sum())
        self._per_cycle = np.bincount(self._turns, minlength=len(self.domains))
        self._order = functools.lru_cache(maxsize=2 * len(self.domains))(self._permutation)

    def __getitem__(self, request: Request) -> Batch:
        """The batch of a request; a mapping from requests to batches is a dataset for PyTorch's DataLoader."""
        unusable: list[str] = []
        items = [
            self.item(index, request.length, unusable) for index in range(request.first, request.first + request.size)
        ]
        return Batch(request, torch.from_numpy(np.stack(items)[:, None]), unusable)

    def item(self, index: int, length: int, unusable: list[str]) -> Samples:
        """Item `index`, (length,) float32 in [-1, 1]; reasons why clips were skipped are appended to `unusable`."""
        rng = np.random.default_rng((self.seed, index))
        audio = self._crop(self.clip(index), length, rng, unusable)
        options = self.options
        if options.equalize_db:
            audio = augment.equalize(audio, options.equalize_db, rng)
        if options.mix_probability and rng.random() < options.mix_probability:
            others = self.clips[rng.integers(len(self.clips))]
            other = self._crop(others[rng.integers(len(others))], length, rng, unusable)
            audio = augment.mix(audio, other, rng.uniform(0, 20))
        return np.clip(audio * augment.draw_gain(options, rng), -1.0, 1.0)

    def domain(self, index: int) -> str:
        """The domain of item `index`."""
        return self.domains[self._turns[index % len(self._turns)]]

    def clip(self, index: int) -> TrainingClip:
        """The clip of item `index`."""
        cycle, turn = divmod(index, len(self._turns))
        domain = int(self._turns[turn])
        clips = self.clips[domain]
        epoch, place = divmod(int(cycle * self._per_cycle[domain] + self._rank[turn]), len(clips))
        return clips[self._order(domain, epoch)[place]]

    def _permutation(self, domain: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, domain, epoch)).permutation(len(self.clips[domain]))

    def _crop(self, clip: TrainingClip, length: int, rng: np.random.Generator, unusable: list[str]) -> Samples:
        """A leveled random crop of exactly `length` samples, its speed changed, of the clip or of a substitute."""
        speed = augment.draw_speed(self.options, rng)
        others = self.clips[self.domains.index(clip.domain)]
        for _ in range(1 + ATTEMPTS):
            try:
                audio = self.corpus.crop(clip, int(np.ceil(length * speed)), rng, leveled=self.options.leveled)
            except Exception as error:  # one file, whatever is wrong with it
                unusable.append(failure(error).rstrip(". "))
                clip = others[rng.integers(len(others))]
                continue
            if speed != 1.0:
                audio = augment.change_speed(audio, speed)
            return augment.fit(audio, length)
        raise DataError(f"{1 + ATTEMPTS} clips in a row are unusable, the last: {unusable[-1]}")


def _turns(shares: Mapping[str, float]) -> np.ndarray:
    """Domain of each position in a cycle, as evenly spread as the shares allow (smooth weighted round-robin).

    The length of the cycle is a multiple of the number of domains, so that equal shares are exact, and large enough
    for the smallest share.
    """
    wanted = np.array(list(shares.values()), dtype=np.float64)
    wanted /= wanted.sum()
    credit = np.zeros_like(wanted)  # turns due to a domain, minus those it has had
    turns: list[int] = []
    while (
        len(turns) < SHORTEST_CYCLE
        or len(turns) % len(wanted)
        or (np.abs(credit) > len(turns) * wanted * SHARE_TOLERANCE).any()
    ):
        if len(turns) == LONGEST_CYCLE:
            rarest = min(shares, key=lambda name: shares[name])
            raise DataError(
                f"Domain {rarest!r} has too small a share for a turn in {LONGEST_CYCLE:,} items: raise its share or "
                "set it to 0."
            )
        credit += wanted
        turns.append(int(credit.argmax()))
        credit[turns[-1]] -= 1
    return np.array(turns, dtype=np.int64)


def batches(
    sampler: CropSampler, requests: Iterable[Request], *, workers: int, pin: bool
) -> Generator[Batch, None, None]:
    """The batches of endless `requests`, in order; workers prepare some of them in advance.

    Raises:
        WorkerDied: a worker died; raised when the next batch is taken.
        DataError: it was raised in a worker; the same.
    """
    loader: DataLoader[Any] = DataLoader(
        sampler,  # type: ignore[arg-type]  # a mapping without length
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # receives a whole batch
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_main_process,
    )
    with safe_start():
        loaded = iter(loader)
    # The loader's handler raises wherever this process is when a worker dies, even inside an update or the garbage
    # collector. Without it the death is noticed when batches run out.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if hasattr(signal, "SIGCHLD") else None
    failed: DataError | None = None
    try:
        yield from loaded
    except DataError as error:
        failed = error.with_traceback(None)
    except (ConnectionError, EOFError, RuntimeError) as error:
        # The first two: a worker died while it handed over a batch, and does not yet count as dead.
        if isinstance(error, RuntimeError) and "exited unexpectedly" not in str(error):
            raise
        reason = str(error).strip().rstrip(".") or type(error).__name__
        failed = WorkerDied(f"A process that reads audio died ({reason})")
    finally:
        del loaded  # ends the workers, which must happen before the handler is restored
        if hasattr(signal, "SIGCHLD"):  # Windows has none
            signal.signal(signal.SIGCHLD, handler)
    if failed is not None:  # not in the clauses above: the frames of an error keep the workers alive while it is held
        raise failed


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _leave_signals_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "SIGALRM"):  # on Windows, where no batch system signals
        return
    # A batch system signals every process of a job, but the main one needs its workers until it has saved.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a forked process has the handlers of its parent
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_TO_SAVE))
