"""Finished corpora: merging, the array to memory-map, reading, statistics."""

from __future__ import annotations

import json
import math
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer.codebook_usage import usage
from l3ac_tokenizer.quantization import join_ids, split_ids
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.merge import merge_corpora
from l3ac_tokenizer.tokenization.npy_index import write_npy_index
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.spec import TokenizationOptions
from l3ac_tokenizer.tokenization.statistics import corpus_statistics, count_ids

from .corpora import LENGTHS, rows_of
from .test_faults import dying_at, in_child


@pytest.fixture
def whole(tiny_model, corpus, tmp_path):
    """The output of one job."""
    (corpus / "004.flac").write_text("a failure")
    tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / "whole", TokenizationOptions(shard_rows=2))
    return tmp_path / "whole"


@pytest.fixture
def parts(tiny_model, corpus, whole, tmp_path):
    """The outputs of three jobs."""
    folders = [tmp_path / f"part-{index}" for index in range(3)]
    for index, folder in enumerate(folders):
        options = TokenizationOptions(shard_rows=2, num_shards=3, shard_index=index)
        tokenize_corpus(open_source(str(corpus)), tiny_model, folder, options)
    return folders


def assert_equal_corpora(one, other) -> None:
    names = {path.name for path in one.glob("*.parquet")}
    assert names == {path.name for path in other.glob("*.parquet")}
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert (one / "failures.jsonl").read_text() == (other / "failures.jsonl").read_text()
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for summary in summaries:
        del summary["seconds"], summary["audio_hours_per_hour"]
    assert summaries[0] == summaries[1]


def test_merged_jobs_are_byte_for_byte_what_one_job_writes(tiny_model, corpus, whole, parts, tmp_path):
    summary = merge_corpora(parts[::-1], tmp_path / "merged")
    assert summary["complete"] and summary["clips"] == 9 and summary["failures"] == 1
    assert_equal_corpora(tmp_path / "merged", whole)
    # the merged folder can be resumed like any other
    assert tokenize_corpus(
        open_source(str(corpus)), tiny_model, tmp_path / "merged", TokenizationOptions(shard_rows=2)
    )["complete"]


def test_a_disk_without_links_gets_copies(whole, parts, tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_link)
    merge_corpora(parts, tmp_path / "merged")
    assert_equal_corpora(tmp_path / "merged", whole)


def test_a_killed_merge_is_resumed(whole, parts, tmp_path):
    for call in range(3, 100, 3):
        out = tmp_path / f"merged-{call}"

        def work(call=call, out=out):
            dying_at(call)
            merge_corpora(parts, out)

        code = in_child(work)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        merge_corpora(parts, out)
        assert_equal_corpora(out, whole)
    assert code == 0 and call > 6


def test_incomplete_or_mismatched_parts_are_refused(tiny_model, corpus, parts, whole, tmp_path):
    with pytest.raises(CorpusError, match="of 3 jobs, number 1 is missing"):
        merge_corpora([parts[0], parts[2]], tmp_path / "merged")
    with pytest.raises(CorpusError, match="part-1 are both job 1"):
        merge_corpora([*parts, parts[1]], tmp_path / "merged")
    with pytest.raises(CorpusError, match="--num-shards is 1 and was 3"):
        merge_corpora([*parts, whole], tmp_path / "merged")
    with pytest.raises(CorpusError, match="has no manifest"):
        merge_corpora([corpus], tmp_path / "merged")
    shard = parts[1] / "shard-00004.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match=r"shard-00004\.parquet has changed since it was written"):
        merge_corpora(parts, tmp_path / "merged")
    shard.unlink()
    with pytest.raises(CorpusError, match=r"shard-00004\.parquet is missing"):
        merge_corpora(parts, tmp_path / "merged")
    manifest = parts[1] / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CorpusError, match="part-1 is not finished and lacks shard 4"):
        merge_corpora(parts, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("split", [1, 3])
def test_the_array_and_its_index_hold_the_rows(tiny_model, corpus, tmp_path, split):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, TokenizationOptions(split=split, shard_rows=3))
    write_npy_index(out)
    ids, index = np.load(out / "ids.npy", mmap_mode="r"), np.load(out / "index.npy")
    assert isinstance(ids, np.memmap) and ids.dtype == np.int32
    rows = rows_of(out)
    assert len(index) == len(rows) + 1 and index[-1] == len(ids)
    for number, row in enumerate(rows):
        assert ids[index[number] : index[number + 1]].tolist() == row["ids"]


