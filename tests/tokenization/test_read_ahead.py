"""Objects of a window are read while those before them are encoded, within bounds."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3ac_tokenizer.tokenization.sources import audio_folder
from l3ac_tokenizer.tokenization.sources.audio_folder import read_ahead

MEBIBYTE = 1 << 20


@pytest.fixture
def reads(monkeypatch):
    """The URLs that have been read so far; a read of `stuck` waits until `opened` is set."""
    seen: list[str] = []
    opened = threading.Event()

    def read(url, most):
        seen.append(url)
        if url == "stuck":
            assert opened.wait(10)
        if url == "missing":
            raise FileNotFoundError("cannot read missing: it does not exist.")
        return url.encode()

    monkeypatch.setattr(audio_folder, "read_bytes", read)
    return seen, opened


@given(st.lists(st.integers(0, 40 * MEBIBYTE), max_size=30))
def test_contents_come_in_order_and_what_is_read_ahead_is_bounded(sizes):
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_folder, "read_bytes", lambda url, most: read.append(int(url)) or url.encode())
        for number, content in enumerate(read_ahead([(str(number), size) for number, size in enumerate(sizes)])):
            assert content.result() == str(number).encode()
            ahead = [sizes[place] or 16 * MEBIBYTE for place in range(number, max(read) + 1)]
            assert len(ahead) <= 8 and (len(ahead) == 1 or sum(ahead) <= 64 * MEBIBYTE)
    assert sorted(read) == list(range(len(sizes)))


def test_a_slow_object_does_not_keep_those_behind_it_from_being_read(reads):
    seen, opened = reads
    contents = read_ahead([("stuck", 10), ("a", 10), ("b", 10)])
    first = next(contents)
    while len(seen) < 3:
        assert not first.done()
    opened.set()
    assert [first.result(), *(each.result() for each in contents)] == [b"stuck", b"a", b"b"]


def test_an_object_that_cannot_be_read_fails_alone(reads):
    contents = list(read_ahead([("a", 1), ("missing", 1), ("b", 1)]))
    assert [contents[0].result(), contents[2].result()] == [b"a", b"b"]
    with pytest.raises(FileNotFoundError):
        contents[1].result()
