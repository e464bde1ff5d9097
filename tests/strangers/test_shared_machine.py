"""Files on a shared machine: links in the place of an output are not followed, and permissions are not widened."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l3ac_tokenizer.container import Header, write_l3ac
from l3ac_tokenizer.files import atomic_write, open_own
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.output import locked


def plain(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"new")


WRITERS: list[Callable[[Path], object]] = [
    plain,
    lambda path: write_l3ac(path, Header("m", "0" * 64, (7,), 16_000, 270, 1), np.zeros(1, np.int64)),
]
"""Functions that write a file."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_replaced_and_its_target_untouched(tmp_path, write, exists):
    victim = tmp_path / "victim"
    if exists:
        victim.write_text("precious")
    (tmp_path / "out").symlink_to(victim)
    write(tmp_path / "out")
    assert not (tmp_path / "out").is_symlink() and (tmp_path / "out").stat().st_size
    assert victim.read_text() == "precious" if exists else not victim.exists()


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o400, 0o664])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path, permissions):
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(permissions)
    with atomic_write(tmp_path / "out") as file:
        (temporary,) = tmp_path.glob(".*.tmp")
        assert mode(temporary) == permissions
        file.write(b"new")
    assert mode(tmp_path / "out") == permissions and (tmp_path / "out").read_text() == "new"


def test_the_permissions_of_a_links_target_are_not_handed_on(tmp_path):
    (tmp_path / "victim").touch(0o666)
    (tmp_path / "victim").chmod(0o666)
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    before = os.umask(0o077)
    try:
        plain(tmp_path / "out")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out") == 0o600


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        plain(tmp_path / "out")
    finally:
        os.umask(before)
    assert mode(tmp_path / "out") == 0o666 & ~umask


def test_a_temporary_file_is_never_one_that_exists(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".{'0' * 16}.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        plain(tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout"])
def test_devices_are_written_directly(device):
    before = os.lstat(device)
    plain(Path(device))
    assert os.lstat(device).st_ino == before.st_ino


def test_a_file_that_grows_is_no_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    for how in ("ab", "r+b"):
        with pytest.raises(OSError, match="remove it if it is a link"):
            open_own(tmp_path / "log", how)
    (tmp_path / "log").unlink()
    with open_own(tmp_path / "log", "ab") as file:
        file.write(b"line")
    assert (tmp_path / "log").read_text() == "line"


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(CorpusError, match="is a link"), locked(tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "precious"
