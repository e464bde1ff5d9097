"""Long recordings in segments: exact, each encoded alone, in order, with nothing lost between them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from networks import speech_like, tiny

from l3ac_tokenizer import encode_clips
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.loudness import leveled
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.merge import merge_corpora
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.segments import Segmentation
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

RATE = 16_000
LENGTHS = {"a": 16_000, "b": 5_000, "c": 40_001, "d": 300}


@pytest.fixture(scope="module")
def network():
    return tiny("tiny")


@pytest.fixture
def recordings(tmp_path):
    """Recordings of which two formats lose samples, at two rates."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, (name, length) in enumerate(LENGTHS.items()):
        form = ["wav", "mp3", "flac", "ogg"][number]
        rate = [16_000, 44_100, 16_000, 24_000][number]
        audio = speech_like(length * rate // RATE, seed=number).numpy()
        soundfile.write(folder / f"{name}.{form}", audio, rate)
    return folder


def rows_of(folder):
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def tokenized(recordings, network, output, segmentation, **options):
    engine, chunk = options.pop("engine", None), options.pop("chunk_seconds", 30.0)
    options = TokenizationOptions(segmentation=segmentation, **options)
    source = open_source(str(recordings))
    summary = tokenize_corpus(source, network, output, options, engine=engine, chunk_seconds=chunk)
    return summary, rows_of(output)


@pytest.mark.parametrize("segmentation", [Segmentation(0.25), Segmentation(0.3, 0.1), Segmentation(7.0)])
def test_segments_join_to_the_recording_and_each_has_the_ids_of_its_samples_alone(
    recordings, network, tmp_path, segmentation
):
    summary, rows = tokenized(recordings, network, tmp_path / "out", segmentation)
    assert summary["failures"] == 0 and summary["clips"] == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    for path in sorted(recordings.iterdir()):
        whole, _ = read_audio(path, RATE)
        segments = [row for row in rows if row["recording"] == path.stem]
        assert [row["start"] for row in segments] == [0, *(row["end"] for row in segments[:-1])]
        assert segments[-1]["end"] == len(whole)
        for row in segments:
            assert row["num_samples"] == row["end"] - row["start"] > 0
            (ids,) = encode_clips(network, [whole[row["start"] : row["end"]]])
            assert row["ids"] == ids.tolist()
        longest, shortest = segmentation.seconds * RATE, (segmentation.seconds - segmentation.margin) * RATE
        assert all(shortest <= row["num_samples"] <= longest for row in segments[:-1])
        assert segments[-1]["num_samples"] <= longest


def test_neither_chunks_nor_processes_nor_jobs_change_the_rows(recordings, network, tmp_path):
    segmentation = Segmentation(0.25, 0.05)
    _, rows = tokenized(recordings, network, tmp_path / "one", segmentation)
    for name, options in {
        "short": {"chunk_seconds": 0.1},
        "two": {"chunk_seconds": 0.5, "engine": LocalEngine(2)},
        "shards": {"shard_rows": 1},
    }.items():
        assert tokenized(recordings, network, tmp_path / name, segmentation, **options)[1] == rows
    for index in range(2):
        tokenized(
            recordings, network, tmp_path / f"job{index}", segmentation, shard_rows=1, num_shards=2, shard_index=index
        )
    merge_corpora([tmp_path / "job0", tmp_path / "job1"], tmp_path / "merged")
    assert rows_of(tmp_path / "merged") == rows


def test_a_corpus_reads_back_by_recording(recordings, network, tmp_path):
    _, rows = tokenized(recordings, network, tmp_path / "out", Segmentation(0.1), shard_rows=2)
    corpus = TokenizedCorpus(tmp_path / "out")
    found = {name: table.to_pylist() for name, table in corpus.recordings()}
    assert list(found) == sorted(LENGTHS) and [row for each in found.values() for row in each] == rows
    assert [name for name, _ in corpus.recordings(["ids"])] == sorted(LENGTHS)
    tokenized(recordings, network, tmp_path / "whole", None)
    with pytest.raises(CorpusError, match="no segments of recordings"):
        next(TokenizedCorpus(tmp_path / "whole").recordings())


def test_each_segment_is_leveled_alone(recordings, network, tmp_path):
    _, rows = tokenized(recordings, network, tmp_path / "out", Segmentation(0.5), level_lufs=-20)
    whole, _ = read_audio(recordings / "c.flac", RATE)
    for row in (row for row in rows if row["recording"] == "c"):
        wave, scale = leveled(whole[row["start"] : row["end"]], RATE, -20)
        assert row["audio_scale"] == pytest.approx(scale)
        assert row["ids"] == encode_clips(network, [wave])[0].tolist()


def test_the_quietest_place_of_the_margin_ends_a_segment():
    audio = np.full(3 * RATE, 0.5, dtype=np.float32)
    audio[14_000:14_500] = 0.01
    audio[24_000:24_400] = 0.02  # outside of the second margin
    ends = np.cumsum([len(each) for each in Segmentation(1.0, 0.25).cut([audio[:10], audio[10:]], RATE)])
    assert 14_000 < ends[0] < 14_500 and ends[-1] == len(audio)
    assert ends[1] == pytest.approx(ends[0] + RATE, abs=400)  # all equally loud: the last place


def test_a_recording_that_fails_in_the_middle_is_one_failure(recordings, network, tmp_path):
    broken = (recordings / "c.flac").read_bytes()
    (recordings / "c.flac").write_bytes(broken[: len(broken) * 2 // 3])
    summary, rows = tokenized(recordings, network, tmp_path / "out", Segmentation(0.25))
    assert summary["failures"] == 1 and not any(row["recording"] == "c" for row in rows)
    (failure,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert failure["id"] == "c" and "truncated" in failure["error"]
    summary, rows = tokenized(recordings, network, tmp_path / "kept", Segmentation(0.25), allow_truncated=True)
    assert summary["truncated"] == 1 and any(row["recording"] == "c" for row in rows)


def test_a_limit_in_seconds_is_one_of_recordings(recordings, network, tmp_path):
    summary, rows = tokenized(recordings, network, tmp_path / "out", Segmentation(0.25), max_seconds=2.0)
    assert summary["failures"] == 1 and {row["recording"] for row in rows} == {"a", "b", "d"}


def test_text_of_a_recording_is_not_taken_for_that_of_a_segment(recordings, network, tmp_path):
    manifest = recordings / "list.jsonl"
    manifest.write_text(json.dumps({"path": "a.wav", "text": "many words"}) + "\n")
    _, rows = tokenized(manifest, network, tmp_path / "out", Segmentation(0.25))
    assert [row["recording_text"] for row in rows] == ["many words"] * 4 and "text" not in rows[0]
    manifest.write_text(json.dumps({"path": "a.wav", "end": 3}) + "\n")
    with pytest.raises(CorpusError, match="column `end`, as segments have it"):
        tokenized(manifest, network, tmp_path / "taken", Segmentation(0.25))


def test_the_command_resumes_and_refuses_other_segments(recordings, network, tmp_path, capsys):
    network.save_pretrained(tmp_path / "model")
    command = ["tokenize", str(recordings), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
    cut = ["--segment-seconds", "0.25", "--segment-margin", "0.05"]
    assert main([*command, *cut, "--shard-rows", "1"]) == 0
    rows = rows_of(tmp_path / "out")
    (tmp_path / "out" / "shard-00002.parquet").unlink()
    assert main([*command, *cut, "--shard-rows", "1"]) == 0
    assert rows_of(tmp_path / "out") == rows
    capsys.readouterr()
    assert main([*command, "--shard-rows", "1"]) == 1
    assert "--segment-seconds is None and was 0.25" in capsys.readouterr().err
    assert main([*command, "--segment-margin", "0.05"]) == 2
    assert main([*command, "--segment-seconds", "1", "--segment-margin", "2"]) == 2


@pytest.mark.parametrize("values", [(0,), (-1,), (1, -0.1), (1, 1)])
def test_lengths_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match="`segment_"):
        Segmentation(*values)
