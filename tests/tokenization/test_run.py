from __future__ import annotations

import json
import logging

import datasets
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.tokenization import open_source, spec, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

from .corpora import LENGTHS, ids_of, rows_of, write_clip

SHARDS_OF_3 = TokenizationOptions(shard_rows=3)


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_rows_shards_and_summary(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    summary = tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    assert files_in(out) == [
        "failures.jsonl",
        "manifest.jsonl",
        *(f"shard-0000{number}.parquet" for number in range(4)),
        "summary.json",
    ]
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"{number:03d}" for number in range(10)]
    assert [row["num_samples"] for row in rows] == LENGTHS
    assert [row["ids"] for row in rows] == [ids_of(tiny_model, corpus / row["path"]) for row in rows]
    schema = pq.read_schema(out / "shard-00000.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("id", "string"),
        ("ids", "list<element: int32>"),
        ("num_samples", "int64"),
        ("sampling_rate", "int32"),
        ("path", "string"),
    ]
    metadata = json.loads(schema.metadata[b"l3ac"])
    assert metadata["weights_digest"] == tiny_model.weights_digest()
    assert (metadata["levels"], metadata["hop_length"], metadata["sampling_rate"]) == ([5, 3, 3], 12, 16_000)
    assert metadata["options"] == {"split": 1, "max_seconds": None, "allow_truncated": False} and metadata["version"]
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["complete"] and summary["clips"] == 10 and summary["failures"] == 0
    assert summary["hours"] == pytest.approx(sum(LENGTHS) / 16_000 / 3600)
    assert summary["ids"] == sum(len(row["ids"]) for row in rows)
    assert summary["ids_per_second"] == pytest.approx(summary["ids"] / (sum(LENGTHS) / 16_000))
    assert summary["audio_hours_per_hour"] > 0


