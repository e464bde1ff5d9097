"""Python processes that this package starts: none looks for modules in the working directory.

Files there may come from others, and Python would run one called like a module that it imports.
"""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import sys
from collections.abc import Iterator

_VARIABLE = "PYTHONSAFEPATH"


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, as `python -m` does."""
    return [sys.executable, "-P", "-m", module, *arguments]


@contextlib.contextmanager
def safe_start() -> Iterator[None]:
    """Keep Python processes that start inside from looking for modules in the working directory."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


class SafeProcess(multiprocessing.context.SpawnProcess):
    """A spawned process that starts inside `safe_start`."""

    def start(self) -> None:
        """Start the process."""
        with safe_start():
            super().start()


class SafeSpawnContext(multiprocessing.context.SpawnContext):
    """`multiprocessing.get_context("spawn")` whose processes start inside `safe_start`."""

    Process = SafeProcess


def spawn_context() -> SafeSpawnContext:
    """The context for pools of worker processes, which spawn: threads of torch do not survive a fork."""
    if sys.platform != "win32":
        from multiprocessing import resource_tracker

        with safe_start():  # a process of its own, which queues and events need
            resource_tracker.ensure_running()
    return SafeSpawnContext()
