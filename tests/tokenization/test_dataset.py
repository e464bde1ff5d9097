from __future__ import annotations

import functools
import json
import logging

import datasets
import pytest
import soundfile
from datasets import Audio, Dataset, List, Value

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.quantization import join_ids
from l3ac_tokenizer.tokenization.dataset import tokenize_dataset as tokenize

from .corpora import LENGTHS, ids_of, write_corpus

tokenize_dataset = functools.partial(tokenize, allow_outside=True)
"""The rows here name files of the test."""


@pytest.fixture
def files(tmp_path):
    return sorted(write_corpus(tmp_path / "in").glob("*.flac"))


@pytest.fixture
def expected(tiny_model, files):
    return [ids_of(tiny_model, path) for path in files]


def test_paths_bytes_samples_and_the_audio_feature_give_the_ids_of_each_clip_alone(tiny_model, files, expected):
    paths = [str(path) for path in files]
    by_path = Dataset.from_dict({"audio": paths})
    samples = [soundfile.read(path, dtype="float32")[0] for path in files]
    forms = {
        "paths": by_path,
        "bytes": Dataset.from_dict({"audio": [path.read_bytes() for path in files]}),
        "feature": by_path.cast_column("audio", Audio(decode=False)),
        "decoding feature": by_path.cast_column("audio", Audio()),
        "samples": Dataset.from_dict({"audio": samples, "sampling_rate": [16_000] * len(files)}),
        "dictionary": Dataset.from_dict({"audio": [{"array": clip, "sampling_rate": 16_000} for clip in samples]}),
        "iterable": by_path.to_iterable_dataset(),
        "iterable of a generator": datasets.IterableDataset.from_generator(lambda: ({"audio": path} for path in paths)),
    }
    for name, dataset in forms.items():
        rows = list(tokenize_dataset(dataset, tiny_model, chunk_seconds=0.1))
        assert [row["ids"] for row in rows] == expected, name
        assert [row["num_samples"] for row in rows] == LENGTHS
        assert {row["sampling_rate"] for row in rows} == {16_000}


def test_columns_types_and_facts(tiny_model, files):
    rows = {
        "audio": [str(path) for path in files],
        "utt_id": [f"u{number}" for number in range(len(files))],
        "sentence": ["words"] * len(files),
        "speaker_id": list(range(len(files))),
        "loudness": [-20.5] * len(files),
    }
    tokenized = tokenize_dataset(Dataset.from_dict(rows), tiny_model)
    assert tokenized.features == {
        "id": Value("string"),
        "ids": List(Value("int32")),
        "num_samples": Value("int64"),
        "sampling_rate": Value("int32"),
        "path": Value("string"),
        "text": Value("string"),
        "speaker": Value("string"),
        "loudness": Value("float64"),
    }
    assert tokenized[3]["id"] == "u3" and tokenized[3]["path"] == str(files[3]) and tokenized[3]["speaker"] == "3"
    metadata = json.loads(tokenized.info.description)
    assert metadata["weights_digest"] == tiny_model.weights_digest()
    assert metadata["levels"] == [5, 3, 3] and metadata["hop_length"] == 12


def test_split_ids_are_lists_of_groups(tiny_model, files, expected):
    tokenized = tokenize_dataset(Dataset.from_dict({"audio": [str(files[0])]}), tiny_model, split=3)
    assert tokenized.features["ids"] == List(List(Value("int32"), length=3))
    import numpy as np

    joined = join_ids(np.array(tokenized[0]["ids"]), tiny_model.config.levels, 3)
    assert joined.tolist() == expected[0]


def test_the_fingerprint_follows_data_weights_and_options_and_nothing_else(tiny_model, files):
    dataset = Dataset.from_dict({"audio": [str(path) for path in files[:2]]})
    other = L3ACModel(tiny_model.config).eval()
    first = tokenize_dataset(dataset, tiny_model)._fingerprint
    assert tokenize_dataset(dataset, tiny_model, chunk_seconds=1.0)._fingerprint == first
    changed = [
        tokenize_dataset(dataset, other),
        tokenize_dataset(dataset, tiny_model, split=3),
        tokenize_dataset(dataset, tiny_model, max_seconds=9.0),
        tokenize_dataset(dataset.select([1, 0]), tiny_model),
    ]
    assert len({first, *(each._fingerprint for each in changed)}) == 5


@pytest.mark.parametrize("form", ["map", "iterable"])
def test_failures_are_left_out_with_a_warning_and_may_be_too_many(tiny_model, files, expected, caplog, form):
    files[4].write_text("nothing to hear")
    dataset = Dataset.from_dict({"audio": [str(path) for path in files]})
    if form == "iterable":
        dataset = dataset.to_iterable_dataset()
    with caplog.at_level(logging.WARNING):
        rows = list(tokenize_dataset(dataset, tiny_model))
    assert [row["ids"] for row in rows] == expected[:4] + expected[5:]
    assert "004.flac is not audio" in caplog.text
    assert "error" not in rows[0]
    with pytest.raises(DataError, match="1 clips could not be encoded, more than the 0 allowed"):
        list(tokenize_dataset(dataset, tiny_model, max_failures=0))


def test_several_processes_give_the_same_rows(tiny_model, files):
    dataset = Dataset.from_dict({"audio": [str(path) for path in files]})
    one, two = (list(tokenize_dataset(dataset, tiny_model, num_proc=number)) for number in (None, 2))
    assert one == two


def test_a_missing_column_and_samples_without_a_rate_are_refused(tiny_model):
    with pytest.raises(DataError, match="no column 'audio' of audio; it has sound"):
        tokenize_dataset(Dataset.from_dict({"sound": ["a.wav"]}), tiny_model)
    with pytest.raises(DataError, match="no column `sampling_rate`"):
        tokenize_dataset(Dataset.from_dict({"audio": [[0.0, 0.1]]}), tiny_model)
    with pytest.raises(ValueError, match="num_proc"):
        tokenize_dataset(Dataset.from_dict({"audio": ["a"]}).to_iterable_dataset(), tiny_model, num_proc=2)
