"""`--lufs`: the scale of a leveled clip in files and corpora, and the level that decoding restores."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer import CodecFeatureExtractor, L3ACModel
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.container import read_l3ac
from l3ac_tokenizer.evaluation.codecs.checkpoint import CheckpointCodec
from l3ac_tokenizer.loudness import loudness_scale

from .conftest import RATE, is_one_sentence, speechlike, write_wav


@pytest.fixture
def samples(tmp_path):
    clip = 0.1 * speechlike(1.0)
    write_wav(tmp_path / "in" / "a.wav", clip)
    return clip


@pytest.fixture
def leveling(tiny, tmp_path):
    """A checkpoint whose feature extractor levels."""
    shutil.copytree(tiny, tmp_path / "leveling")
    CodecFeatureExtractor(level_lufs=-20).save_pretrained(tmp_path / "leveling")
    return "leveling"


def test_a_file_holds_the_scale_and_decoding_restores_the_level(l3ac, l3ac_json, tmp_path, tiny, samples):
    for name, chunk in (("a.l3ac", 30), ("chunks.l3ac", 0.3), ("a.json", 30)):
        arguments = ("in/a.wav", "-o", name, "--model", tiny, "--lufs", "-20", "--chunk-seconds", chunk)
        assert l3ac("encode", *arguments)[::2] == (0, "")
    assert (tmp_path / "a.l3ac").read_bytes() == (tmp_path / "chunks.l3ac").read_bytes()
    header, _ = read_l3ac(tmp_path / "a.l3ac")
    assert header.audio_scale == pytest.approx(loudness_scale(samples, RATE, -20), rel=1e-3) != 1
    assert json.loads((tmp_path / "a.json").read_text())["audio_scale"] == header.audio_scale
    assert l3ac_json("info", "a.l3ac")["audio_scale"] == header.audio_scale
    assert "decoded samples times" in l3ac("info", "a.l3ac")[1]

    status, _, err = l3ac("encode", "in/a.wav", "-o", "a.npy", "--model", tiny, "--lufs", "-20")
    assert status == 0 and "cannot hold the level" in err and is_one_sentence(err)
    for name in ("a.l3ac", "a.json", "a.npy"):
        assert l3ac("decode", name, "-o", f"{name}.wav", "--model", tiny)[0] == 0
    assert l3ac("decode", "a.l3ac", "-o", "chunks.wav", "--model", tiny, "--chunk-seconds", 0.3)[0] == 0
    at_level = read_audio(tmp_path / "a.npy.wav", RATE)[0][: len(samples)]
    for name in ("a.l3ac.wav", "a.json.wav", "chunks.wav"):
        restored = read_audio(tmp_path / name, RATE)[0]
        np.testing.assert_allclose(restored, header.audio_scale * at_level, atol=2 / 2**15 + 1e-3 * at_level.max())


def test_the_checkpoint_decides_and_the_option_overrides_it(l3ac, l3ac_json, tmp_path, leveling, samples):
    scales = []
    for options in ((), ("--lufs", "-30"), ("--lufs", "none")):
        assert l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", leveling, *options)[0] == 0
        scales.append(read_l3ac(tmp_path / "a.l3ac")[0].audio_scale)
    assert scales[0] * 10**0.5 == pytest.approx(scales[1], rel=1e-6) and scales[2] == 1.0
    assert l3ac_json("info", leveling)["level_lufs"] == -20
    status, _, err = l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", leveling, "--lufs", "3")
    assert status == 2 and "neither a loudness" in err


def test_a_corpus_has_a_column_of_scales_that_detokenize_applies(l3ac, l3ac_json, tmp_path, leveling, samples):
    summary = l3ac_json("tokenize", "in", "-o", "out", "--model", leveling)
    assert summary["level_lufs"] == -20
    (row,) = pq.read_table(tmp_path / "out" / "shard-00000.parquet").to_pylist()
    assert l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", leveling)[0] == 0
    header, ids = read_l3ac(tmp_path / "a.l3ac")
    assert (row["audio_scale"], row["ids"]) == (header.audio_scale, ids.tolist())
    assert l3ac("decode", "a.l3ac", "-o", "a.wav", "--model", leveling)[0] == 0
    assert l3ac("detokenize", "out", "-o", "wav", "--model", leveling)[0] == 0
    assert (tmp_path / "wav" / "a.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()

    status, _, err = l3ac("tokenize", "in", "-o", "out", "--model", leveling, "--lufs", "none")
    assert status == 1 and "--lufs is None and was -20.0" in err
    assert l3ac("tokenize", "in", "-o", "kept", "--model", leveling, "--lufs", "none")[0] == 0
    assert "audio_scale" not in pq.read_schema(tmp_path / "kept" / "shard-00000.parquet").names
    shutil.copy(tmp_path / "kept" / "shard-00000.parquet", tmp_path / "out" / "shard-00001.parquet")
    status, _, err = l3ac("stats", "out")
    assert status == 1 and "give them as two corpora" in err


def test_corpora_of_two_loudnesses_are_not_merged(l3ac, leveling, samples):
    for name, lufs in (("a", "-20"), ("b", "-23")):
        assert l3ac("tokenize", "in", "-o", name, "--model", leveling, "--lufs", lufs)[0] == 0
    status, _, err = l3ac("merge", "a", "b", "-o", "both")
    assert status == 1 and "-23" in err and "-20" in err and is_one_sentence(err)


def test_the_demo_and_the_evaluation_level_as_the_checkpoint_says(l3ac, tmp_path, leveling, samples):
    assert l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", leveling)[0] == 0
    header, ids = read_l3ac(tmp_path / "a.l3ac")
    for chunk in (30, 0.3):
        assert l3ac("demo", "in/a.wav", "--model", leveling, "--chunk-seconds", chunk)[0] == 0
        of_demo, ids_of_demo = read_l3ac(tmp_path / "demo" / "demo.l3ac")
        assert of_demo.audio_scale == header.audio_scale and ids_of_demo.tolist() == ids.tolist()
        decoded = read_audio(tmp_path / "demo" / "reconstruction.wav", RATE)[0]

        model = L3ACModel.from_pretrained(tmp_path / leveling)
        codec = CheckpointCodec.of(model, "leveling")
        clip = codec.encode(read_audio(tmp_path / "in" / "a.wav", RATE)[0])
        assert clip.ids[0].tolist() == ids.tolist()
        np.testing.assert_allclose(codec.decode(clip), decoded, atol=2 / 2**15)
