"""Audio files with faults are read whole, refused, or counted as truncated; never cut in silence."""

from __future__ import annotations

import io
import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile
from audio_files import (
    AV_FORMATS,
    FORMATS,
    RATE,
    file_bytes,
    huge,
    noise,
    of_unknown_length,
    stating_less,
    truncated_file,
    variable_mp3_without_count,
    with_flac_total,
)

from l3ac_tokenizer import audio
from l3ac_tokenizer.audio import AudioError, AudioReader, AudioSegment, read_audio

LOSSLESS = (".wav", ".flac", ".aiff", ".w64", ".rf64", ".caf", ".au")
SHARES = (0.5, 0.77, 0.999)


def samples_of(data: bytes) -> np.ndarray:
    return read_audio(io.BytesIO(data), RATE)[0]


# --- truncated ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_is_refused_or_used_and_said(tmp_path, suffix, share):
    path = truncated_file(tmp_path, suffix, share, 5 * RATE)
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(AudioError, match="is truncated") as refused:
            read_audio(source, RATE)
        assert "--allow-truncated" in str(refused.value)
    with AudioReader(path, RATE, allow_truncated=True) as reader:
        read = reader.read()
    assert "is truncated" in reader.truncated and str(path) in reader.truncated
    whole = samples_of(file_bytes(suffix, 5 * RATE))
    assert 0 < len(read) < len(whole)
    if suffix in LOSSLESS:
        np.testing.assert_array_equal(read, whole[: len(read)])