def test_what_reads_parquet_reads_it(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    rows = rows_of(out)
    files = str(out / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == rows and loaded.features["ids"] == datasets.List(datasets.Value("int32"))
    streamed = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    assert list(streamed) == rows
    frame = pandas.concat(pandas.read_parquet(path) for path in sorted(out.glob("*.parquet")))
    assert [ids.tolist() for ids in frame["ids"]] == [row["ids"] for row in rows]
    polars = pytest.importorskip("polars")
    assert polars.read_parquet(files).to_dicts() == rows


def test_columns_of_the_source_are_carried_along(tiny_model, corpus, tmp_path):
    lines = [{"path": f"{number:03d}.flac", "text": f"t{number}", "db": number / 2} for number in range(10)]
    (corpus / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokenize_corpus(open_source(str(corpus / "m.jsonl")), tiny_model, tmp_path / "out", SHARDS_OF_3)
    assert [(row["text"], row["db"]) for row in rows_of(tmp_path / "out")] == [(f"t{n}", n / 2) for n in range(10)]


def test_a_column_that_is_null_in_one_shard_has_its_type_there(tiny_model, corpus, tmp_path):
    lines = [{"path": f"{number:03d}.flac", "text": "late" if number > 7 else None} for number in range(10)]
    (corpus / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tokenize_corpus(open_source(str(corpus / "m.jsonl")), tiny_model, tmp_path / "out", SHARDS_OF_3)
    schemas = {pq.read_schema(path) for path in (tmp_path / "out").glob("*.parquet")}
    assert len(schemas) == 1 and schemas.pop().field("text").type == pa.string()


def test_failures_are_logged_counted_and_stop_nothing(tiny_model, corpus, tmp_path, caplog):
    (corpus / "001.flac").write_text("nothing to hear")
    (corpus / "003.flac").write_bytes(b"")
    (corpus / "004.flac").unlink()
    write_clip(corpus / "004.flac", 20_000)
    for number in (6, 7, 8):  # a whole shard of failures
        (corpus / f"{number:03d}.flac").write_text("no")
    out = tmp_path / "out"
    options = TokenizationOptions(shard_rows=3, max_seconds=1.0)
    with caplog.at_level(logging.WARNING):
        summary = tokenize_corpus(open_source(str(corpus)), tiny_model, out, options)
    assert summary["complete"] and summary["clips"] == 4 and summary["failures"] == 6
    assert [row["id"] for row in rows_of(out)] == ["000", "002", "005", "009"]
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["id"] for failure in failures] == ["001", "003", "004", "006", "007", "008"]
    assert "not audio" in failures[0]["error"] and "not audio" in failures[1]["error"]
    assert "1.2 s long, more than the 1 s allowed" in failures[2]["error"]
    for failure in failures:
        assert failure["error"] in caplog.text


def test_too_many_failures_stop_the_run_and_it_resumes_when_more_are_allowed(tiny_model, corpus, tmp_path):
    (corpus / "001.flac").write_text("no")
    (corpus / "007.flac").write_text("no")
    out = tmp_path / "out"
    source = open_source(str(corpus))
    for _ in range(2):
        with pytest.raises(CorpusError, match="2 clips could not be encoded, more than the 1 allowed"):
            tokenize_corpus(source, tiny_model, out, SHARDS_OF_3, max_failures=1)
        assert not json.loads((out / "summary.json").read_text())["complete"]
        assert [row["id"] for row in rows_of(out)] == ["000", "002", "003", "004", "005"]
    assert tokenize_corpus(source, tiny_model, out, SHARDS_OF_3, max_failures=2)["complete"]
    assert len(rows_of(out)) == 8


def test_a_finished_folder_is_left_as_it_is(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    first = tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3) == first
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == times


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": 3}, "--split is 3 and was 1"),
        ({"level_lufs": -20}, "--lufs is -20.0 and was None"),
        ({"max_seconds": 2.0}, "--max-seconds is 2.0 and was None"),
        ({"shard_rows": 4}, "--shard-rows is 4 and was 3"),
        ({"num_shards": 2}, "--num-shards is 2 and was 1"),
    ],
)
def test_a_changed_option_is_refused_with_both_values(tiny_model, corpus, tmp_path, change, message):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    before = rows_of(out)
    with pytest.raises(CorpusError, match=message):
        tokenize_corpus(open_source(str(corpus)), tiny_model, out, TokenizationOptions(**{"shard_rows": 3, **change}))
    assert rows_of(out) == before


def test_another_model_and_another_corpus_are_refused_with_both_values(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    other = L3ACModel(tiny_model.config).eval()
    with pytest.raises(CorpusError) as refused:
        tokenize_corpus(open_source(str(corpus)), other, out, SHARDS_OF_3)
    assert tiny_model.weights_digest() in str(refused.value) and other.weights_digest() in str(refused.value)
    write_clip(corpus / "new.flac", 100)
    with pytest.raises(CorpusError, match="number of clips is 11 and was 10"):
        tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)


def test_memory_speed_and_processes_may_change(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    whole = rows_of(out)
    (out / "shard-00001.parquet").unlink()
    summary = tokenize_corpus(
        open_source(str(corpus)), tiny_model, out, SHARDS_OF_3, engine=LocalEngine(2), chunk_seconds=9.0
    )
    assert summary["complete"] and rows_of(out) == whole


def test_shards_that_went_missing_or_were_cut_are_made_again(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    whole = rows_of(out)
    (out / "shard-00000.parquet").unlink()
    cut = (out / "shard-00002.parquet").read_bytes()[:-1]
    (out / "shard-00002.parquet").write_bytes(cut)
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    assert rows_of(out) == whole


def test_shards_without_a_manifest_are_not_written_over(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    (out / "manifest.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"holds shards and no manifest\.jsonl"):
        tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)


def test_a_damaged_manifest_is_reported_by_its_line(tiny_model, corpus, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    for broken, message in (
        ([lines[0], "{", *lines[2:]], "damaged in line 2"),
        (['{"a": 1}', *lines[1:]], "not the manifest of a tokenized corpus"),
    ):
        (out / "manifest.jsonl").write_text("".join(f"{line}\n" for line in broken))
        with pytest.raises(CorpusError, match=message):
            tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)


def test_jobs_together_write_what_one_job_writes(tiny_model, corpus, tmp_path):
    tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / "one", SHARDS_OF_3)
    names = []
    for index in range(3):
        options = TokenizationOptions(shard_rows=3, num_shards=3, shard_index=index)
        tokenize_corpus(open_source(str(corpus)), tiny_model, tmp_path / str(index), options)
        names += [path.name for path in (tmp_path / str(index)).glob("*.parquet")]
        for path in (tmp_path / str(index)).glob("*.parquet"):
            assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    assert sorted(names) == sorted(path.name for path in (tmp_path / "one").glob("*.parquet"))


@pytest.mark.parametrize("fault", ["lost", "doubled", "doubled for another"])
def test_an_engine_that_loses_or_repeats_rows_is_detected(tiny_model, corpus, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(spec, "WINDOW_ROWS", 1)

    class Faulty(LocalEngine):
        def run(self, work, windows):
            for window in windows:
                if window[0] == 4 and fault == "lost":
                    continue
                if window[0] == 4 and fault == "doubled for another":
                    window = (3, 4)
                yield work(*window)
                if window[0] == 4 and fault == "doubled":
                    yield work(*window)

    out = tmp_path / "out"
    with pytest.raises(CorpusError, match=r"did not come back complete|repeated or missing"):
        tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3, engine=Faulty())
    assert not (out / "shard-00001.parquet").exists()
    assert tokenize_corpus(open_source(str(corpus)), tiny_model, out, SHARDS_OF_3)["complete"]
    assert [row["id"] for row in rows_of(out)] == [f"{number:03d}" for number in range(10)]
