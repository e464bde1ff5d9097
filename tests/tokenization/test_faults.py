"""Runs that are killed, run twice at once, or run out of disk."""

from __future__ import annotations

import builtins
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.output import locked
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

from .corpora import rows_of, write_corpus

SHARDS_OF_3 = TokenizationOptions(shard_rows=3)


def in_child(work) -> int:
    """Run a function in a process of its own and return its exit code; minus the signal where it was killed."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    return child.exitcode


def dying_at(call: int) -> None:
    """Let this process make `call` of the calls by which a folder changes, and die in the next: a write by half."""
    left = [call]

    def counted(function):
        def wrapped(*arguments, **names):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return function(*arguments, **names)

        return wrapped

    class HalfWriting:
        """A file whose write may be the moment of death, with half of it written."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            if left[0] == 0:
                self._file.write(memoryview(data)[: len(data) // 2])
                self._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return self._file.write(data)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            self._file.__enter__()
            return self

        def __exit__(self, *error):
            return self._file.__exit__(*error)

    def opened(file, mode="r", *arguments, **names):
        handle = open_of_python(file, mode, *arguments, **names)
        return HalfWriting(handle) if "x" in mode or "a" in mode else handle

    open_of_python = builtins.open
    os.replace, os.fsync = counted(os.replace), counted(os.fsync)
    builtins.open = opened


def test_killed_at_every_change_of_the_folder_and_resumed_it_is_as_if_never_killed(tiny_model, tmp_path):
    options = TokenizationOptions(shard_rows=5)
    corpus = write_corpus(tmp_path / "corpus")
    (corpus / "004.flac").write_text("a failure")
    source = open_source(str(corpus))
    tokenize_corpus(source, tiny_model, tmp_path / "whole", options)
    deaths = 0
    for call in range(200):
        out = tmp_path / f"killed-{call}"

        def work(call=call, out=out):
            dying_at(call)
            tokenize_corpus(source, tiny_model, out, options)

        code = in_child(work)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
        summary = tokenize_corpus(source, tiny_model, out, options)
        assert summary["complete"]
        assert rows_of(out) == rows_of(tmp_path / "whole"), call
        assert (out / "failures.jsonl").read_text() == (tmp_path / "whole" / "failures.jsonl").read_text()
        assert not list(out.glob(".*.tmp"))
    assert deaths >= 12  # two shards of write, fsync, rename, note, fsync, and what is around them
    assert code == 0


def test_killed_again_and_again_at_any_time(tiny_model, tmp_path):
    """Deaths by the clock, each in a run that resumes the previous one."""
    source = open_source(str(write_corpus(tmp_path / "corpus", [4000 + 97 * number for number in range(40)])))
    options = TokenizationOptions(shard_rows=4)
    tokenize_corpus(source, tiny_model, tmp_path / "whole", options)
    began = time.perf_counter()
    tokenize_corpus(source, tiny_model, tmp_path / "timed", options)
    needed = time.perf_counter() - began
    out = tmp_path / "out"
    deaths = 0
    for attempt in range(5):
        child = multiprocessing.get_context("fork").Process(
            target=tokenize_corpus, args=(source, tiny_model, out, options)
        )
        child.start()
        time.sleep(needed * (0.2 + 0.13 * attempt))
        child.kill()
        child.join()
        deaths += child.exitcode == -signal.SIGKILL
    assert deaths
    assert tokenize_corpus(source, tiny_model, out, options)["complete"]
    assert rows_of(out) == rows_of(tmp_path / "whole")


def test_a_killed_run_with_workers_leaves_no_worker_and_no_lock(tiny_model, tmp_path):
    source = open_source(str(write_corpus(tmp_path / "corpus", [8_000] * 400)))
    options = TokenizationOptions(shard_rows=64)
    out = tmp_path / "out"
    script = tmp_path / "run.py"
    tiny_model.save_pretrained(tmp_path / "model")
    script.write_text(
        "import sys\n"
        "from l3ac_tokenizer.cli import main\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["tokenize", tmp_path / "corpus", "-o", out, "--model", tmp_path / "model", "--shard-rows", "64"]
    run = subprocess.Popen([sys.executable, script, *map(str, arguments), "--num-proc", "2"], stderr=subprocess.PIPE)
    manifest = out / "manifest.jsonl"
    deadline = time.monotonic() + 300
    while not (manifest.exists() and len(manifest.read_bytes().splitlines()) > 1):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = children_of(run.pid)
    assert len(workers) >= 2
    run.kill()
    run.wait()
    run.stderr.close()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers outlive the run"
        time.sleep(0.05)
    assert tokenize_corpus(source, tiny_model, out, options)["complete"]
    assert [row["id"] for row in rows_of(out)] == [f"{number:03d}" for number in range(400)]


def children_of(process: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process:
            found.append(int(status.parent.name))
    return found


def test_two_runs_at_once_do_not_disturb_each_other(tiny_model, tmp_path):
    source = open_source(str(write_corpus(tmp_path / "corpus", [16_000] * 30)))
    out = tmp_path / "out"
    begin, end = (multiprocessing.get_context("fork").Event() for _ in range(2))

    class Waiting(LocalEngine):
        def run(self, work, windows):
            for number, table in enumerate(super().run(work, windows)):
                if number == 1:
                    begin.set()
                    end.wait()
                yield table

    first = multiprocessing.get_context("fork").Process(
        target=tokenize_corpus, args=(source, tiny_model, out, SHARDS_OF_3), kwargs={"engine": Waiting()}
    )
    first.start()
    assert begin.wait(60)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(CorpusError, match="another run is writing"):
        tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    end.set()
    first.join()
    assert first.exitcode == 0
    assert tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)["complete"]
    assert [row["id"] for row in rows_of(out)] == [f"{number:03d}" for number in range(30)]


def test_a_lock_of_a_killed_run_does_not_block(tmp_path):
    def die_holding() -> None:
        with locked(tmp_path / "out"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die_holding) == -signal.SIGKILL
    assert (tmp_path / "out" / ".lock").exists()
    with locked(tmp_path / "out"):
        pass


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 KiB; skips where the system does not let us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_with_a_message_and_a_folder_to_resume_from(tiny_model, tmp_path, small_disk):
    source = open_source(str(write_corpus(tmp_path / "corpus", [5000] * 60)))
    tokenize_corpus(source, tiny_model, tmp_path / "whole", SHARDS_OF_3)
    (small_disk / "other").write_bytes(b"\0" * 8192)
    out = small_disk / "out"
    with pytest.raises(OSError, match=r"no space left.*shards are done; the same command resumes from there"):
        tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)
    done = rows_of(out)
    assert 0 < len(done) < 60
    assert done == rows_of(tmp_path / "whole")[: len(done)]
    assert not list(out.glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)["complete"]
    assert rows_of(out) == rows_of(tmp_path / "whole")


@pytest.mark.parametrize("call", range(12))
def test_no_space_at_any_write_leaves_a_folder_to_resume_from(tiny_model, tmp_path, monkeypatch, call):
    """Without a small disk: `fsync`, which every write ends with, says that there is no space."""
    source = open_source(str(write_corpus(tmp_path / "corpus")))
    tokenize_corpus(source, tiny_model, tmp_path / "whole", SHARDS_OF_3)
    calls = iter(range(1000))

    def full(file: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        if call >= 11:  # more than the run writes: the manifest, two for each of four shards, summary and failures
            assert tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)["complete"]
            return
        with pytest.raises(OSError, match="no space left"):
            tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)
    assert not list(out.glob(".*.tmp"))
    for line in (out / "manifest.jsonl").read_text().splitlines() if (out / "manifest.jsonl").exists() else []:
        json.loads(line)
    assert tokenize_corpus(source, tiny_model, out, SHARDS_OF_3)["complete"]
    assert rows_of(out) == rows_of(tmp_path / "whole")


def test_a_run_that_stops_early_leaves_no_worker(tiny_model, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [4_000] * 400)
    (corpus / "000.flac").write_text("a failure")
    with pytest.raises(CorpusError, match="more than the 0 allowed"):
        tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / "out", engine=LocalEngine(2), max_failures=0)
    assert multiprocessing.active_children() == []