def test_split_ids_join_to_those_of_another_run(tiny_model, corpus, tmp_path):
    for split in (1, 2):
        options = TokenizationOptions(split=split)
        tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / str(split), options)
    whole, split = TokenizedCorpus(tmp_path / "1"), TokenizedCorpus(tmp_path / "2")
    for one, two, row in zip(
        *([ids for table in each.tables() for ids in each.whole_ids(table)] for each in (whole, split)),
        rows_of(tmp_path / "2"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(join_ids(np.array(row["ids"]), tiny_model.config.levels, 2), one)


def test_statistics_are_those_of_all_ids(tiny_model, corpus, tmp_path):
    tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / "out", TokenizationOptions(shard_rows=3))
    ids = np.concatenate([row["ids"] for row in rows_of(tmp_path / "out")])
    corpus = TokenizedCorpus(tmp_path / "out")
    counts = count_ids(corpus)
    found = corpus_statistics(corpus, counts)
    seconds = sum(LENGTHS) / 16_000
    np.testing.assert_array_equal(counts.ids, np.bincount(ids, minlength=45))
    assert (found["clips"], found["ids"]["count"], found["ids"]["size"]) == (10, len(ids), 45)
    assert found["ids_per_second"] == pytest.approx(len(ids) / seconds)
    whole = usage(ids, 45)
    assert found["ids"]["entropy_miller_madow"] == pytest.approx(whole.entropy_miller_madow)
    digits = split_ids(ids, [5, 3, 3], 3)
    for number, size in enumerate([5, 3, 3]):
        assert found["levels"][number]["entropy"] == pytest.approx(usage(digits[:, number], size).entropy)
    bits = found["bits_per_second"]
    assert bits["fixed"] == pytest.approx(len(ids) / seconds * math.log2(45))
    assert bits["entropy"] <= bits["huffman"] < bits["entropy"] + len(ids) / seconds
    most, least = found["most_used"], found["least_used"]
    assert most[0]["count"] == counts.ids.max() and least[0]["count"] == counts.ids[counts.ids > 0].min()
    assert sum(each["share"] for each in most) <= 1


def test_groups_of_six_digits_have_entropies_of_their_own(tmp_path):
    """Two groups of three digits and three of two, on ids written by hand."""
    import pyarrow as pa

    from l3ac_tokenizer.tokenization.arrow import ids_array, shard_schema
    from l3ac_tokenizer.tokenization.spec import CorpusMetadata

    metadata = CorpusMetadata("m", "0" * 64, (3, 3, 3, 3, 5, 5), 10, 100, {"split": 1, "max_seconds": None})
    ids = np.random.default_rng(0).integers(0, 2025, 3000).astype(np.int32)
    columns = [["a"], ids_array([ids], 1), [30_000], [100], ["a.wav"]]
    table = pa.table(columns, names=["id", "ids", "num_samples", "sampling_rate", "path"])
    pq.write_table(table.cast(shard_schema({}, metadata)), tmp_path / "a.parquet")
    corpus = TokenizedCorpus(tmp_path / "a.parquet")
    found = corpus_statistics(corpus, count_ids(corpus))
    assert sorted(found["splits"]) == [2, 3]
    for groups, sizes in ((2, [27, 75]), (3, [9, 9, 25])):
        symbols = split_ids(ids, metadata.levels, groups)
        for number, size in enumerate(sizes):
            assert found["splits"][groups][number]["size"] == size
            assert found["splits"][groups][number]["entropy"] == pytest.approx(usage(symbols[:, number], size).entropy)


def test_files_that_are_not_a_corpus_of_one_model_are_refused(tiny_model, corpus, tmp_path):
    from l3ac_tokenizer import L3ACModel

    with pytest.raises(FileNotFoundError, match="no file or folder"):
        TokenizedCorpus(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"holds no \.parquet files"):
        TokenizedCorpus(corpus)
    source = open_source(str(corpus))
    tokenize_corpus(source, tiny_model, tmp_path / "out")
    tokenize_corpus(source, L3ACModel(tiny_model.config).eval(), tmp_path / "other")
    (tmp_path / "other" / "shard-00000.parquet").rename(tmp_path / "out" / "shard-00001.parquet")
    with pytest.raises(CorpusError, match="give them as two corpora"):
        TokenizedCorpus(tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "shard-00000.parquet")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "out" / "shard-00000.parquet")
    with pytest.raises(CorpusError, match="no `l3ac` metadata"):
        TokenizedCorpus(tmp_path / "out")
