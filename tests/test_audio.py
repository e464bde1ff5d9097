from __future__ import annotations

import io
import re
import resource
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from l3ac_tokenizer import audio
from l3ac_tokenizer.audio import AudioError, AudioReader, read_audio, write_audio


def tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    def write(samples, rate, name="clip.wav", **options):
        path = tmp_path / name
        soundfile.write(path, samples, rate, **options)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "FLOAT"}, 0.0),
        ("a.wav", {"subtype": "PCM_16"}, 2**-15),
        ("a.wav", {"subtype": "PCM_24"}, 2**-23),
        ("a.flac", {}, 2**-15),
        ("a.aiff", {}, 2**-15),
        ("a.ogg", {"subtype": "VORBIS"}, 0.05),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
        ("a.mp3", {}, 0.05),
    ],
)
def test_common_formats_are_read_with_their_length(write, name, options, tolerance):
    samples = tone(1.0, 16000)
    read, note = read_audio(write(samples, 16000, name, **options), 16000)
    assert read.dtype == np.float32 and read.shape == samples.shape and note is None
    inner = slice(None) if tolerance < 0.01 else slice(800, -800)  # lossy formats blur the ends
    np.testing.assert_allclose(read[inner], samples[inner], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_becomes_the_wanted_one(write, rate):
    read, _ = read_audio(write(tone(2.0, rate), rate, subtype="FLOAT"), 16000)
    assert len(read) == 32000
    inner = slice(800, -800)
    np.testing.assert_allclose(read[inner], tone(2.0, 16000)[inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize(("size", "block"), [(1000, 16000), (7777, 270), (50_000, 9999)])
def test_blocks_are_the_whole_clip_cut(write, monkeypatch, rate, size, block):
    samples = np.random.default_rng(0).uniform(-1, 1, (rate * 2 + 17, 2)).astype(np.float32)
    path = write(samples, rate, subtype="FLOAT")
    whole = samples.mean(axis=1)
    if rate != 16000:
        whole = soxr.resample(whole, rate, 16000, quality="VHQ")
    np.testing.assert_array_equal(read_audio(path, 16000)[0], whole)
    monkeypatch.setattr(audio, "_FRAMES", size)
    with AudioReader(path, 16000) as reader:
        first, again = list(reader.blocks(block)), list(reader.blocks(block))
        assert reader.duration == len(samples) / rate
    assert {len(samples) for samples in first[:-1]} == {block} and 0 < len(first[-1]) <= block
    np.testing.assert_array_equal(np.concatenate(first), whole)
    np.testing.assert_array_equal(np.concatenate(again), whole)


def test_the_mean_of_the_channels_is_taken_and_said(write):
    left, right = tone(0.1, 16000), tone(0.1, 16000, 1000)
    read, note = read_audio(write(np.stack([left, right], axis=1), 16000, subtype="FLOAT"), 16000)
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-7)
    assert note == "downmixed from 2 channels to mono"


def test_memory_of_blocks_does_not_grow_with_the_clip(write):
    path = write(np.zeros(48000 * 120, dtype=np.int16), 48000)

    def peak(blocks: int) -> int:
        tracemalloc.start()
        with AudioReader(path, 16000) as reader:
            for _, _block in zip(range(blocks), reader.blocks(16000), strict=False):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(1000) < 1.3 * peak(30) < 16e6


def test_streams_are_read_whether_they_seek_or_not(write):
    samples = tone(0.2, 16000)
    data = write(samples, 16000, subtype="FLOAT").read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    for stream in (io.BytesIO(data), Pipe(data)):
        np.testing.assert_array_equal(read_audio(stream, 16000)[0], samples)
        assert not stream.closed


def test_wav_of_unknown_length_as_recorders_pipe_it(write):
    data = bytearray(write(tone(0.2, 16000), 16000).read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    assert len(read_audio(io.BytesIO(bytes(data)), 16000)[0]) == 3200


# --- bad input ----------------------------------------------------------------------------------------------


def test_missing_files_and_directories_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such file"):
        read_audio(tmp_path / "none.wav", 16000)
    with pytest.raises(IsADirectoryError, match="is a directory"):
        read_audio(tmp_path, 16000)


@pytest.mark.parametrize("contents", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE", b"\0" * 5000])
@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.txt", "x.raw"])
def test_what_is_not_audio_is_named(tmp_path, contents, name):
    path = tmp_path / name
    path.write_bytes(contents)
    with pytest.raises(AudioError, match=re.escape(str(path))):
        read_audio(path, 16000)


@pytest.mark.parametrize("read", [AudioReader.read, lambda reader: list(reader.blocks(100))])
def test_audio_without_one_sample_at_the_wanted_rate_is_refused(write, read):
    with (
        AudioReader(write(np.zeros(1), 96000), 16000) as reader,
        pytest.raises(AudioError, match="shorter than one sample"),
    ):
        read(reader)


def test_empty_audio_is_refused(write):
    with pytest.raises(AudioError, match="holds no audio"):
        read_audio(write(np.zeros(0), 16000), 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused_with_their_time(write, value):
    samples = np.zeros((16000, 2), dtype=np.float32)
    samples[8000, 1] = value
    with pytest.raises(AudioError, match=rf"the sample {value} at 0\.500 s"):
        read_audio(write(samples, 16000, subtype="FLOAT"), 16000)


def test_samples_beyond_full_scale_are_taken_up_to_the_bound(write):
    for peak in (1.0, 1.5, 4.0):
        samples = peak * tone(0.1, 16000) / 0.5
        np.testing.assert_array_equal(read_audio(write(samples, 16000, subtype="FLOAT"), 16000)[0], samples)
    with pytest.raises(AudioError, match=r"sample 32767 .* beyond ±4"):
        read_audio(write(np.full(10, 32767.0), 16000, subtype="FLOAT"), 16000)


def test_a_flac_cut_in_its_first_frame_is_damaged_too(write):
    path = write(np.random.default_rng(0).uniform(-1, 1, 5000), 16000, "a.flac")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(AudioError, match=r"truncated \(0\.00 of 0\.31 s"):
        read_audio(path, 16000)


def test_a_damaged_flac_says_where(write):
    noise = np.random.default_rng(0).uniform(-1, 1, 16000 * 40)
    path = write(noise, 16000, "a.flac")
    path.write_bytes(path.read_bytes()[:-500_000])
    with pytest.raises(AudioError, match=r"truncated \(\d+\.\d+ of 40\.00 s"):
        read_audio(path, 16000)


# --- writing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "A.WAV"])
def test_written_audio_reads_back(tmp_path, name):
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    write_audio(tmp_path / name, samples, 16000)
    info = soundfile.info(tmp_path / name)
    assert (info.format, info.subtype) == (name[2:].upper(), "PCM_16")
    np.testing.assert_allclose(read_audio(tmp_path / name, 16000)[0], samples, rtol=0, atol=2**-16 + 1e-7)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_pieces_are_written_as_one_clip(tmp_path):
    samples = tone(0.5, 16000)
    write_audio(tmp_path / "whole.wav", samples, 16000)
    write_audio(tmp_path / "pieces.wav", iter(np.split(samples, [100, 101, 5000])), 16000)
    assert (tmp_path / "pieces.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_source_that_fails_leaves_nothing(tmp_path):
    def pieces():
        yield tone(0.5, 16000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_audio(tmp_path / "a.flac", pieces(), 16000)
    assert list(tmp_path.iterdir()) == []


def test_samples_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([1.5, -1.5], dtype=np.float32), 16000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 16000)[0], [1, -1], atol=1e-4)


def test_a_file_object_gets_wav():
    stream = io.BytesIO()
    write_audio(stream, tone(0.1, 16000), 16000)
    assert stream.getvalue()[:4] == b"RIFF"
    stream.seek(0)
    assert len(read_audio(stream, 16000)[0]) == 1600


@pytest.mark.parametrize(
    ("name", "samples", "words"),
    [
        ("a.mp3", np.zeros(3), r"must end in \.wav or \.flac"),
        ("a", np.zeros(3), r"must end in \.wav or \.flac"),
        ("a.wav", np.array([0, np.nan]), "finite"),
        ("a.wav", np.zeros((2, 3)), "one channel"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, name, samples, words):
    with pytest.raises(AudioError, match=words):
        write_audio(tmp_path / name, samples, 16000)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"cannot write .*a\.wav"):
        write_audio(tmp_path / "file" / "a.wav", np.zeros(3), 16000)
    with pytest.raises(FileNotFoundError, match=r"cannot write .*a\.wav"):
        write_audio(tmp_path / "none" / "a.wav", np.zeros(3), 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_full_disk_leaves_what_was_there(tmp_path, capfd, name):
    path = tmp_path / name
    write_audio(path, tone(0.1, 16000), 16000)
    before = path.read_bytes()
    noise = np.random.default_rng(0).uniform(-1, 1, 100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # what fits on the "disk"
    try:
        with pytest.raises(OSError, match=rf"cannot write {path}: file too large"):
            write_audio(path, noise, 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capfd.readouterr().err == ""  # nothing from libsndfile's callbacks
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("announced", [True, False])
def test_a_wav_beyond_its_sizes_is_rf64_or_refused(tmp_path, monkeypatch, announced):
    monkeypatch.setattr("l3ac_tokenizer.audio.MAX_WAV_SAMPLES", 1000)  # for 2**31 - 512
    samples = (0.5 * np.sin(np.arange(1500) / 9)).astype(np.float32)
    if announced:
        write_audio(tmp_path / "a.wav", iter(np.split(samples, 3)), 16_000, len(samples))
        assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
        np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 16_000)[0], samples, atol=2**-15)
    else:
        with pytest.raises(AudioError, match="too long for WAV"):
            write_audio(tmp_path / "a.wav", iter(np.split(samples, 3)), 16_000)
        assert not list(tmp_path.iterdir())
    write_audio(tmp_path / "b.wav", samples[:1000], 16_000)
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"RIFF"
