"""Truncated files and bad names at the entrances: commands and training data."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_files import RATE, file_bytes, huge, of_unknown_length, truncated_file
from networks import tiny

from l3ac_tokenizer.audio import AudioError
from l3ac_tokenizer.cli.main import main
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.training.data.corpus import AudioFiles, TrainingClip, decode, read_clip
from l3ac_tokenizer.training.data.readers import find_clips


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "whole.wav").write_bytes(file_bytes(".wav", 4000))
    truncated_file(folder, ".wav", samples=4000)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    tiny("tiny").save_pretrained(folder)
    return str(folder)


def test_encode_counts_truncated_files(folder, model, tmp_path, capsys):
    command = ["encode", str(folder), "-o", str(tmp_path / "out"), "--model", model, "--json"]
    assert main(command) == 1
    assert list(json.loads(capsys.readouterr().out)["failed"]) == [str(folder / "truncated.wav")]
    assert main([*command, "--allow-truncated"]) == 0
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)["truncated"]) == [str(folder / "truncated.wav")]
    assert "1 clips of truncated files" in printed.err


def test_tokenize_counts_truncated_clips(folder, model, tmp_path, capsys):
    for option, failures, truncated in (([], 1, 0), (["--allow-truncated"], 0, 1)):
        output = tmp_path / f"ids{len(option)}"
        assert main(["tokenize", str(folder), "-o", str(output), "--model", model, "--json", *option]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["failures"], summary["truncated"]) == (failures, truncated)
    assert summary["first_truncated"] == "truncated.wav"
    assert main(["tokenize", str(folder), "-o", str(output), "--model", model]) != 0  # other rows than were begun


def test_evaluate_refuses_truncated_clips_unless_they_are_allowed(folder):
    whole, truncated = sorted(open_data([str(folder)]).clips, key=lambda clip: clip.name, reverse=True)
    assert len(whole.read(RATE)) == 4000
    with pytest.raises(AudioError, match=r"truncated\.wav is truncated"):
        truncated.read(RATE)
    allowed = next(clip for clip in open_data([str(folder)], allow_truncated=True).clips if clip.name == "truncated")
    with allowed.open(RATE) as reader:
        assert 0 < len(reader.read()) < 4000
    assert reader.truncated is not None


def test_training_skips_and_counts_every_kind_of_bad_file(tmp_path, caplog):
    folder = tmp_path / "speech"
    folder.mkdir()
    (folder / "good.wav").write_bytes(file_bytes(".wav"))
    (folder / "caf\udce9.flac").write_bytes(file_bytes(".flac"))
    (folder / "piped.flac").write_bytes(of_unknown_length(".flac")["0"])
    (folder / "huge.flac").write_bytes(huge(".flac"))
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    truncated_file(folder, ".ogg", samples=5 * RATE)
    clips = find_clips([folder], domains=[], default_domain="speech")
    assert len(clips) == 6
    with caplog.at_level(logging.WARNING):
        decoded = decode(clips, tmp_path / "cache", RATE, max_unusable=0.5)
        again = decode(clips, tmp_path / "cache", RATE, max_unusable=0.5)
    assert {Path(clip.path).stem for clip in decoded.places} == {"good", "caf\udce9", "piped"}
    assert again.places == decoded.places
    assert all(name in caplog.text for name in ("huge.flac", "dangling.wav", "truncated.ogg"))
    with caplog.at_level(logging.WARNING):
        assert len(decode(clips, tmp_path / "cache", RATE, 0.5, allow_truncated=True).places) == 5
    files = AudioFiles(RATE)
    for clip in decoded.places:
        crop = files.crop(clip, 800, np.random.default_rng(0), leveled=False)
        assert len(crop) == 800


def test_training_reads_a_random_part_without_the_rest(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(file_bytes(".flac", 5 * RATE))
    whole = read_clip(TrainingClip(str(path), "speech"), RATE)
    rng = np.random.default_rng(1)
    first = int(np.random.default_rng(1).integers(4 * RATE + 1))
    part = read_clip(TrainingClip(str(path), "speech"), RATE, longest=1.0, rng=rng)
    np.testing.assert_array_equal(part, whole[first : first + RATE])
