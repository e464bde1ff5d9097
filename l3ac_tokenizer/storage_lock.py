"""Lock of an output on object storage: an object with its owner, who renews it while it works.

A lock whose owner is known to be dead, since it was a process of this machine, is taken over at once; any other one
when it was not renewed for `EXPIRES` seconds. An owner that was taken for dead and goes on is stopped by its next
change of an object that the other has replaced, see `replace_object`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from .storage import ChangedError, SmallObject, read_object, remove_object, replace_object
from .urls import joined, public_text

NAME = "lock.json"
RENEWS, EXPIRES = 20.0, 120.0
"""Seconds between two renewals, and after which a lock that is not renewed counts for nothing."""

_held: set[str] = set()
"""Tokens of the locks that this process holds."""


class LockedError(OSError):
    """Another run holds the lock."""


class StorageLock:
    """The lock of an output, held and renewed by a thread until `release`.

    Raises:
        LockedError: another run holds it.
        StorageError: the storage cannot be reached, or does not allow writing.
    """

    def __init__(self, url: str) -> None:
        self._output = public_text(url)
        self._url = joined(url, NAME)
        self._token = secrets.token_hex(8)
        self._ending = threading.Event()
        self._version = self._acquire()
        _held.add(self._token)
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """End the renewals, and remove the lock if it can be."""
        self._ending.set()
        self._thread.join()
        _held.discard(self._token)
        with contextlib.suppress(OSError):  # it expires, or another run has it
            remove_object(self._url, self._version)

    def _acquire(self) -> str:
        found = read_object(self._url)
        try:
            if found is None:
                return replace_object(self._url, self._content(), None)
            if _is_dead(_owner(found.data), _age(found)):
                return replace_object(self._url, self._content(), found.version)
        except ChangedError:
            found = read_object(self._url)
        owner, left = ({}, 0.0) if found is None else (_owner(found.data), EXPIRES - _age(found))
        raise LockedError(
            f"another run is writing {self._output} (on {owner.get('host', 'another machine')}, process "
            f"{owner.get('process', 'unknown')}): wait until it ends, or choose another output; if it was killed, its "
            f"lock expires in {min(max(left, 0.0), EXPIRES):.0f} s."
        )

    def _renew(self) -> None:
        while not self._ending.wait(RENEWS):
            try:
                self._version = replace_object(self._url, self._content(), self._version)
            except ChangedError:  # another run has taken it over, which the next change of the record tells
                return
            except OSError:  # the next renewal may succeed
                continue

    def _content(self) -> bytes:
        owner = {"token": self._token, "machine": _machine(), "host": socket.gethostname(), "process": os.getpid()}
        return json.dumps({**owner, "renewed": round(time.time(), 3)}).encode()


def _owner(content: bytes) -> dict[str, Any]:
    """The writer of a lock; empty if it is something else."""
    try:
        owner = json.loads(content)
        return {**owner, "process": int(owner["process"]), "renewed": float(owner["renewed"])}
    except (ValueError, TypeError, KeyError):
        return {}


def _age(lock: SmallObject) -> float:
    """Seconds since a lock was renewed, by the clock of the storage if it tells it, or else by two machines' clocks."""
    return time.time() - _owner(lock.data).get("renewed", 0.0) if lock.age is None else lock.age


def _is_dead(owner: dict[str, Any], age: float) -> bool:
    """Whether the owner of a lock no longer works, as far as can be told from here."""
    if not owner or age > EXPIRES:
        return True
    if owner.get("machine") != _machine():
        return False
    if owner["process"] == os.getpid():
        return owner.get("token") not in _held
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    """A name for the processes among which a process number means one: this machine since it started."""
    parts = [socket.gethostname(), str(uuid.getnode())]
    with contextlib.suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
