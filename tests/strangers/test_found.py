"""What `make fuzz` found: files that ended in an error of another library, or in a message without bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel, L3ACConfig
from l3ac_tokenizer.causes import failure
from l3ac_tokenizer.limits import MESSAGE_CHARACTERS
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.parquet_files import batches

CONFIGURATIONS = {
    "a number": b"9" * 40,
    "a list": b"[1]",
    "not UTF-8": b'\x80"model_type": "l3ac"}',
    "cut": b'{"model_type": "l3ac", ',
    "of an unknown type": b'{"model_type": "l3ac", "dtype": "loat32"}',
}
LOADERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("config.json", CodecModel.from_pretrained),
    "configuration": ("config.json", L3ACConfig.from_pretrained),
    "extractor": ("preprocessor_config.json", CodecFeatureExtractor.from_pretrained),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_broken_configuration_is_refused_by_its_path(kind, loader, tmp_path):
    name, load = LOADERS[loader]
    hostile.write(tmp_path / name, CONFIGURATIONS[kind])
    with pytest.raises(ValueError, match=f"{name} is not a configuration"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x00S\x00\x00\x00\x00\x00\x00{", b"\x02" + bytes(7) + b"{}x"])
def test_broken_weights_are_refused_by_their_path(data, checkpoint, tmp_path):
    hostile.write(tmp_path / "config.json", (checkpoint / "config.json").read_bytes())
    hostile.write(tmp_path / "model.safetensors", data)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete safetensors file"):
        CodecModel.from_pretrained(tmp_path)


def test_a_long_unknown_key_of_an_extractor_makes_no_long_message(tmp_path):
    hostile.write(tmp_path / "preprocessor_config.json", json.dumps({"[" * 9_000: 1}))
    with pytest.raises(TypeError, match="does not take") as error:
        CodecFeatureExtractor.from_pretrained(tmp_path)
    assert len(failure(error.value)) <= MESSAGE_CHARACTERS


def test_a_damaged_page_of_a_corpus_is_refused_by_its_path(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"ids": [b"x" * 2_000], "id": ["a"]}), path, compression="zstd")
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 20 : start + 30] = b"\xff" * 10
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"x\.parquet has damaged pages"):
        list(batches(path, 10))
