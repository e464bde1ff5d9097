from __future__ import annotations

import io
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.container import read_l3ac
from l3ac_tokenizer.inference import group_by_length

from .conftest import RATE, files_below, is_one_sentence, speechlike, write_wav


def ids_of(model, samples: np.ndarray) -> np.ndarray:
    return model.encode(torch.from_numpy(samples)[None, None]).audio_codes[0, 0].numpy()


def test_a_file_holds_the_ids_and_all_about_them(l3ac, tmp_path, tiny, tiny_model):
    samples = speechlike(1.3)
    write_wav(tmp_path / "a.wav", samples)
    status, out, err = l3ac("encode", "a.wav", "-o", "a.l3ac", "--model", tiny)
    assert (status, err) == (0, "")
    header, ids = read_l3ac(tmp_path / "a.l3ac")
    np.testing.assert_array_equal(ids, ids_of(tiny_model, samples))
    assert header.weights_digest == tiny_model.weights_digest()
    assert (header.model_name, header.levels) == ("tiny", (7,) * 6)
    assert (header.sampling_rate, header.hop_length, header.num_samples) == (RATE, 270, len(samples))
    assert "a.wav" in out and f"{len(ids)} ids" in out


def test_folders_are_mirrored_and_ids_do_not_depend_on_the_batch(l3ac_json, tmp_path, tiny, tiny_model):
    clips = {"x.wav": 0.3, "deep/er/y.wav": 2.0, "deep/z.wav": 0.01, "deep/w.wav": 1.1}
    for seed, (name, seconds) in enumerate(clips.items()):
        write_wav(tmp_path / "in" / name, speechlike(seconds, seed=seed))
    (tmp_path / "in" / "notes.txt").write_text("not audio")
    result = l3ac_json("encode", "in", "-o", "out", "--model", tiny)
    assert files_below(tmp_path / "out") == ["deep/er/y.l3ac", "deep/w.l3ac", "deep/z.l3ac", "x.l3ac"]
    for seed, (name, seconds) in enumerate(clips.items()):
        _, ids = read_l3ac((tmp_path / "out" / name).with_suffix(".l3ac"))
        np.testing.assert_array_equal(ids, ids_of(tiny_model, speechlike(seconds, seed=seed)))
    assert [entry["target"] for entry in result["files"]] == [
        f"out/{name}" for name in ("deep/er/y.l3ac", "deep/w.l3ac", "deep/z.l3ac", "x.l3ac")
    ]
    assert result["failed"] == {}


def test_chunks_change_nothing(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "a.wav", speechlike(3.21))
    for seconds in ("30", "1", "0.05"):
        status, *_ = l3ac("encode", "a.wav", "-o", f"{seconds}/", "--model", tiny, "--chunk-seconds", seconds)
        assert status == 0
    whole = (tmp_path / "30" / "a.l3ac").read_bytes()
    assert (tmp_path / "1" / "a.l3ac").read_bytes() == whole
    assert (tmp_path / "0.05" / "a.l3ac").read_bytes() == whole


@pytest.mark.parametrize("chunk", ["30", "0.5"])
def test_other_rates_are_resampled_and_the_downmix_is_said(l3ac, tmp_path, tiny, tiny_model, chunk):
    stereo = np.stack([speechlike(1.0, 44100), speechlike(1.0, 44100, seed=1)], axis=1)
    write_wav(tmp_path / "a.wav", stereo, 44100)
    status, _, err = l3ac("encode", "a.wav", "-o", "a.l3ac", "--model", tiny, "--chunk-seconds", chunk)
    assert (status, err) == (0, "l3ac: a.wav: downmixed from 2 channels to mono.\n")
    header, ids = read_l3ac(tmp_path / "a.l3ac")
    samples, _ = read_audio(tmp_path / "a.wav", RATE)
    assert header.num_samples == len(samples) == RATE
    np.testing.assert_array_equal(ids, ids_of(tiny_model, samples))


def test_entropy_coding_holds_the_same_ids(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "a.wav", speechlike(5.0))
    for coding in ("packed", "entropy"):
        assert l3ac("encode", "a.wav", "-o", f"{coding}/", "--model", tiny, "--coding", coding)[0] == 0
    packed, entropy = (read_l3ac(tmp_path / coding / "a.l3ac") for coding in ("packed", "entropy"))
    assert entropy[0].coding == "entropy"
    np.testing.assert_array_equal(packed[1], entropy[1])


def test_standard_input_and_output(l3ac, tmp_path, tiny, monkeypatch):
    path = write_wav(tmp_path / "a.wav", speechlike(1.0))
    l3ac("encode", path, "-o", "a.l3ac", "--model", tiny)
    stdout = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    monkeypatch.setattr("l3ac_tokenizer.cli.encode.sys.stdout", types.SimpleNamespace(buffer=stdout, flush=int))
    assert l3ac("encode", "-", "-o", "-", "--model", tiny)[0] == 0
    assert stdout.getvalue() == (tmp_path / "a.l3ac").read_bytes()


def test_a_pipe_of_processes_goes_there_and_back(tmp_path, tiny):
    path = write_wav(tmp_path / "a.wav", speechlike(0.5), subtype="PCM_16")
    l3ac = f"{sys.executable} -m l3ac_tokenizer.cli"
    command = f"cat {path} | {l3ac} encode - -o - --model {tiny} | {l3ac} decode - -o - --model {tiny} > back.wav"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.stderr == ""
    assert len(read_audio(tmp_path / "back.wav", RATE)[0]) == RATE // 2


def test_a_bad_file_does_not_stop_the_others(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "in" / "good.wav", speechlike(0.2))
    (tmp_path / "in" / "bad.wav").write_text("nothing to hear")
    write_wav(tmp_path / "in" / "nan.wav", np.full(500, np.nan))
    write_wav(tmp_path / "in" / "long-nan.wav", np.append(speechlike(3.0), [np.nan]))
    status, out, err = l3ac("encode", "in", "missing.wav", "-o", "out", "--model", tiny, "--chunk-seconds", "1")
    assert status == 1
    assert files_below(tmp_path / "out") == ["good.l3ac"] and "good.wav" in out and "bad" not in out
    lines = err.splitlines()
    assert len(lines) == 5 and lines[-1] == "l3ac: 4 of 5 files could not be encoded."
    for name in ("missing.wav", "in/bad.wav", "in/nan.wav", "in/long-nan.wav"):
        assert sum(name in line for line in lines) == 1
    assert all(is_one_sentence(line + "\n") for line in lines)


def test_two_files_for_one_name_are_refused(l3ac, tmp_path, tiny):
    for folder in ("x", "y"):
        write_wav(tmp_path / folder / "a.wav", speechlike(0.1))
    status, _, err = l3ac("encode", "x/a.wav", "y/a.wav", "-o", "out", "--model", tiny)
    assert status == 1 and "x/a.wav and y/a.wav" in err
    assert not (tmp_path / "out").exists()


def test_groups_are_of_similar_length_within_the_budget():
    seconds = [5.0, 1.0, 40.0, 1.2, 4.0, 9.0, 1.1]
    groups = group_by_length(seconds, 10.0)
    assert sorted(position for group in groups for position in group) == list(range(len(seconds)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(seconds[position] for position in group) <= 10.0
    assert groups == [[1, 6, 3], [4, 0], [5], [2]]
    assert group_by_length([], 10.0) == []
    assert group_by_length([float("inf"), 1.0], 10.0) == [[1], [0]]
