"""Clips and files through a codec, as plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from networks import speech_like, tiny

from l3ac_tokenizer import decode_clips, encode_clips, encode_files
from l3ac_tokenizer.audio import AudioError

RATE = 16_000
LENGTHS = (1_600, 4_801, 801, 9_600)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny("tiny").double()  # in float32 a frame near a rounding boundary may differ in chunks


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.wav" for number in range(len(LENGTHS))]
    for path, samples in zip(paths, LENGTHS, strict=True):
        soundfile.write(path, speech_like(samples, samples).numpy(), RATE, "FLOAT")
    return paths


@pytest.mark.parametrize("chunk_seconds", [0.2, 30.0])
def test_the_results_of_files_are_in_the_order_of_the_paths(model, files, chunk_seconds):
    order = [files[index] for index in (3, 0, 2, 1, 0)]
    clips = encode_files(model, map(str, order), chunk_seconds=chunk_seconds)
    samples = [soundfile.read(path, dtype="float32")[0] for path in order]
    assert [clip.num_samples for clip in clips] == [len(wave) for wave in samples]
    assert [clip.error for clip in clips] == [None] * 5
    for clip, ids in zip(clips, encode_clips(model, samples), strict=True):
        np.testing.assert_array_equal(clip.ids, ids)


def test_a_file_that_fails_is_an_error_by_default_and_a_result_on_request(model, files, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    paths = [files[0], tmp_path / "broken.wav", tmp_path / "missing.wav", tmp_path, files[1]]
    for failing in paths[1:4]:
        with pytest.raises(AudioError, match=str(failing)):
            encode_files(model, [files[0], failing])
    clips = encode_files(model, paths, errors="return")
    assert [clip.error is None for clip in clips] == [True, False, False, False, True]
    assert all(str(path) in clip.error and not len(clip.ids) for path, clip in zip(paths[1:4], clips[1:4], strict=True))
    with pytest.raises(ValueError, match="'raise' or 'return'"):
        encode_files(model, paths, errors="ignore")
    with pytest.raises(TypeError, match="a list of paths"):
        encode_files(model, files[0])
    with pytest.raises(ValueError, match="above 0"):
        encode_files(model, files, chunk_seconds=0)
    assert encode_files(model, []) == []


@torch.no_grad()
def test_clips_are_decoded_whole_unless_their_lengths_are_given(model):
    waves = [speech_like(samples).numpy() for samples in LENGTHS]
    all_ids = encode_clips(model, waves)
    cut, whole = decode_clips(model, all_ids, LENGTHS), decode_clips(model, [ids.tolist() for ids in all_ids])
    assert [len(audio) for audio in cut] == list(LENGTHS)
    for ids, short, audio in zip(all_ids, cut, whole, strict=True):
        assert len(audio) == 12 * len(ids)
        assert np.abs(audio[: len(short)] - short).max() < 1e-4
        alone = model.decode(torch.from_numpy(ids)[None, None]).audio_values[0, 0].numpy()
        assert np.abs(audio - alone).max() < 1e-4
    with pytest.raises(ValueError, match="3 numbers for 4 clips"):
        decode_clips(model, all_ids, LENGTHS[:3])
