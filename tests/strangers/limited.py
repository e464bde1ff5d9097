"""Runs each case in a process of its own that may take 1 GiB beyond what its imports took, and ten seconds.

The seconds are those of the processor, so that a busy machine fails no test; one that only waits has a minute.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from l3ac_tokenizer.causes import failure
from l3ac_tokenizer.limits import MESSAGE_CHARACTERS

GIBIBYTE = 1 << 30
SECONDS = 10


class Outcome(NamedTuple):
    """How a case ended: its value, or its error as class and message; the signal of a process that was killed."""

    value: Any = None
    error: str | None = None
    message: str = ""
    signal: int = 0

    @property
    def is_refusal(self) -> bool:
        """Whether it ended in an error of ours: one sentence, of a bounded length, about the data."""
        ours = ("ValueError", "OSError", "DataError", "CorpusError", "AudioError", "ContainerError", "ConfigError")
        named = (*ours, "LimitError", "StrictDataclassClassValidationError", "FileNotFoundError", "IsADirectoryError")
        return self.error in named and 0 < len(self.message) <= MESSAGE_CHARACTERS + 300


def _child(pipe: Any, function: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTE, used + GIBIBYTE))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # counted from the fork
    signal.alarm(60)
    try:
        outcome = Outcome(function())
    except BaseException as error:
        outcome = Outcome(None, type(error).__name__, str(error) or failure(error))
    pipe.send(outcome)


def run_limited(function: Callable[[], Any]) -> Outcome:
    """Run a function under the limits."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(theirs, function))
    child.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        outcome = Outcome()
    child.join()
    return outcome._replace(signal=-child.exitcode) if child.exitcode < 0 else outcome
