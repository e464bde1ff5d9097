from __future__ import annotations

import io
import types

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l3ac_tokenizer.audio import AudioSegment
from l3ac_tokenizer.quantization import join_ids
from l3ac_tokenizer.tokenization.encoding import ClipEncoder

from .corpora import RATE, file_bytes, ids_of, wave, write_clip, write_corpus


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    seconds=st.sampled_from([0.004, 0.02, 0.1, 0.5]),
)
def test_ids_are_those_of_each_clip_alone_whatever_the_batching(tiny_model, lengths, seconds):
    clips = [{"array": wave(samples, seed), "sampling_rate": RATE} for seed, samples in enumerate(lengths)]
    encoded = ClipEncoder(tiny_model, chunk_seconds=seconds)(clips, [""] * len(clips))
    for clip, result in zip(clips, encoded, strict=True):
        alone = tiny_model.encode(torch.from_numpy(clip["array"])[None, None])
        assert result.error is None and result.num_samples == len(clip["array"])
        assert result.ids.dtype == np.int32
        # where rounding noise decides, and only there, an id may depend on how it is computed
        sure = ~tiny_model.quantizer.near_boundary(alone.latents)[0].numpy()
        np.testing.assert_array_equal(result.ids[sure], alone.audio_codes[0, 0].numpy()[sure])


def test_every_form_of_a_clip_gives_the_same_ids(tiny_model, tmp_path):
    path = write_clip(tmp_path / "a.flac", 2000)
    samples, _ = soundfile.read(path, dtype="float32")
    forms = [
        path,
        str(path),
        path.read_bytes(),
        {"bytes": path.read_bytes(), "path": "gone.flac"},
        {"bytes": None, "path": str(path)},
        {"array": samples, "sampling_rate": RATE},
        {"array": samples.tolist(), "sampling_rate": RATE},
    ]
    encoded = ClipEncoder(tiny_model)(forms, [str(number) for number in range(len(forms))])
    for result in encoded:
        assert result.ids.tolist() == ids_of(tiny_model, path)


def test_another_form_is_an_error_of_the_caller(tiny_model):
    with pytest.raises(TypeError, match="x is int; audio is a path"):
        ClipEncoder(tiny_model)([3], ["x"])


def test_clips_without_names_are_called_by_their_paths_or_numbers(tiny_model, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    path = str(tmp_path / "a.wav")
    clips = [tmp_path / "a.wav", AudioSegment(path, 1.0), {"bytes": b"no audio", "path": path}, b"no audio"]
    errors = [clip.error for clip in ClipEncoder(tiny_model)(clips)]
    assert all(path in error for error in errors[:3]) and "clip 3 is not audio" in errors[3]


def test_clips_that_cannot_be_read_become_errors_and_the_others_continue(tiny_model, tmp_path):
    good = write_corpus(tmp_path / "in", [500, 800])
    cut = file_bytes(5000)[:600]
    (tmp_path / "cut.flac").write_bytes(cut)
    clips = [
        good / "000.flac",
        b"nothing to hear",
        b"",
        tmp_path / "missing.wav",
        cut,
        {"array": np.empty(0), "sampling_rate": RATE},
        {"array": np.array([0.0, np.nan]), "sampling_rate": RATE},
        {"array": np.zeros((2, 100)), "sampling_rate": RATE},
        {"array": wave(9000), "sampling_rate": RATE},
        good / "001.flac",
    ]
    names = ["good", "noise", "nothing", "missing", "cut", "empty", "nan", "stereo", "long", "fine"]
    encoded = ClipEncoder(tiny_model, max_seconds=0.5)(clips, names)
    errors = {name: result.error for name, result in zip(names, encoded, strict=True)}
    assert errors["good"] is None and errors["fine"] is None
    assert encoded[-1].ids.tolist() == ids_of(tiny_model, good / "001.flac")
    assert "is not audio" in errors["noise"] and "noise" in errors["noise"]
    assert "is not audio" in errors["nothing"]
    assert "missing.wav: no such file" in errors["missing"]
    assert "truncated" in errors["cut"]
    assert "holds no audio" in errors["empty"]
    assert "nan at" in errors["nan"]
    assert "(2, 100)" in errors["stereo"]
    assert errors["long"] == "long is 0.6 s long, more than the 0.5 s allowed: cut it."
    for result in encoded[1:-1]:
        assert result.num_samples == 0 and len(result.ids) == 0
        assert "\n" not in result.error


def whole_files() -> dict[str, bytes]:
    made = {}
    for form, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)):
        file = io.BytesIO()
        soundfile.write(file, wave(4000), RATE, format=form, subtype=subtype)
        made[f"{form} {subtype}"] = file.getvalue()
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["WAV PCM_16", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS", "MP3 None"]),
    keep=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_no_damage_to_a_file_stops_the_others(tiny_model, form, keep, changes):
    """Files cut anywhere, with bytes changed anywhere, most of them near the beginning."""
    data = bytearray(whole_files()[form])
    del data[max(1, round(keep * len(data))) :]
    for place, value in changes:
        data[int(place**3 * len(data))] = value
    damaged, sound = ClipEncoder(tiny_model, max_seconds=5.0)([bytes(data), file_bytes(300)], ["damaged", "sound"])
    assert sound.error is None and len(sound.ids) == 25
    assert (damaged.error is None) == (len(damaged.ids) > 0)


def test_split_ids_join_to_the_ids(tiny_model):
    clip = {"array": wave(3000), "sampling_rate": RATE}
    (whole,) = ClipEncoder(tiny_model)([clip], ["a"])
    (split,) = ClipEncoder(tiny_model, split=3)([clip], ["a"])
    assert split.ids.shape == (len(whole.ids), 3)
    np.testing.assert_array_equal(join_ids(split.ids, tiny_model.config.levels, 3), whole.ids)


@pytest.mark.parametrize("option", [{"split": 4}, {"split": 0}, {"chunk_seconds": 0.0}, {"max_seconds": -1.0}])
def test_options_out_of_range_are_named(tiny_model, option):
    (name,) = option
    with pytest.raises(ValueError, match="groups" if name == "split" else name):
        ClipEncoder(tiny_model, **option)


def test_a_worker_takes_the_device_of_its_rank(tiny_model, monkeypatch):
    """With two devices, which this machine need not have: where the model would be put."""
    placed = []
    monkeypatch.setattr(torch, "get_device_module", lambda device: types.SimpleNamespace(device_count=lambda: 2))
    monkeypatch.setattr(tiny_model, "to", lambda device: placed.append(str(device)))
    encoder = ClipEncoder(tiny_model, device="cuda")
    for rank in (None, 0, 1, 2):
        encoder._place(rank)
    assert placed == ["cuda", "cuda:0", "cuda:1", "cuda:0"]
