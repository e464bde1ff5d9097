from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer import PackedCorpus

from .conftest import is_one_sentence, speechlike, write_wav


@pytest.fixture
def corpus(l3ac_json, tmp_path, tiny) -> str:
    """A tokenized corpus of two clips."""
    for seed in range(2):
        write_wav(tmp_path / "in" / f"{seed}.wav", speechlike(0.5, seed=seed))
    l3ac_json("tokenize", "in", "-o", "out", "--model", tiny)
    return "out"


def test_each_format_has_all_tokens(l3ac, l3ac_json, tmp_path, corpus):
    ids = pq.read_table(tmp_path / "out" / "shard-00000.parquet")["ids"].to_pylist()
    count = sum(map(len, ids))
    tokens = ("--audio-offset", 2, "--audio-start-id", 0, "--audio-end-id", 1)
    pair = l3ac_json("export-tokens", corpus, "-o", "mega/tokens", "--format", "megatron", *tokens)
    assert pair == {"documents": 2, "tokens": count + 4, "vocab_size": 7**6 + 2}
    written = np.fromfile(tmp_path / "mega" / "tokens.bin", "<i4").tolist()
    assert written == [token for row in ids for token in [0, *(2 + each for each in row), 1]]
    assert l3ac_json("export-tokens", corpus, "-o", "elsewhere", "--format", "npy-index") == {"clips": 2, "ids": count}
    packing = ("--format", "parquet", "--length", 16, "--seed", 3, *tokens)
    facts = l3ac_json("export-tokens", "elsewhere", "-o", "packed", *packing)
    rows = pq.read_table(tmp_path / "packed")["input_ids"].to_pylist()
    packed = PackedCorpus("elsewhere", 16, seed=3, audio_offset=2, audio_start_id=0, audio_end_id=1)
    assert rows == [sequence["input_ids"].tolist() for sequence in packed] and facts["sequences"] == len(rows)
    status, out, _ = l3ac("export-tokens", corpus, "-o", "again", "--format", "megatron")
    assert status == 0 and f"tokens      {count}" in out


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (("--format", "parquet", "--length", "8"), 1, "no complete index"),
        (("--format", "parquet"), 2, "needs --length"),
        (("--format", "megatron", "--length", "8"), 2, "--length has no effect"),
        (("--format", "npy-index", "--audio-offset", "8"), 2, "--audio-offset has no effect"),
        (("--format", "megatron", "--audio-start-id", "8"), 1, "the token of an id"),
    ],
)
def test_wrong_usage_is_one_sentence(l3ac, corpus, arguments, status, message):
    got, _, err = l3ac("export-tokens", corpus, "-o", "new", *arguments)
    assert got == status and is_one_sentence(err) and message in err


def test_a_corpus_that_is_not_finished_is_exported_with_a_remark(l3ac, tmp_path, corpus):
    assert l3ac("export-tokens", corpus, "-o", "one", "--format", "megatron")[2] == ""
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    status, _, err = l3ac("export-tokens", corpus, "-o", "two", "--format", "megatron")
    assert status == 0 and "out is not finished: this is of 0 of 1 shards" in err
