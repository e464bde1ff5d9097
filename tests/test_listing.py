"""Rows of manifests mean the same to tokenization, training and evaluation; one that cannot be meant is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from networks import speech_like

from l3ac_tokenizer.audio import AudioError, AudioReader, AudioSegment, open_clip, read_audio
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.listing.manifest import load_manifest
from l3ac_tokenizer.speechbrain.manifests import read_manifest as read_utterances
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.training.data.corpus import read_clip
from l3ac_tokenizer.training.data.readers import find_clips

RATE = 16_000


def write_noise(path: Path, seconds: float = 2.0, rate: int = RATE, **options) -> np.ndarray:
    samples = 0.5 * speech_like(round(seconds * rate), 3).numpy()
    soundfile.write(path, samples, rate, **options)
    return soundfile.read(path, dtype="float32")[0]


def write_manifest(path: Path, rows: list[dict]) -> Path:
    if path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
        path.write_text("".join(separator.join(line) + "\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def clips_to_train_on(manifest: Path):
    return find_clips([manifest], domains=[], default_domain="speech")


SEGMENTS = [
    {"path": "a.flac", "start": 0.25, "seconds": 0.5},
    {"audio_filepath": "a.flac", "offset": 0.25, "duration": 0.5},
]


@pytest.mark.parametrize("row", SEGMENTS, ids=["ours", "nemo"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".ndjson", ".csv", ".tsv"])
def test_tokenization_training_and_evaluation_cut_the_same_samples(tmp_path, row, suffix):
    samples = write_noise(tmp_path / "a.flac")
    manifest = write_manifest(tmp_path / f"m{suffix}", [row | {"text": "a part"}])
    expected = samples[RATE // 4 : RATE // 4 + RATE // 2]
    (record,) = open_source(str(manifest)).records(0, 1)
    with open_clip(record.audio, record.path, RATE) as reader:
        assert reader.duration == 0.5
        np.testing.assert_array_equal(reader.read(), expected)
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(999))), expected)
    assert record.columns == {"text": "a part", "start": 0.25, "seconds": 0.5} and record.id == "a@0.25"
    (clip,) = clips_to_train_on(manifest)
    np.testing.assert_array_equal(read_clip(clip, RATE), expected)
    (tested,) = open_data([str(manifest)]).clips
    np.testing.assert_array_equal(tested.read(RATE), expected)


@pytest.mark.parametrize(("start", "seconds"), [(0.1234567, 0.7654321), (0.0, 0.33333), (1.5, None), (1.9, 5.0)])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_a_segment_is_cut_at_the_rate_of_its_file_and_then_resampled(tmp_path, suffix, start, seconds):
    rate = 22_050
    whole = write_noise(tmp_path / f"a.{suffix}", rate=rate)
    stop = None if seconds is None else round((start + seconds) * rate)
    cut = whole[round(start * rate) : stop]
    segment = AudioSegment(str(tmp_path / f"a.{suffix}"), start, seconds)
    np.testing.assert_array_equal(read_audio(segment, rate)[0], cut)
    resampled, _ = read_audio(segment, RATE)
    np.testing.assert_allclose(resampled, soxr.resample(cut, rate, RATE, quality="VHQ"), atol=1e-5)


def test_segments_are_tokenized_as_files_of_their_own(tiny_model, tmp_path):
    samples = write_noise(tmp_path / "a.flac")
    rows = [
        {"id": "first", "path": "a.flac", "start": 0, "seconds": 0.5},
        {"id": "second", "path": "a.flac", "start": 0.5, "seconds": 1.0},
        {"id": "whole", "path": "a.flac"},
        {"id": "after", "path": "a.flac", "start": 3},
    ]
    for name, part in (("first", samples[:8000]), ("second", samples[8000:24_000]), ("whole", samples)):
        (tmp_path / "alone").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "alone" / f"{name}.flac", part, RATE)
    summary = tokenize_corpus(
        open_source(str(write_manifest(tmp_path / "m.jsonl", rows))), tiny_model, tmp_path / "out", chunk_seconds=0.7
    )
    tokenize_corpus(open_source(str(tmp_path / "alone")), tiny_model, tmp_path / "expected")
    from l3ac_tokenizer.tokenization.reader import TokenizedCorpus

    ids = [
        {row["id"]: row["ids"] for table in TokenizedCorpus(folder).tables() for row in table.to_pylist()}
        for folder in (tmp_path / "out", tmp_path / "expected")
    ]
    assert ids[0] == ids[1]
    assert summary["failures"] == 1
    assert "a.flac holds no audio at 3 s (it is 2 s long)" in (tmp_path / "out" / "failures.jsonl").read_text()


def test_the_digest_of_a_source_tells_segments_apart(tmp_path):
    digests = {
        open_source(str(write_manifest(tmp_path / "m.jsonl", [{"id": "a", "path": "a.wav"} | part]))).digest()
        for part in ({}, {"start": 1}, {"start": 2}, {"seconds": 1}, {"offset": 1, "duration": 1})
    }
    assert len(digests) == 5


def test_a_duration_without_a_start_describes_the_whole_file(tmp_path):
    manifest = write_manifest(tmp_path / "m.csv", [{"ID": "u", "duration": "1.9", "wav": "a.wav", "spk_id": "s"}])
    (row,) = load_manifest(manifest).rows
    assert (row.start, row.seconds, row.values["duration"]) == (0.0, None, "1.9")
    (clip,) = clips_to_train_on(manifest)
    assert clip.seconds is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"start": "soon"}, "start and seconds must be numbers"),
        ({"offset": [1]}, "start and seconds must be numbers"),
        ({"start": -1}, "the start must be at least 0"),
        ({"seconds": 0}, "the length above 0"),
        ({"start": "nan"}, "the start must be at least 0"),
        ({"seconds": "inf"}, "the length above 0"),
    ],
)
def test_a_segment_that_cannot_be_is_refused_by_its_line_everywhere(tmp_path, part, message):
    manifest = write_manifest(tmp_path / "m.jsonl", [{"path": "a.wav"}, {"path": "b.wav"} | part])
    for read in (lambda: open_source(str(manifest)), lambda: clips_to_train_on(manifest)):
        with pytest.raises(DataError, match=rf"m\.jsonl, line 2: .*{message}"):
            read()


def test_recipes_refuse_segments_by_their_line(tmp_path):
    row = {"ID": "u", "duration": "1.9", "wav": "a.wav", "spk_id": "s", "wrd": "w"}
    assert read_utterances(write_manifest(tmp_path / "m.csv", [row]))[0].duration == 1.9
    with pytest.raises(DataError, match=r"m\.csv, line 3, is a segment of a\.wav"):
        read_utterances(write_manifest(tmp_path / "m.csv", [row, row | {"offset": "0.5"}]))


def test_a_segment_after_the_end_of_its_file_is_refused(tmp_path):
    write_noise(tmp_path / "a.wav")
    for segment in (AudioSegment(str(tmp_path / "a.wav"), 2.0), AudioSegment(str(tmp_path / "a.wav"), 9.0, 1.0)):
        with pytest.raises(AudioError, match=r"a\.wav holds no audio at .* \(it is 2 s long\)"):
            AudioReader(segment, RATE)
