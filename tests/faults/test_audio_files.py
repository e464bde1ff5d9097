"""Audio files with faults are read whole, refused, or counted as truncated; never cut in silence."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from audio_files import (
    AV_FORMATS,
    FORMATS,
    RATE,
    file_bytes,
    flac_as_samples,
    flac_frames,
    huge,
    noise,
    of_unknown_length,
    stating_less,
    truncated_file,
    variable_mp3_without_count,
    with_flac_block,
    with_flac_total,
)

from l3ac_tokenizer import audio
from l3ac_tokenizer.audio import AudioError, AudioReader, AudioSegment, read_audio
from l3ac_tokenizer.audio_formats.layout import parts_of

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
    with pytest.raises(AudioError, match="is truncated"):
        read_audio(path, RATE)


ID3V2 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
ID3V1 = b"TAG" + bytes(125)


@pytest.mark.parametrize("lengths", [(RATE, 8000), (RATE, RATE), (8000, 100 * RATE), (RATE, 3, 8000)])
@pytest.mark.parametrize(("before", "behind"), [(b"", b""), (ID3V2, b""), (b"", ID3V1), (ID3V2 + ID3V2, ID3V1)])
def test_joined_flac_is_read_to_its_end(tmp_path, lengths, before, behind):
    parts = [file_bytes(".flac", length) for length in lengths]
    path = tmp_path / "joined.flac"
    path.write_bytes(b"".join(before + part + behind for part in parts))
    expected = np.concatenate([samples_of(part) for part in parts])
    np.testing.assert_array_equal(read_audio(path, RATE)[0], expected)
    np.testing.assert_array_equal(read_audio(AudioSegment(str(path), 0.4, 1.0), RATE)[0], expected[6400:22400])


@pytest.mark.parametrize("total", (0, 1000, None))
def test_joined_flac_may_state_wrong_lengths(total):
    parts = [file_bytes(".flac", length) for length in (RATE, 8000)]
    expected = np.concatenate([samples_of(part) for part in parts])
    stated = [part if total is None else with_flac_total(part, total) for part in parts]
    np.testing.assert_array_equal(samples_of(b"".join(stated)), expected)


def test_joined_flac_with_a_long_first_part_is_read_to_its_end():
    first, second = file_bytes(".flac", 60 * RATE), file_bytes(".flac", 8000)
    assert len(first) > 1 << 20
    np.testing.assert_array_equal(samples_of(first + second), np.concatenate([samples_of(first), samples_of(second)]))


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (RATE, 2)])
def test_joined_flac_of_another_kind_is_refused_by_name(tmp_path, rate, channels):
    path = tmp_path / "joined.flac"
    path.write_bytes(file_bytes(".flac") + file_bytes(".flac", 8000, rate, channels))
    for truncated in (False, True):
        with pytest.raises(
            AudioError, match=rf"joined\.flac is joined from files that differ .*{rate} Hz, channels {channels}"
        ):
            AudioReader(path, RATE, allow_truncated=truncated)


@pytest.mark.parametrize("kept", (4, 6, 20, 45, 100, 7000, -1))
def test_joined_flac_with_a_truncated_last_part_is_truncated(kept):
    first, second = file_bytes(".flac"), file_bytes(".flac", 8000)
    data = first + second[:kept]
    with pytest.raises(AudioError, match=r"is truncated \(1\.\d\d "):
        samples_of(data)
    with AudioReader(io.BytesIO(data), RATE, allow_truncated=True) as reader:
        read = reader.read()
    assert "is truncated" in reader.truncated
    expected = np.concatenate([samples_of(first), samples_of(second)])
    assert RATE <= len(read) < len(expected)
    np.testing.assert_array_equal(read, expected[: len(read)])


@pytest.mark.parametrize("kept", (-1, 20_000, 9000))
def test_joined_flac_with_a_truncated_first_part_is_truncated(kept):
    first, second = file_bytes(".flac"), file_bytes(".flac", 8000)
    with pytest.raises(AudioError, match="is truncated"):
        samples_of(first[:kept] + second)
    with AudioReader(io.BytesIO(first[:kept] + second), RATE, allow_truncated=True) as reader:
        read = reader.read()
    there = len(read) - 8000
    assert 0 < there < RATE and "is truncated" in reader.truncated
    np.testing.assert_array_equal(read, np.concatenate([samples_of(first)[:there], samples_of(second)]))


@pytest.mark.parametrize("second", (b"", file_bytes(".flac", 8000)))
def test_a_flac_file_within_metadata_or_samples_is_not_a_part(second):
    whole, inner = file_bytes(".flac"), file_bytes(".flac", 1000)
    rest = [samples_of(second)] if second else []
    picture = struct.pack(">II9sI16xI", 3, 9, b"image/png", 0, len(inner)) + inner
    for kind, content in ((2, inner), (6, picture)):  # application data and picture
        read = samples_of(with_flac_block(whole, kind, content) + second)
        np.testing.assert_array_equal(read, np.concatenate([samples_of(whole), *rest]))
    for place in (1000, 3 * 8192 + 2000, 6 * 8192 - len(inner) - len(inner) % 2 - 200):
        data = flac_as_samples(inner, place)
        for first in (data, with_flac_total(data, 0)):
            assert len(samples_of(first + second)) == 3 * 8192 + 8000 * bool(second)


def test_joined_flac_that_libflac_refuses_is_not_read_in_part():
    odd = with_flac_block(file_bytes(".flac"), 6, bytes(3))  # a picture that is none
    with pytest.raises(AudioError, match="not audio that can be read"):
        samples_of(odd + file_bytes(".flac", 8000))


class Counted(io.BytesIO):
    """A file that counts the bytes that are read."""

    count = 0

    def read(self, *size):
        data = super().read(*size)
        self.count += len(data)
        return data


def test_flac_with_a_seek_table_is_searched_for_further_parts_behind_its_last_point():
    data = file_bytes(".flac", 60 * RATE)
    start = flac_frames(data)
    frame = data[start : start + 4] + chr(200).encode()  # all headers begin alike; then the frame's number
    assert data.count(frame) == 1
    place = data.index(frame)
    table = np.array([(200 * 4096, place - start)], dtype=">u8").tobytes() + b"\x10\0"
    whole = with_flac_block(data, 3, table)
    file = Counted(whole)
    assert len(parts_of(file)) == 1 and file.count < len(data) / 4
    for first in (whole, with_flac_block(data, 3, bytes(7) + b"\x05" + table[8:])):
        np.testing.assert_array_equal(samples_of(first + data), np.tile(samples_of(data), 2))


def test_joined_wav_of_unknown_length_is_read_without_the_second_header():
    second = file_bytes(".wav", 8000)
    expected = np.concatenate([samples_of(file_bytes(".wav")), samples_of(second)])
    for data in of_unknown_length(".wav").values():
        np.testing.assert_array_equal(samples_of(data + second), expected)


@pytest.mark.parametrize("suffix", (".wav", ".aiff"))
@pytest.mark.parametrize("samples", (2000, 50_000))
def test_wav_that_is_truncated_before_another_file_is_truncated(suffix, samples):
    first, second = file_bytes(suffix), file_bytes(suffix, samples)
    data = first[:20_000] + second
    with pytest.raises(AudioError, match="is truncated"):
        samples_of(data)
    with AudioReader(io.BytesIO(data), RATE, allow_truncated=True) as reader:
        read = reader.read()
    assert "is truncated" in reader.truncated
    there = len(read) - samples
    np.testing.assert_array_equal(read, np.concatenate([samples_of(first)[:there], samples_of(second)]))
    for kept in (12, 16, 30, 60):  # the second is truncated in its header, or behind it
        with pytest.raises(AudioError, match="is truncated"):
            samples_of(first + second[:kept])


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
