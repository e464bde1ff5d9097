"""Exports of tokenized corpora for training: Megatron's indexed datasets, and Parquet that `datasets` streams."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets.distributed import split_dataset_by_node

from l3ac_tokenizer import PackedCorpus, split_ids
from l3ac_tokenizer.tokenization import megatron, packed_parquet, write_megatron, write_npy_index, write_packed_parquet
from l3ac_tokenizer.tokenization.errors import CorpusError

from .corpora import write_tokenized

DOCUMENTS = [[117_648, 0, 5], [], [7], list(range(100, 140))]


def read_pair(prefix: Path) -> list[list[int]]:
    """The documents of an indexed dataset, read as Megatron's format is described."""
    index, tokens = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    version, kind, sequences, bounds = struct.unpack_from("<QBQQ", index, 9)
    assert (version, kind) == (1, 4)  # int32
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    documents = np.frombuffer(index, "<i8", bounds, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * bounds
    found = [
        np.frombuffer(tokens, "<i4", length, pointer).tolist()
        for pointer, length in zip(pointers, lengths, strict=True)
    ]
    assert sum(map(len, found)) * 4 == len(tokens)
    assert documents.tolist() == list(range(sequences + 1))  # each sequence is a document
    return found


# --- Megatron -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2, 1 << 20])
def test_documents_are_read_back(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(megatron, "_AT_ONCE", at_once)
    corpus = write_tokenized(tmp_path / "corpus", DOCUMENTS)
    facts = write_megatron(corpus, tmp_path / "out" / "plain")
    assert read_pair(tmp_path / "out" / "plain") == DOCUMENTS
    assert facts == {"documents": 4, "tokens": 44, "vocab_size": 117_649}
    facts = write_megatron(corpus, tmp_path / "chat", audio_offset=200_000, audio_start_id=3, audio_end_id=4)
    assert read_pair(tmp_path / "chat") == [[3, *(200_000 + each for each in ids), 4] for ids in DOCUMENTS]
    assert facts == {"documents": 4, "tokens": 52, "vocab_size": 317_649}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plain.bin", "plain.idx"]


def test_split_ids_are_a_token_for_each_group(tmp_path):
    corpus = write_tokenized(tmp_path / "corpus", DOCUMENTS, split=2)
    write_megatron(corpus, tmp_path / "split")
    offsets = np.array([0, 343])
    expected = [(split_ids(np.array(ids, int), (7,) * 6, 2) + offsets).reshape(-1).tolist() for ids in DOCUMENTS]
    assert read_pair(tmp_path / "split") == expected


def test_the_bytes_of_a_pair_are_these(tmp_path):
    write_megatron(write_tokenized(tmp_path / "corpus", [[1, 2], [117_648]]), tmp_path / "x")
    assert (tmp_path / "x.bin").read_bytes().hex() == "010000000200000090cb0100"
    assert (tmp_path / "x.idx").read_bytes().hex() == (
        "4d4d494449445800000100000000000000" + "04" + "0200000000000000" + "0300000000000000"
        "0200000001000000" + "0000000000000000" + "0800000000000000"
        "0000000000000000" + "0100000000000000" + "0200000000000000"
    )  # fmt: skip


def test_positions_go_beyond_what_32_bits_hold():
    lengths, index = io.BytesIO(struct.pack("<4i", 1 << 30, 1 << 30, 2**31 - 1, 1)), io.BytesIO()
    assert megatron._write_index(index, lengths, 4) == (1 << 32)
    positions = np.frombuffer(index.getvalue(), "<i8", 4, 34 + 16)
    assert positions.tolist() == [0, 1 << 32, 1 << 33, 4 * (2**32 - 1)]


def test_a_failed_export_leaves_no_index_and_no_rest(tmp_path, monkeypatch):
    good = write_tokenized(tmp_path / "corpus", DOCUMENTS)
    bad = write_tokenized(tmp_path / "bad", [*DOCUMENTS, [117_649]])
    out = tmp_path / "out"
    with pytest.raises(CorpusError, match="ids outside the codebook"):
        write_megatron(bad, out / "x")
    assert not list(out.iterdir())
    write_megatron(good, out / "x")
    with pytest.raises(CorpusError, match="ids outside the codebook"):
        write_megatron(bad, out / "x")
    assert read_pair(out / "x") == DOCUMENTS  # as it was

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(megatron, "_write_index", full)
    with pytest.raises(OSError, match=r"cannot write .*x\.idx: no space left"):
        write_megatron(good, out / "x")
    assert [path.name for path in out.iterdir()] == ["x.bin"]


def test_a_corpus_without_tokens_is_refused(tmp_path):
    corpus = write_tokenized(tmp_path / "corpus", [[], []])
    with pytest.raises(CorpusError, match="there are no tokens to export"):
        write_megatron(corpus, tmp_path / "out" / "x")
    assert not list((tmp_path / "out").iterdir())
    assert write_megatron(corpus, tmp_path / "x", audio_offset=1, audio_end_id=0)["tokens"] == 2
    assert read_pair(tmp_path / "x") == [[0], [0]]


# --- Parquet ------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path, monkeypatch) -> PackedCorpus:
    """Some thirty sequences, two a row group and six a shard."""
    monkeypatch.setattr(packed_parquet, "GROUP_TOKENS", 20)
    monkeypatch.setattr(packed_parquet, "SHARD_GROUPS", 3)
    folder = write_tokenized(tmp_path / "corpus", [list(range(start, start + 17)) for start in range(0, 300, 17)])
    write_npy_index(folder)
    return PackedCorpus(folder, 10, audio_offset=2, audio_start_id=0, audio_end_id=1)


def as_lists(packed: PackedCorpus) -> list[dict[str, list[int]]]:
    return [{name: value.tolist() for name, value in sequence.items()} for sequence in packed]


def streamed(folder: Path) -> datasets.IterableDataset:
    return datasets.load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train", streaming=True)


def test_datasets_streams_the_sequences_in_their_order(packed, tmp_path):
    facts = write_packed_parquet(packed, tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == [f"packed-0000{number}.parquet" for number in range(facts["shards"])]
    assert facts["sequences"] == len(packed) > 30 and facts["shards"] == -(-len(packed) // 6)
    groups = pq.ParquetFile(files[0]).metadata
    assert (groups.num_rows, groups.num_row_groups) == (6, 3)
    stream = streamed(tmp_path / "out")
    assert list(stream) == as_lists(packed) and stream.num_shards == facts["shards"]
    assert stream.features["input_ids"] == datasets.List(datasets.Value("int32"), length=10)


def test_a_stream_resumes_where_it_was(packed, tmp_path):
    write_packed_parquet(packed, tmp_path / "out")
    stream = streamed(tmp_path / "out")
    seen = []
    for row in stream:
        seen.append(row)
        if len(seen) == 9:
            state = stream.state_dict()
            break
    resumed = streamed(tmp_path / "out")
    resumed.load_state_dict(state)
    assert seen + list(resumed) == as_lists(packed)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_that_stream_share_all_sequences(packed, tmp_path, world_size):
    write_packed_parquet(packed, tmp_path / "out")
    found = [list(split_dataset_by_node(streamed(tmp_path / "out"), rank, world_size)) for rank in range(world_size)]
    assert sorted(str(row) for rank in found for row in rank) == sorted(map(str, as_lists(packed)))


def test_nothing_is_left_of_an_export_that_fails(packed, tmp_path, monkeypatch):
    real = packed_parquet._table

    def failing(corpus, numbers, schema):
        if numbers.start >= 8:
            raise OSError(28, "No space left on device")
        return real(corpus, numbers, schema)

    with monkeypatch.context() as patched:
        patched.setattr(packed_parquet, "_table", failing)
        with pytest.raises(OSError, match=r"cannot write .*: no space left on device; free some space"):
            write_packed_parquet(packed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    write_packed_parquet(packed, tmp_path / "out")
    with pytest.raises(CorpusError, match="out exists"):
        write_packed_parquet(packed, tmp_path / "out")
