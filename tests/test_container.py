from __future__ import annotations

import io
import itertools
import math
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l3ac_tokenizer.container import (
    BLOCK_IDS,
    CODINGS,
    ContainerError,
    Header,
    dump_l3ac,
    pack_ids,
    packed_size,
    read_l3ac,
    salvage_l3ac,
    unpack_ids,
    write_l3ac,
)

SEVENS = (7, 7, 7, 7, 7, 7)
NINES = (9, 9, 9, 7, 7, 7)


def make_header(num_ids: int, levels: tuple[int, ...] = SEVENS, coding: str = "packed") -> Header:
    return Header("l3ac-1k", "0123456789abcdef" * 4, levels, 16000, 270, num_ids * 270 - 100, coding)


def make_ids(num_ids: int, levels: tuple[int, ...] = SEVENS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.prod(levels), num_ids)


def make_file(num_ids: int, levels: tuple[int, ...] = SEVENS, coding: str = "packed") -> bytes:
    return dump_l3ac(make_header(num_ids, levels, coding), make_ids(num_ids, levels))


def slow_digits(num_ids: int, levels: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Ids whose digits wander like those of real audio: each moves by one level at most."""
    steps = np.random.default_rng(seed).integers(-1, 2, (num_ids, len(levels)))
    digits = np.cumsum(steps, axis=0)
    period = 2 * (np.array(levels) - 1)
    digits = np.abs((digits % period) - (np.array(levels) - 1))
    return digits @ np.cumprod((1, *levels[:-1]))


levels_strategy = st.one_of(
    st.sampled_from([SEVENS, NINES, (3,), (2, 2), (2**16 - 1,) * 3]),
    st.lists(st.integers(2, 40), min_size=1, max_size=8).map(tuple),
)


@given(levels_strategy, st.integers(1, 70), st.integers(1, 400), st.sampled_from(CODINGS), st.data())
@settings(max_examples=150, deadline=None)
def test_every_file_reads_back(levels, num_ids, hop, coding, data):
    if max(levels) > 1000:
        coding = "packed"
    num_samples = data.draw(st.integers((num_ids - 1) * hop + 1, num_ids * hop))
    one_id = st.integers(0, math.prod(levels) - 1)
    ids = np.array(data.draw(st.lists(one_id, min_size=num_ids, max_size=num_ids)))
    name = data.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
    header = Header(name, "f" * 64, levels, 24000, hop, num_samples, coding)
    header_read, ids_read = read_l3ac(io.BytesIO(dump_l3ac(header, ids)))
    assert header_read == header
    assert ids_read.dtype == np.int64 and ids_read.tolist() == ids.tolist()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("num_ids", [1, BLOCK_IDS - 1, BLOCK_IDS, BLOCK_IDS + 1, 3 * BLOCK_IDS])
def test_block_edges_read_back(num_ids, coding):
    lowest, highest = np.zeros(num_ids, int), np.full(num_ids, 7**6 - 1)
    for ids in (make_ids(num_ids), lowest, highest, slow_digits(num_ids, SEVENS)):
        header = make_header(num_ids, coding=coding)
        _, ids_read = read_l3ac(io.BytesIO(dump_l3ac(header, ids)))
        np.testing.assert_array_equal(ids_read, ids)


@given(st.integers(2, 2**40), st.lists(st.integers(0, 2**40), min_size=0, max_size=200))
@settings(deadline=None)
def test_packed_ids_are_the_digits_of_one_number(codebook_size, values):
    ids = np.array([value % codebook_size for value in values], dtype=np.int64)
    data = pack_ids(ids, codebook_size)
    assert int.from_bytes(data, "little") == sum(i * codebook_size**k for k, i in enumerate(ids.tolist()))
    np.testing.assert_array_equal(unpack_ids(data, len(ids), codebook_size), ids)


def test_unpacking_refuses_what_packing_never_makes():
    for data in (b"", b"\xff" * packed_size(5, 10), b"\0" * (packed_size(5, 10) + 1)):
        with pytest.raises(ContainerError):
            unpack_ids(data, 5, 10)


@pytest.mark.parametrize("levels", [SEVENS, NINES])
def test_packed_is_within_one_percent_of_the_information(levels):
    num_ids = 30_000
    bits = 8 * len(make_file(num_ids, levels))
    assert bits <= 1.01 * num_ids * np.log2(np.prod(levels))


@pytest.mark.parametrize("levels", [SEVENS, NINES])
def test_entropy_coding_finds_structure_and_costs_little_where_there_is_none(levels):
    num_ids = 8_000
    packed = make_file(num_ids, levels)
    assert len(make_file(num_ids, levels, "entropy")) < 1.03 * len(packed)
    structured = dump_l3ac(make_header(num_ids, levels, "entropy"), slow_digits(num_ids, levels))
    entropy_of_steps = num_ids * len(levels) * np.log2(3) / 8  # bytes; less at the edges
    assert len(structured) < 1.1 * entropy_of_steps < 0.7 * len(packed)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_scale_is_a_float_behind_the_header_of_version_2_alone(coding):
    header, ids = make_header(20, coding=coding), make_ids(20)
    plain = dump_l3ac(header, ids)
    assert plain[4] == 1 and read_l3ac(io.BytesIO(plain))[0].audio_scale == 1.0
    leveled = dump_l3ac(replace(header, audio_scale=0.3), ids)
    assert leveled[4] == 2 and len(leveled) == len(plain) + 4
    read, ids_read = read_l3ac(io.BytesIO(leveled))
    assert read == replace(header, audio_scale=np.float32(0.3)) and ids_read.tolist() == ids.tolist()
    for position in range(len(leveled)):
        with pytest.raises(ContainerError):
            read_l3ac(io.BytesIO(leveled[:position] + bytes([leveled[position] ^ 0x5A]) + leveled[position + 1 :]))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-7, 1e7])
def test_scales_that_no_clip_has_are_refused(scale):
    with pytest.raises(ContainerError, match="audio_scale must be"):
        replace(make_header(3), audio_scale=scale)
    data = dump_l3ac(replace(make_header(3), audio_scale=0.3), make_ids(3))
    end = data.index(struct.pack("<f", 0.3))
    head = data[:end] + struct.pack("<f", scale)
    with pytest.raises(ContainerError, match="written with errors: audio_scale"):
        read_l3ac(io.BytesIO(head + struct.pack("<I", zlib.crc32(head)) + data[end + 8 :]))


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
def test_every_changed_byte_is_detected(coding):
    data = make_file(20, coding=coding)
    for position, mask in itertools.product(range(len(data)), (1, 0x80, 0xFF, 0x5A)):
        changed = bytearray(data)
        changed[position] ^= mask
        with pytest.raises(ContainerError):
            read_l3ac(io.BytesIO(bytes(changed)))


def test_every_value_of_every_header_byte_is_detected():
    data = make_file(3)
    for position, value in itertools.product(range(len(data)), range(256)):
        if data[position] != value:
            with pytest.raises(ContainerError):
                read_l3ac(io.BytesIO(data[:position] + bytes([value]) + data[position + 1 :]))


@pytest.mark.parametrize("coding", CODINGS)
def test_every_truncation_and_every_lost_or_added_byte_is_detected(coding):
    data = make_file(30, coding=coding)
    for position in range(len(data)):
        before, after = data[:position], data[position:]
        for contents in (before, before + after[1:], before + b"\0" + after):
            if contents != data:
                with pytest.raises(ContainerError):
                    read_l3ac(io.BytesIO(contents))
    for tail in (b"\0", b"garbage", data):
        with pytest.raises(ContainerError, match="follow its end"):
            read_l3ac(io.BytesIO(data + tail))


def test_blocks_of_equal_size_cannot_be_swapped_or_borrowed():
    ids = make_ids(3 * BLOCK_IDS)
    data = dump_l3ac(make_header(len(ids)), ids)
    other = dump_l3ac(make_header(len(ids)), ids[::-1])
    size = 8 + packed_size(BLOCK_IDS, 7**6)
    start = len(data) - 3 * size
    first, second, third = (data[start + k * size : start + (k + 1) * size] for k in range(3))
    for blocks in ((second, first, third), (first, first, third), (first, second, other[-size:])):
        with pytest.raises(ContainerError):
            read_l3ac(io.BytesIO(data[:start] + b"".join(blocks)))


@pytest.mark.parametrize("coding", CODINGS)
def test_salvage_gives_the_blocks_before_the_damage(coding):
    num_ids = 3 * BLOCK_IDS + 50
    ids = slow_digits(num_ids, SEVENS)
    data = dump_l3ac(make_header(num_ids, coding=coding), ids)
    header_end = 64 + 12 + len("l3ac-1k") + 4
    position, starts = header_end, []
    while position < len(data):
        starts.append(position)
        position += 8 + int.from_bytes(data[position : position + 4], "little")
    assert position == len(data) and len(starts) == 4
    for block, start in enumerate(starts):
        for contents in (data[: start + 9], data[:start], data[: start + 9] + b"\xaa" + data[start + 10 :]):
            header, good, reason = salvage_l3ac(io.BytesIO(contents))
            assert header == make_header(num_ids, coding=coding)
            np.testing.assert_array_equal(good, ids[: block * BLOCK_IDS])
            assert f"{block * BLOCK_IDS} of {num_ids} ids are good" in reason
            assert f"block {block + 1} of 4" in reason
    header, good, reason = salvage_l3ac(io.BytesIO(data))
    assert reason is None and len(good) == num_ids
    _, good, reason = salvage_l3ac(io.BytesIO(data + b"x"))
    assert len(good) == num_ids and "follow its end" in reason


@pytest.mark.parametrize("position", [4, 5, 8, 40, 64, 79])
def test_a_damaged_header_cannot_be_salvaged(position):
    data = bytearray(make_file(5))
    data[position] ^= 0xFF
    with pytest.raises(ContainerError, match=r"damaged"):
        salvage_l3ac(io.BytesIO(bytes(data)))


def test_other_files_are_named_as_such():
    for contents in (b"", b"RIFF....WAVE", b"l3ac"):
        with pytest.raises(ContainerError, match=r"not a \.l3ac file"):
            read_l3ac(io.BytesIO(contents))


# --- what may be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0.0, 1.0], "whole numbers"),
        ([0, 7**6], "outside the codebook"),
        ([-1, 0], "outside the codebook"),
        ([[0, 1]], "one row"),
        ([0], "make 2 ids, but 1"),
        ([0, 1, 2], "make 2 ids, but 3"),
        ([True, False], "whole numbers"),
    ],
)
def test_wrong_ids_are_refused_and_nothing_is_written(tmp_path, ids, words):
    with pytest.raises(ContainerError, match=words):
        write_l3ac(tmp_path / "x.l3ac", make_header(2), np.array(ids))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"num_samples": 0},
        {"num_samples": -1},
        {"hop_length": 0},
        {"sampling_rate": 0},
        {"sampling_rate": 2**32},
        {"levels": ()},
        {"levels": (7, 1)},
        {"levels": (65535,) * 4},
        {"coding": "zip"},
        {"model_name": ""},
        {"model_name": "ü" * 128},
        {"weights_digest": "0123"},
        {"weights_digest": "g" * 64},
    ],
)
def test_a_header_that_the_format_cannot_hold_is_refused(change):
    with pytest.raises(ContainerError, match=next(iter(change))):
        replace(make_header(4), **change)


def test_number_of_ids_is_the_number_of_started_hops():
    for num_samples, num_ids in ((1, 1), (269, 1), (270, 1), (271, 2), (16000, 60)):
        assert replace(make_header(1), num_samples=num_samples).num_ids == num_ids


def test_a_path_is_replaced_only_by_a_whole_file(tmp_path):
    path = tmp_path / "x.l3ac"
    size = write_l3ac(path, make_header(4), make_ids(4))
    before = path.read_bytes()
    assert size == len(before)
    with pytest.raises(ContainerError):
        write_l3ac(path, make_header(4), make_ids(5))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    write_l3ac(path, make_header(4), make_ids(4, seed=1))
    assert path.read_bytes() != before and list(tmp_path.iterdir()) == [path]


def test_unreadable_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.l3ac"):
        read_l3ac(tmp_path / "none.l3ac")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        read_l3ac(tmp_path)


def test_unwritable_paths_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path, error in ((tmp_path / "file" / "x.l3ac", NotADirectoryError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error, match=re.escape(str(path))):
            write_l3ac(path, make_header(1), make_ids(1))
    with pytest.raises(OSError, match="no space left"):
        write_l3ac("/dev/full", make_header(1), make_ids(1))
    assert Path("/dev/full").is_char_device()


# --- the document -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documented_reader():
    text = (Path(__file__).parents[1] / "docs" / "reference" / "l3ac-format.md").read_text(encoding="utf-8")
    listings = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(listings) == 2
    for listing in listings:
        assert len(listing.strip().splitlines()) <= 30
        assert "numpy" not in listing and "torch" not in listing
    namespace: dict = {}
    for listing in listings:
        exec(compile(listing, "docs/reference/l3ac-format.md", "exec"), namespace)
    return namespace["read_l3ac"]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("levels", [SEVENS, NINES, (3, 5)])
def test_the_documented_reader_reads_our_files(documented_reader, tmp_path, levels, coding):
    path = tmp_path / "x.l3ac"
    for num_ids, make in itertools.product((1, 2 * BLOCK_IDS + 7), (make_ids, slow_digits)):
        header, ids = make_header(num_ids, levels, coding), make(num_ids, levels)
        write_l3ac(path, header, ids)
        read = documented_reader(path)
        assert read.pop("ids") == ids.tolist()
        assert read == {
            "levels": levels,
            "samples": header.num_samples,
            "rate": header.sampling_rate,
            "hop": header.hop_length,
            "digest": header.weights_digest,
            "scale": 1.0,
        }
    write_l3ac(path, replace(header, audio_scale=0.7), ids)
    assert documented_reader(path) == {**read, "ids": ids.tolist(), "scale": float(np.float32(0.7))}


def test_the_documented_reader_refuses_damage(documented_reader, tmp_path):
    data = make_file(BLOCK_IDS + 5)
    path = tmp_path / "x.l3ac"
    for contents in (data[:50] + b"?" + data[51:], data[:2000] + b"?" + data[2001:], data[:-1], data + b"?"):
        path.write_bytes(contents)
        with pytest.raises(AssertionError):
            documented_reader(path)
