"""A codec over folders of clips: what is measured, what is counted as failed, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.evaluation import bench, metrics

RECIPE = Path(__file__).parents[2] / "recipes" / "evaluate_codec.py"
RATE = 16_000


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = L3ACConfig(
        feature_dim=24,
        encoder_rates=[6, 5],
        encoder_dims=[4, 6, 8],
        encoder_depths=[1, 1, 1],
        decoder_rates=[6, 5],
        decoder_dims=[8, 6, 4],
        decoder_depths=[1, 1],
        levels=[3, 5, 7],
    )
    return L3ACModel(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips of noise, one of them in a subfolder; a click; a file that is not audio; a text."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("clips")
    (folder / "deep").mkdir()
    soundfile.write(folder / "a.wav", 0.1 * random.standard_normal(RATE), RATE, subtype="FLOAT")
    soundfile.write(folder / "deep" / "b.flac", 0.1 * random.standard_normal(2 * RATE).clip(-9, 9), RATE)
    soundfile.write(folder / "click.wav", np.array([0.5, -0.5, 0.0]), RATE)
    (folder / "broken.wav").write_bytes(b"not audio")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture(scope="module")
def report(model, folder):
    return bench.evaluate_folder(model, folder)


def test_every_clip_is_measured_or_counted(report):
    assert report.clips == 3
    assert report.seconds == pytest.approx(3, abs=0.01)
    failed = {(failure["clip"], failure["metric"]) for failure in report.failures}
    assert ("broken.wav", "read") in failed
    assert {("click.wav", "stoi"), ("click.wav", "pesq_wb"), ("click.wav", "mel_distance")} < failed
    assert all(failure["reason"].endswith(".") for failure in report.failures)
    for name, mean in report.metrics.items():
        assert mean.count + sum(metric == name for _, metric in failed) == report.clips


def test_the_means_are_those_of_the_clips(model, folder, report):
    values, ids = [], []
    for name in ("a.wav", "deep/b.flac"):
        audio = soundfile.read(folder / name, dtype="float32")[0]
        with torch.inference_mode():
            output = model(torch.from_numpy(audio)[None, None])
        ids.append(output.audio_codes.flatten().numpy())
        values.append(metrics.mel_distance(audio, output.audio_values[0, 0].numpy(), RATE))
    assert report.metrics["mel_distance"].mean == pytest.approx(np.mean(values), rel=1e-4)
    assert report.ids.count == sum(map(len, ids)) + 1  # and one of the click
    assert [level.size for level in report.levels] == [3, 5, 7]


def test_tables_and_json_hold_the_numbers(report):
    tables = bench.markdown_tables([report])
    mean = report.metrics["mel_distance"]
    assert f"{mean.mean:.3f} [{mean.interval[0]:.3f}, {mean.interval[1]:.3f}]" in tables
    assert "not readable: 1" in tables and "STOI: 1" in tables
    rows = [line.count("|") for line in tables.splitlines() if line.startswith("|")]
    assert rows[:3] == [rows[0]] * 3 and rows[3:] == [rows[3]] * 3
    again = json.loads(json.dumps(bench.as_json([report])))
    assert again[0]["metrics"]["mel_distance"]["mean"] == mean.mean
    assert again[0]["ids"]["used"] == report.ids.used


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bench.mean_with_interval(list(values))
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_one_clip_has_no_interval_and_none_has_no_mean():
    assert bench.mean_with_interval([3.0]) == bench.Mean(1, 3.0, None)
    assert bench.mean_with_interval([]) == bench.Mean(0, None, None)


def test_folders_without_audio_are_refused(model, folder, tmp_path):
    with pytest.raises(NotADirectoryError, match="missing is not a folder"):
        bench.evaluate_folder(model, tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no audio file"):
        bench.evaluate_folder(model, tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    with pytest.raises(ValueError, match=r"None of the audio files.*broken\.wav"):
        bench.evaluate_folder(model, tmp_path)


def test_the_command(model, folder, tmp_path):
    model.save_pretrained(tmp_path / "tiny")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, RECIPE, "--model", tmp_path / "tiny", *arguments], capture_output=True, text=True
        )

    done = run(folder, folder / "deep", "--json", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["weights_digest"] == model.weights_digest()
    assert [row["clips"] for row in results["folders"]] == [3, 1]
    assert "| deep | 1 |" in done.stdout

    failed = run(tmp_path / "missing", "--json", tmp_path / "none.json")
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].startswith("evaluate_codec: ")
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "none.json").exists()
