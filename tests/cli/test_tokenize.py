from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.cli.detokenize import target_below

from .conftest import RATE, files_below, is_one_sentence, speechlike, write_wav


@pytest.fixture
def corpus(tmp_path):
    for number, seconds in enumerate([0.3, 1.1, 0.05, 0.6]):
        write_wav(tmp_path / "in" / "deep" / f"{number}.wav", speechlike(seconds, seed=number), subtype="PCM_16")
    (tmp_path / "in" / "bad.wav").write_text("nothing to hear")
    return tmp_path / "in"


def rows_of(folder) -> list[dict]:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet"))).to_pylist()


@torch.inference_mode()
def test_there_and_back(l3ac, tmp_path, corpus, bundled):
    status, out, err = l3ac("tokenize", "in", "-o", "out", "--model", "l3ac-1k", "--shard-rows", 2)
    assert status == 0
    assert "clips" in out and "ids/s" in out and "l3ac-1k" in out
    bad, counted = err.splitlines()
    assert is_one_sentence(bad + "\n") and "in/bad.wav is not audio" in bad
    assert counted == "l3ac: 1 clips could not be encoded: see failures.jsonl in out."
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == [f"deep/{number}" for number in range(4)]
    for row in rows:
        samples, _ = read_audio(corpus / row["path"], RATE)
        codes = bundled.encode(torch.from_numpy(samples)[None, None]).audio_codes
        assert row["ids"] == codes[0, 0].tolist()
        assert row["num_samples"] == len(samples)
    status, out, err = l3ac("detokenize", "out", "-o", "back", "--model", "l3ac-1k")
    assert (status, err) == (0, "") and "4" in out
    assert files_below(tmp_path / "back") == [f"deep/{number}.wav" for number in range(4)]
    for row in rows:
        decoded, _ = soundfile.read(tmp_path / "back" / f"{row['id']}.wav", dtype="float32")
        codes = torch.tensor(row["ids"])[None, None]
        expected = bundled.decode(codes, num_samples=row["num_samples"]).audio_values[0, 0].numpy()
        np.testing.assert_allclose(decoded, np.clip(expected, -1, 1), atol=2**-14)


def test_the_same_command_again_changes_nothing_and_another_is_refused(l3ac, l3ac_json, tmp_path, corpus, tiny, models):
    first = l3ac_json("tokenize", "in", "-o", "out", "--model", tiny)
    assert l3ac_json("tokenize", "in", "-o", "out", "--model", tiny) == first
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", models["twin"][0])
    assert status == 1 and is_one_sentence(err)
    for name in ("tiny", "twin"):
        assert models[name][1].weights_digest() in err
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", tiny, "--split", 2)
    assert status == 1 and is_one_sentence(err) and "--split is 2 and was 1" in err


def test_too_many_failures_are_status_1(l3ac, corpus, tiny):
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", tiny, "--max-failures", 0)
    assert status == 1 and "1 clips could not be encoded, more than the 0 allowed" in err.splitlines()[-1]


def test_jobs_merged(l3ac_json, tmp_path, corpus, tiny):
    whole = l3ac_json("tokenize", "in", "-o", "whole", "--model", tiny, "--shard-rows", 1)
    for index in range(2):
        jobs = ("--num-shards", 2, "--shard-index", index)
        l3ac_json("tokenize", "in", "-o", f"part-{index}", "--model", tiny, "--shard-rows", 1, *jobs)
    merged = l3ac_json("merge", "part-0", "part-1", "-o", "merged", "--format", "npy-index")
    assert rows_of(tmp_path / "merged") == rows_of(tmp_path / "whole")
    assert merged["ids"] == whole["ids"] == len(np.load(tmp_path / "merged" / "ids.npy"))


def test_a_job_without_work_is_done(l3ac_json, tmp_path, corpus, tiny):
    jobs = [("--num-shards", 2, "--shard-index", index, "--format", "npy-index") for index in range(2)]
    for index, job in enumerate(jobs):
        summary = l3ac_json("tokenize", "in", "-o", f"part-{index}", "--model", tiny, *job)
        assert summary["complete"] and summary["clips"] == (4 if index == 0 else 0)
    assert l3ac_json("merge", "part-1", "part-0", "-o", "merged")["clips"] == 4