def test_flac_of_many_frames_is_checked_by_the_number_of_its_last(tmp_path):
    data = file_bytes(".flac", 40 * RATE)
    assert len(samples_of(data)) == len(samples_of(with_flac_total(data, 0))) == 40 * RATE
    with pytest.raises(AudioError, match=r"truncated \(\d\d\.\d\d of 40\.00 s"):
        samples_of(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_says_how_much_is_there_where_the_header_knows(tmp_path, suffix):
    with pytest.raises(AudioError) as refused:
        read_audio(truncated_file(tmp_path, suffix), RATE)
    assert ("of 1.00 s are there" in str(refused.value)) == (suffix not in (".ogg", ".opus"))


@pytest.mark.parametrize("suffix", (".wav", ".flac", ".mp3"))
def test_a_segment_is_truncated_only_beyond_what_is_there(tmp_path, suffix):
    path = truncated_file(tmp_path, suffix)
    inside = AudioSegment(str(path), 0.1, 0.1)
    np.testing.assert_array_equal(read_audio(inside, RATE)[0], samples_of(file_bytes(suffix))[1600:3200])
    for start, seconds in ((0.1, 0.8), (0.1, None), (0.9, 0.1)):
        with pytest.raises(AudioError, match="is truncated"):
            read_audio(AudioSegment(str(path), start, seconds), RATE)


@pytest.mark.parametrize("suffix", (".ogg", ".opus"))
def test_ogg_without_a_page_in_the_middle_is_truncated(suffix):
    data = file_bytes(suffix, 5 * RATE)
    pages = [place for place in range(len(data)) if data.startswith(b"OggS", place)]
    middle = len(pages) // 2
    with pytest.raises(AudioError, match="is truncated"):
        samples_of(data[: pages[middle]] + data[pages[middle + 1] :])


def whole_files():
    for form in set(soundfile.available_formats()) - {
        "RAW",
        "SD2",
        "XI",
        "HTK",
        "MPC2K",
        "SDS",
        "WVE",
        "PAF",
        "SVX",
        "VOC",
    }:
        for subtype in soundfile.available_subtypes(form):
            yield form, subtype


@pytest.mark.parametrize(("form", "subtype"), sorted(whole_files()))
def test_whole_files_never_count_as_truncated(form, subtype):
    tried = 0
    for rate, channels, samples in itertools.product((8000, 44_100, 192_000), (1, 2), (1, 999, 5000)):
        file = io.BytesIO()
        try:
            soundfile.write(file, noise(samples, channels), rate, subtype, format=form)
        except (soundfile.SoundFileError, ValueError):  # this format cannot hold that
            continue
        file.seek(0)
        try:
            length = soundfile.info(file).frames
        except soundfile.SoundFileError:  # written, but not readable by soundfile itself
            continue
        file.seek(0)
        if length:
            with AudioReader(file, rate) as reader:
                assert len(reader.read()) == length and reader.truncated is None
            tried += 1
    if not tried:
        pytest.skip("soundfile does not write it")


# --- lengths that headers do not know or state wrongly ----------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_files_of_unknown_length_are_read_to_their_end_and_in_segments(tmp_path, suffix):
    whole = samples_of(file_bytes(suffix))
    for stated, data in of_unknown_length(suffix).items():
        path = tmp_path / f"{stated}{suffix}"
        path.write_bytes(data)
        np.testing.assert_array_equal(read_audio(path, RATE)[0], whole, err_msg=stated)
        np.testing.assert_array_equal(samples_of(data), whole, err_msg=stated)
        np.testing.assert_array_equal(read_audio(AudioSegment(str(path), 0.3, 0.2), RATE)[0], whole[4800:8000])
        np.testing.assert_array_equal(read_audio(AudioSegment(str(path), 0.9), RATE)[0], whole[14400:])


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_what_follows_the_stated_end_is_read(suffix):
    np.testing.assert_array_equal(samples_of(stating_less(suffix)), samples_of(file_bytes(suffix)))


def test_a_chunk_behind_the_samples_is_not_audio():
    data = file_bytes(".wav")
    for chunk in (b"LIST\x04\0\0\0INFO", b"id3 \xff\0\0\0", b"abcd\x02\0\0\0hi", b"\0"):
        np.testing.assert_array_equal(samples_of(data + chunk), samples_of(data))


@pytest.mark.parametrize("suffix", (".flac", ".rf64", ".w64", ".caf"))
def test_a_header_alone_allocates_nothing(suffix):
    tracemalloc.start()
    with pytest.raises(AudioError, match="is truncated"):
        samples_of(huge(suffix))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_mp3_without_a_count_of_frames_is_read_to_its_end():
    data = variable_mp3_without_count(5 * RATE)
    assert abs(len(samples_of(data)) - 5 * RATE) < 3 * 1152
    with pytest.raises(AudioError, match="is truncated"):
        samples_of(data[:-20])


# --- joined files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", (".mp3", ".ogg", ".opus", ".wav", ".aiff"))
@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (8000, 1), (RATE, 2)])
def test_joined_files_are_read_to_their_end(tmp_path, suffix, rate, channels):
    first, second = file_bytes(suffix), file_bytes(suffix, 8000, rate, channels)
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(first + second)
    read, _ = read_audio(path, RATE)
    expected = np.concatenate([samples_of(first), samples_of(second)])
    assert len(read) == len(expected)
    np.testing.assert_allclose(read, expected, atol=1e-6)
    part, _ = read_audio(AudioSegment(str(path), 0.9, 0.3), RATE)
    np.testing.assert_allclose(part, read[14400:19200], atol=1e-6)
    path.write_bytes(first[: len(first) // 2] + second)
    if suffix not in (".wav", ".aiff"):  # there the second is taken for samples of the first
        with pytest.raises(AudioError, match="is truncated"):
            read_audio(path, RATE)


# --- formats of FFmpeg ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", AV_FORMATS)
def test_formats_of_ffmpeg_are_read_and_checked(tmp_path, suffix):
    pytest.importorskip("av")
    data = file_bytes(suffix, 3 * RATE if suffix != ".webm" else 144_000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    whole, note = read_audio(path, RATE)
    assert abs(len(whole) - 3 * RATE) < 2500 and note is None and np.abs(whole).max() > 0.2
    np.testing.assert_array_equal(samples_of(data), whole)
    if suffix != ".webm":  # at the file's own rate
        np.testing.assert_array_equal(read_audio(AudioSegment(str(path), 1.0, 0.5), RATE)[0], whole[16000:24000])
    for share in SHARES:
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(AudioError):
            read_audio(path, RATE)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "has_ffmpeg", lambda: False)
    assert audio.readable_suffixes() == audio.AUDIO_SUFFIXES
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r'pip install "l3ac-tokenizer\[formats\]"'):
        read_audio(tmp_path / "a.m4a", RATE)


def test_names_need_not_be_utf8(tmp_path):
    path = tmp_path / "caf\udce9.flac"
    path.write_bytes(file_bytes(".flac"))
    assert len(read_audio(path, RATE)[0]) == RATE
    (tmp_path / "bad\udce9.wav").write_bytes(b"not audio")
    with pytest.raises(AudioError) as refused:
        read_audio(tmp_path / "bad\udce9.wav", RATE)
    str(refused.value).encode()
