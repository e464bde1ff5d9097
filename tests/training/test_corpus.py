"""Reading clips: the published level rule, resampling, parts of files, the decoded cache, what is not usable."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora import RATE, write_corpus

from l3ac_tokenizer.audio import AudioError
from l3ac_tokenizer.training.config import TrainingConfig
from l3ac_tokenizer.training.data import corpus as corpus_module
from l3ac_tokenizer.training.data.augment import level, level_divisor
from l3ac_tokenizer.training.data.corpus import AudioFiles, DataError, TrainingClip, decode, read_clip
from l3ac_tokenizer.training.data.prepare import prepare_audio
from l3ac_tokenizer.training.data.readers import find_clips


def clips_of(folder):
    return find_clips([folder], domains=["speech", "music", "general"], default_domain="speech")


def test_level_rule_is_golden(golden_losses):
    g = {name: tensor.numpy() for name, tensor in golden_losses.items()}
    spiked = g["x"][0].copy()
    spiked[100], spiked[200] = 2, -2
    cases = [
        *(
            (row, divisor, slice(None, None, 8), out)
            for row, divisor, out in zip(g["x"], g["norm.divisor"], g["norm.out"], strict=True)
        ),
        (spiked, g["norm.spike_divisor"], slice(90, 210), g["norm.spike_out"]),
    ]
    for audio, divisor, shown, out in cases:
        assert level_divisor(audio) == pytest.approx(float(divisor), rel=1e-6)
        np.testing.assert_allclose(level(audio, level_divisor(audio))[shown], out, atol=1e-6)
    short = g["x"][0, 3000:3800]
    np.testing.assert_allclose(level(short, level_divisor(short)), g["norm.short_out"], atol=1e-6)


@pytest.mark.parametrize("lufs", [None, -20.0])
def test_files_and_cache_give_the_same_crops(corpus_folder, tmp_path, lufs):
    clips = clips_of(corpus_folder)
    files, decoded = AudioFiles(RATE, lufs), decode(clips, tmp_path, RATE, max_unusable=0.0, lufs=lufs)
    for clip in clips:
        for leveled in (False, True):
            crops = [corpus.crop(clip, 5000, np.random.default_rng(1), leveled=leveled) for corpus in (files, decoded)]
            assert crops[0].shape == (5000,) and crops[0].dtype == np.float32
            np.testing.assert_allclose(crops[0], crops[1], atol=1e-6)
        np.testing.assert_array_equal(files.beginning(clip, 0.25), decoded.beginning(clip, 0.25))


def test_cache_is_used_and_renewed_with_the_files(tmp_path, monkeypatch):
    folder = write_corpus(tmp_path / "audio", clips=1)
    first = decode(clips_of(folder), tmp_path / "cache", RATE, max_unusable=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "read_clip", None)  # reading a file would fail
        again = decode(clips_of(folder), tmp_path / "cache", RATE, max_unusable=0.0)
    assert again.places == first.places
    soundfile.write(folder / "music" / "new.wav", np.full(500, 0.5), RATE)
    assert len(decode(clips_of(folder), tmp_path / "cache", RATE, max_unusable=0.0).places) == 4


def test_unusable_files_are_logged_and_skipped_until_there_are_too_many(tmp_path, caplog):
    folder = write_corpus(tmp_path / "audio", clips=2)
    (folder / "speech" / "broken.flac").write_bytes(b"fLaC no more")
    soundfile.write(folder / "speech" / "empty.wav", np.zeros(0), RATE)
    with caplog.at_level(logging.WARNING):
        assert len(decode(clips_of(folder), tmp_path / "cache", RATE, max_unusable=0.5).places) == 6
    assert "broken.flac is not audio that can be read" in caplog.text and "empty.wav holds no audio" in caplog.text
    with pytest.raises(DataError, match="2 of 8 audio files are unusable"):
        decode(clips_of(folder), tmp_path / "other_cache", RATE, max_unusable=0.05)
    assert not list((tmp_path / "other_cache").iterdir())


def test_other_rates_and_stereo_become_mono_at_the_rate(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.full((44_100, 2), [0.2, 0.4]), 44_100, subtype="FLOAT")
    audio = read_clip(TrainingClip(path.as_posix(), "speech"), RATE)
    assert len(audio) == RATE
    np.testing.assert_allclose(audio[2000:-2000], 0.3, atol=1e-3)


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_a_part_of_a_file_is_that_part(tmp_path, suffix):
    path = tmp_path / f"long.{suffix}"
    time = np.arange(3 * 24_000) / 24_000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 + 100 * time) * time), 24_000)
    whole = read_clip(TrainingClip(path.as_posix(), "music"), RATE)
    part = read_clip(TrainingClip(path.as_posix(), "music", start=1.0, seconds=0.5), RATE)
    last = read_clip(TrainingClip(path.as_posix(), "music", start=2.9, seconds=0.5), RATE)
    assert len(part) == RATE // 2 and len(last) < RATE // 2
    # resampling without what lies around the part shows at its ends only
    np.testing.assert_allclose(part[500:-500], whole[RATE : RATE + RATE // 2][500:-500], atol=0.02)


def test_a_long_file_is_read_in_random_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "LONGEST_ITEM", 0.5)
    path = tmp_path / "ramp.wav"
    soundfile.write(path, np.linspace(0, 1, 5 * RATE), RATE, subtype="FLOAT")
    rng = np.random.default_rng(0)
    crops = [AudioFiles(RATE).crop(TrainingClip(path.as_posix(), "music"), 800, rng, leveled=False) for _ in range(40)]
    starts = np.array([crop[0] for crop in crops])
    assert all(len(crop) == 800 for crop in crops) and starts.min() < 0.2 and starts.max() > 0.7


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no audio", "is not audio that can be read"), (None, "no such file"), (np.full(99, np.nan), "the sample nan")],
)
def test_an_unusable_clip_gives_the_reason(tmp_path, content, message):
    path = tmp_path / "clip.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, RATE, subtype="FLOAT")
    with pytest.raises((AudioError, OSError), match=message):
        read_clip(TrainingClip(path.as_posix(), "speech"), RATE)


def test_a_clip_shorter_than_a_sample_at_the_rate_is_skipped(tmp_path):
    click, tone = TrainingClip(f"{tmp_path}/click.wav", "speech"), TrainingClip(f"{tmp_path}/tone.wav", "speech")
    soundfile.write(click.path, np.full(1, 0.5), 44_100)
    soundfile.write(tone.path, np.full(4000, 0.5), 44_100)
    with pytest.raises(AudioError, match="is shorter than one sample at 16000 Hz"):
        AudioFiles(RATE).crop(click, 800, np.random.default_rng(0), leveled=True)
    assert list(decode([click, tone], tmp_path / "cache", RATE, max_unusable=0.5).places) == [tone]


def test_held_out_files_are_never_trained_on(corpus_folder, tmp_path):
    config = TrainingConfig(holdout=["*/voice1_*"], decode_gigabytes=0.0)
    one = corpus_folder / "speech"
    _, train, held = prepare_audio(config, [corpus_folder], [one], tmp_path, RATE)
    paths = {clip.path for clip in train}
    assert len(train) == 6 and not any("voice1_" in path or "/speech/" in path for path in paths)
    assert len(held) == 3 + 4


def test_held_out_patterns_are_of_whole_paths_and_reported_where_they_match_nothing(
    corpus_folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(corpus_folder)
    config = TrainingConfig(holdout=[f"{corpus_folder}/speech/*", "*/nobody_*"], decode_gigabytes=0.0)
    _, train, held = prepare_audio(config, ["speech", "music"], [], tmp_path, RATE)
    assert len(train) == len(held) == 4
    assert caplog.messages == ["holdout: no file matches */nobody_*"]


def test_held_out_files_are_known_by_any_spelling_of_their_path(tmp_path, monkeypatch):
    folder = write_corpus(tmp_path / "audio", clips=2)
    (tmp_path / "link").symlink_to(folder)
    manifest = tmp_path / "held.csv"
    manifest.write_text("path\naudio/speech/voice0_0.wav\nlink/music/voice1_0.wav\n")
    monkeypatch.chdir(folder)
    config = TrainingConfig(decode_gigabytes=0.0)
    _, train, held = prepare_audio(config, ["../audio"], [manifest], tmp_path / "cache", RATE)
    assert len(held) == 2
    assert sorted(Path(clip.path).relative_to("../audio").as_posix() for clip in train) == [
        "general/voice0_0.wav",
        "general/voice1_0.wav",
        "music/voice0_0.wav",
        "speech/voice1_0.wav",
    ]
