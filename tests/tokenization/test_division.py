"""Division of a source into shards and windows by rows and bytes."""

from __future__ import annotations

import io
import itertools
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3ac_tokenizer.tokenization import arrow, open_source, spec, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.merge import merge_corpora
from l3ac_tokenizer.tokenization.output import read_shard_manifest
from l3ac_tokenizer.tokenization.spec import TokenizationOptions, ranges

from .corpora import file_bytes, rows_of, write_clip


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    st.integers(1, 10),
    st.integers(0, 2**30),
    st.integers(0, 40),
)
def test_ranges_cover_all_records_once_and_are_as_long_as_rows_and_bytes_allow(sizes, rows, most, first):
    sizes = np.array(sizes, dtype=np.int64)
    found = list(ranges(range(min(first, len(sizes)), len(sizes)), sizes, rows, most))
    assert list(itertools.chain(*(range(*each) for each in found))) == list(range(min(first, len(sizes)), len(sizes)))
    bounded = np.clip(sizes, 0, most + 1)
    for start, stop in found:
        assert stop - start <= rows and (stop - start == 1 or bounded[start:stop].sum() <= most)
        assert stop == len(sizes) or stop - start == rows or bounded[start : stop + 1].sum() > most


@pytest.fixture
def uneven(tmp_path):
    """A long clip among short ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        write_clip(folder / f"{number:03d}.wav", 1600 if number != 5 else 64_000, number)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Bounds that the long clip exceeds, and four short ones do not."""
    monkeypatch.setattr(spec, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(spec, "WINDOW_BYTES", 7_000)


def test_a_long_clip_has_a_shard_of_its_own(uneven, small, tiny_model, tmp_path):
    summary = tokenize_corpus(open_source(str(uneven)), tiny_model, tmp_path / "out", TokenizationOptions(shard_rows=8))
    job, entries = read_shard_manifest(tmp_path / "out")
    assert [len(job.rows_of(shard)) for shard in job.shards()] == [5, 1, 6] == [e.rows for e in entries.values()]
    assert summary["complete"] and [row["id"] for row in rows_of(tmp_path / "out")] == [f"{n:03d}" for n in range(12)]
    assert [len(range(*each)) for each in job.windows_of(2, open_source(str(uneven)).sizes())] == [2, 2, 2]


def test_the_largest_window_of_a_shard_comes_first(uneven, tiny_model, monkeypatch):
    monkeypatch.setattr(spec, "WINDOW_BYTES", 7_000)
    source = open_source(str(uneven))
    windows = list(spec.Job.of(source, tiny_model, TokenizationOptions()).windows_of(0, source.sizes()))
    assert windows[0] == (5, 6) and sorted(windows) == [(0, 2), (2, 4), (4, 5), (5, 6), (6, 8), (8, 10), (10, 12)]


@pytest.mark.parametrize("num_proc", [1, 2])
def test_the_rows_do_not_depend_on_the_division(uneven, small, num_proc, tiny_model, tmp_path, monkeypatch):
    source = open_source(str(uneven))
    tokenize_corpus(source, tiny_model, tmp_path / "divided", engine=LocalEngine(num_proc))
    monkeypatch.setattr(spec, "SHARD_BYTES", 1 << 30)
    tokenize_corpus(source, tiny_model, tmp_path / "whole")
    assert rows_of(tmp_path / "divided") == rows_of(tmp_path / "whole")


def test_a_corpus_that_was_begun_with_other_bounds_is_finished_with_its_own(uneven, tiny_model, tmp_path, monkeypatch):
    source, out = open_source(str(uneven)), tmp_path / "out"
    tokenize_corpus(source, tiny_model, out, TokenizationOptions(shard_rows=4))
    before = rows_of(out)
    (out / "shard-00001.parquet").unlink()
    monkeypatch.setattr(spec, "SHARD_BYTES", 20_000)
    tokenize_corpus(source, tiny_model, out, TokenizationOptions(shard_rows=4))
    assert rows_of(out) == before and len(list(out.glob("*.parquet"))) == 3


def test_jobs_that_divide_a_source_by_bytes_merge(uneven, small, tiny_model, tmp_path):
    source = open_source(str(uneven))
    tokenize_corpus(source, tiny_model, tmp_path / "whole")
    for index in range(2):
        tokenize_corpus(source, tiny_model, tmp_path / str(index), TokenizationOptions(num_shards=2, shard_index=index))
    merge_corpora([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert rows_of(tmp_path / "merged") == rows_of(tmp_path / "whole")


@pytest.mark.parametrize("starts", [[], [1, 4], [0, 4, 4], [0, 12], [0, True], [0, 5.0], "01", [0, 7, 5]])
def test_starts_of_shards_that_are_none_are_refused(starts, uneven, small, tiny_model, tmp_path):
    tokenize_corpus(open_source(str(uneven)), tiny_model, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    first, *lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([json.dumps(json.loads(first) | {"shard_starts": starts}), *lines, ""]))
    with pytest.raises(CorpusError, match="is not the manifest of a tokenized corpus"):
        read_shard_manifest(tmp_path / "out")


@pytest.mark.parametrize("split", [1, 3])
def test_row_groups_end_by_bytes(uneven, split, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "ROW_GROUP_BYTES", 2_000)
    tokenize_corpus(open_source(str(uneven)), tiny_model, tmp_path / "out", TokenizationOptions(split=split))
    metadata = pq.read_metadata(tmp_path / "out" / "shard-00000.parquet")
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sum(groups) == 12 and len(groups) > 2 and 1 in groups


def test_sources_state_the_sizes_of_their_audio(tmp_path):
    clips = [file_bytes(samples, seed=samples) for samples in (900, 4000, 47)]
    for folder in ("files", "list", "tar", "parquet", "paths"):
        (tmp_path / folder).mkdir()
    for number, clip in enumerate(clips):
        for folder in ("files", "list", "paths"):
            (tmp_path / folder / f"{number}.flac").write_bytes(clip)
    (tmp_path / "list" / "list.jsonl").write_text(
        "".join(json.dumps({"path": f"{number}.flac", "start": 0, "seconds": 0.5}) + "\n" for number in range(3))
    )
    (tmp_path / "list" / "bare.jsonl").write_text('{"path": "0.flac"}\n')
    with tarfile.open(tmp_path / "tar" / "a.tar", "w") as tar:
        for number, clip in enumerate(clips):
            member = tarfile.TarInfo(f"{number}.flac")
            member.size = len(clip)
            tar.addfile(member, io.BytesIO(clip))
    pq.write_table(pa.table({"audio": clips}), tmp_path / "parquet" / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"path": ["0.flac", "1.flac"]}), tmp_path / "paths" / "a.parquet")

    def sizes(place):
        found = open_source(str(tmp_path / place)).sizes()
        return None if found is None else found.tolist()

    lengths = list(map(len, clips))
    assert sizes("files") == sizes("tar") == lengths
    assert sizes("list/list.jsonl") == [16_000] * 3
    first, second, third = sizes("parquet")
    assert first == second and 0 <= first - sum(lengths[:2]) / 2 < 1000 and 0 <= third - lengths[2] < 1000
    assert sizes("list/bare.jsonl") is None and sizes("paths/a.parquet") is None
