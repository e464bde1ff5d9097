"""The commands on a checkpoint of the other family, with two residual stages: two ids a frame, one number in files."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from networks import tiny

from l3ac_tokenizer.container import read_l3ac
from l3ac_tokenizer.quantization import split_ids

from .conftest import is_one_sentence, speechlike, write_wav


@pytest.fixture(scope="module")
def taae(tmp_path_factory):
    """Directory and model: three dimensions of 17 levels, cut into two stages of 5."""
    folder = tmp_path_factory.mktemp("models") / "tiny-taae"
    model = tiny("tiny-taae")
    model.set_levels([17] * 3)
    model.decompose(2)
    model.save_pretrained(folder)
    return str(folder), model


@torch.inference_mode()
def test_a_file_there_and_back(l3ac, l3ac_json, tmp_path, taae):
    folder, model = taae
    samples = speechlike(0.2)
    write_wav(tmp_path / "a.wav", samples)
    status, _, err = l3ac("encode", "a.wav", "-o", "a.l3ac", "--model", folder)
    assert (status, err) == (0, ""), err
    header, ids = read_l3ac(tmp_path / "a.l3ac")
    assert header.levels == (5,) * 6
    codes = model.encode(torch.from_numpy(samples)[None, None]).audio_codes
    np.testing.assert_array_equal(split_ids(ids, header.levels, 2).T, codes[0].numpy())
    status, _, err = l3ac("decode", "a.l3ac", "-o", "b.wav", "--model", folder)
    assert (status, err) == (0, "")
    decoded, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    expected = model.decode(codes, num_samples=len(samples)).audio_values[0, 0].numpy()
    np.testing.assert_allclose(decoded, np.clip(expected, -1, 1), atol=2**-14)
    facts = l3ac_json("info", folder)
    assert facts["weights_digest"] == model.weights_digest() and facts["codebooks"] == 2
    assert facts["bits_per_second"] == pytest.approx(model.config.bits_per_second)
    assert facts["decoder_latency_ms"] == pytest.approx(1000 * model.decoder_lookahead / 16_000)


@torch.inference_mode()
def test_a_corpus_there_and_back(l3ac, tmp_path, taae):
    folder, model = taae
    samples = speechlike(0.2)
    write_wav(tmp_path / "in" / "a.wav", samples)
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", folder, "--split", 2)
    assert status == 0, err
    (shard,) = (tmp_path / "out").glob("*.parquet")
    (row,) = pq.read_table(shard).to_pylist()
    codes = model.encode(torch.from_numpy(samples)[None, None]).audio_codes
    np.testing.assert_array_equal(np.array(row["ids"]).T, codes[0].numpy())
    status, _, err = l3ac("detokenize", "out", "-o", "back", "--model", folder)
    assert (status, err) == (0, "")
    decoded, _ = soundfile.read(tmp_path / "back" / "a.wav", dtype="float32")
    expected = model.decode(codes, num_samples=len(samples)).audio_values[0, 0].numpy()
    np.testing.assert_allclose(decoded, np.clip(expected, -1, 1), atol=2**-14)


def test_ids_that_need_more_than_32_bits_are_not_stored_whole(l3ac, tmp_path):
    model = tiny("tiny-taae")
    model.set_levels([2000] * 3)
    model.save_pretrained(tmp_path / "fine")
    write_wav(tmp_path / "in" / "a.wav", speechlike(0.1))
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", "fine")
    assert status in (1, 2) and is_one_sentence(err) and "32 bits" in err
    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", "fine", "--split", 3)
    assert status == 0, err


def test_models_lists_both_families(l3ac_json):
    rows = {row["name"]: row for row in l3ac_json("models")}
    assert rows["taae-950m"]["ids_per_second"] == 25 and not rows["taae-950m"]["bundled"]
    assert rows["l3ac-1k-light"]["bundled"] and not rows["taae-small"]["bundled"]