def test_statistics_with_a_picture(l3ac, l3ac_json, tmp_path, corpus, tiny):
    summary = l3ac_json("tokenize", "in", "-o", "out", "--model", tiny)
    found = l3ac_json("stats", "out", "--picture", "pictures/usage.png")
    assert (
        found["ids"]["count"] == summary["ids"] and len(found["levels"]) == 6 and sorted(found["splits"]) == ["2", "3"]
    )
    assert (tmp_path / "pictures" / "usage.png").read_bytes().startswith(b"\x89PNG")
    status, out, err = l3ac("stats", "out")
    assert (status, err) == (0, "")
    for word in ("Huffman", "Miller–Madow", "digit 5", "group 1 of 2", "most used ids"):
        assert word in out
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "out" / "manifest.jsonl").write_text(lines[0] + "\n")
    assert "out is not finished: this is of 0 of 1 shards" in l3ac("stats", "out")[2]


def test_ids_of_other_weights_are_not_decoded(l3ac, corpus, tiny, models):
    l3ac("tokenize", "in", "-o", "out", "--model", tiny)
    for other in ("twin", "wide"):
        status, _, err = l3ac("detokenize", "out", "-o", "back", "--model", models[other][0])
        assert status == 1 and is_one_sentence(err) and "give the model that made it" in err
    status, _, err = l3ac("detokenize", "out", "-o", "back")
    assert status == 1 and is_one_sentence(err) and "out was made by tiny" in err


def test_an_id_never_leads_out_of_the_folder(l3ac, tmp_path, corpus, tiny):
    l3ac("tokenize", "in", "-o", "out", "--model", tiny)
    (shard,) = (tmp_path / "out").glob("*.parquet")
    table = pq.read_table(shard)
    names = ["../../evil", "/evil", "fine", "fine"]
    pq.write_table(table.set_column(0, "id", pa.array(names)), shard)
    before = files_below(tmp_path)
    status, _, err = l3ac("detokenize", "out", "-o", "back/x", "--model", tiny, "--audio-format", "flac")
    assert status == 1 and "'../../evil.flac' leads out of back/x" in err and "'/evil.flac' leads out" in err
    assert "fine is the id of two clips" in err
    assert sorted({*files_below(tmp_path)} - {*before}) == ["back/x/fine.flac"]


@pytest.mark.parametrize("name", ["..", "a/../../b", "/a", "../x", "a\0b"])
def test_targets_outside_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leads out"):
        target_below(str(tmp_path), name)
    assert target_below(str(tmp_path), "a/b/../c.wav") == str(tmp_path / "a" / "c.wav")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["in", "-o", "out", "--split", "7"], 1, "split into 1 to 6 groups"),
        (["in", "-o", "out", "--split", "0"], 2, "`split` is 0"),
        (["in", "-o", "out", "--num-shards", "2", "--shard-index", "2"], 2, "`shard_index` is 2; it must be 0 to 1"),
        (["in", "-o", "out", "--num-proc", "0"], 2, "`num_proc` is 0"),
        (["in", "-o", "out", "--ray-address", "auto"], 2, "--ray-address needs --engine ray"),
        (["in", "-o", "out", "--gpus-per-worker", "0.5"], 2, "--gpus-per-worker needs --engine ray and --device cuda"),
        (["in", "-o", "out", "--engine", "ray", "--gpus-per-worker", "0.5"], 2, "needs --engine ray and --device cuda"),
        (["gone/", "-o", "out"], 1, "no file or folder gone/"),
        (["in/notes.md", "-o", "out"], 1, "in/notes.md has a suffix that is not known"),
        (["in/notes.txt", "-o", "out"], 1, "in/notes.txt lists nothing"),
    ],
)
def test_wrong_usage(l3ac, tmp_path, corpus, tiny, arguments, status, message):
    for name in ("notes.md", "notes.txt"):
        (corpus / name).write_text("")
    found, out, err = l3ac("tokenize", *arguments, "--model", tiny)
    assert (found, out) == (status, "") and is_one_sentence(err) and message in err
    assert not (tmp_path / "out").exists()


def test_the_summary_on_disk_is_the_one_printed(l3ac_json, tmp_path, corpus, tiny):
    printed = l3ac_json("tokenize", "in", "-o", "out", "--model", tiny)
    assert printed == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert printed["model"] == "tiny" and printed["failures"] == 1
