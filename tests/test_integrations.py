"""Codecs of this package as Codec-SUPERB calls them, and the configuration of VERSA."""

from __future__ import annotations

import inspect
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
import yaml
from networks import TINY_TAAE, speech_like, tiny, with_varied_ids

from l3ac_tokenizer import CodecFeatureExtractor, CodecModel, TAAEConfig, TAAEModel
from l3ac_tokenizer.audio import AudioError
from l3ac_tokenizer.integrations import codec_superb
from l3ac_tokenizer.integrations.codec_superb import L3ACCodec

RATE = 16_000


def codec_of(model: CodecModel, folder: Any, level_lufs: float | None = None) -> L3ACCodec:
    """The codec of a checkpoint, made as in a file of Codec-SUPERB's `SoundCodec/codec/`."""
    model.save_pretrained(folder)
    CodecFeatureExtractor(sampling_rate=RATE, level_lufs=level_lufs).save_pretrained(folder)

    class Codec(L3ACCodec):
        source = str(folder)

    return Codec()


@pytest.fixture(params=["tiny", "tiny-light", "tiny-taae", "two codebooks"])
def codec(request, tmp_path) -> L3ACCodec:
    if request.param != "two codebooks":
        return codec_of(tiny(request.param), tmp_path / "codec")
    model = with_varied_ids(TAAEModel(TAAEConfig(**{**TINY_TAAE, "levels": [5, 5]})).eval())
    model.decompose(2)
    return codec_of(model, tmp_path / "codec")


@pytest.fixture
def one(tmp_path) -> L3ACCodec:
    return codec_of(tiny("tiny"), tmp_path / "codec")


def clip(samples: int, rate: int = RATE, seed: int = 0) -> dict[str, Any]:
    wave = soxr.resample(speech_like(samples, seed).numpy(), RATE, rate)[:samples]
    return {"id": f"clip-{seed}", "audio": {"array": np.pad(wave, (0, samples - len(wave))), "sampling_rate": rate}}


def test_methods_take_the_arguments_of_codec_superb():
    arguments = {
        "config": [],
        "is_1d": [],
        "extract_unit": ["data"],
        "decode_unit": ["stuff_for_synth"],
        "synth": ["data", "local_save"],
        "batch_extract_unit": ["data_list"],
        "batch_decode_unit": ["batch_extracted_unit"],
        "batch_synth": ["data_list", "local_save"],
    }
    for name, expected in arguments.items():
        assert list(inspect.signature(getattr(L3ACCodec, name)).parameters) == ["self", *expected]
    assert inspect.signature(L3ACCodec.synth).parameters["local_save"].default is True


def test_a_loaded_codec_has_the_attributes_of_codec_superb(codec):
    assert codec.supports_decode and codec.setting is None
    assert codec.sampling_rate == codec.model.config.sampling_rate
    assert codec.model.device.type == codec.device and not codec.model.training
    assert codec.is_1d() == (codec.model.config.num_quantizers == 1)


def test_units_are_the_ids_of_the_model_and_decode_as_there(codec):
    data = clip(1203)
    extracted = codec.extract_unit(data)
    wave = torch.from_numpy(data["audio"]["array"])[None, None]
    with torch.inference_mode():
        ids = codec.model.encode(wave).audio_codes
        audio = codec.model.decode(ids, num_samples=1203).audio_values[0, 0]
    assert torch.equal(extracted.unit, ids[0]) and extracted.unit.dtype == torch.int64
    assert len(extracted.unit.unique()) > 1
    decoded = codec.decode_unit(extracted.stuff_for_synth)
    assert decoded.shape == (1203,) and decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, audio.numpy(), atol=1e-5)


@pytest.mark.parametrize(  # resampled there and back, 5,000 samples at 48 kHz become 5,001, and 5,002 as well
    ("rate", "samples"), [(8_000, 5_001), (RATE, 5_001), (22_050, 5_001), (48_000, 5_000), (48_000, 5_002)]
)
def test_synth_is_the_decoded_unit_at_the_rate_and_of_the_length_of_the_clip(one, rate, samples):
    data = clip(samples, rate)
    extracted = one.extract_unit(data)
    expected = soxr.resample(one.decode_unit(extracted.stuff_for_synth), RATE, rate, "VHQ")
    result = one.synth(data, local_save=False)
    assert result is data and torch.equal(data["unit"], extracted.unit)
    assert data["audio"].keys() == {"array", "sampling_rate"} and data["audio"]["sampling_rate"] == rate
    audio = data["audio"]["array"]
    assert audio.shape == (samples,) and audio.dtype == np.float32
    common = min(len(expected), samples)
    assert common >= samples - 1 and np.array_equal(audio[:common], expected[:common]) and not audio[common:].any()


def test_a_batch_is_each_clip_alone(codec):
    clips = [clip(samples, seed=seed) for seed, samples in enumerate([700, 2_403, 40])]
    batch = codec.batch_extract_unit(clips)
    assert batch.batch_size == 3
    for data, unit, audio in zip(clips, batch.units, codec.batch_decode_unit(batch), strict=True):
        alone = codec.extract_unit(data)
        assert torch.equal(unit, alone.unit)
        np.testing.assert_allclose(audio, codec.decode_unit(alone.stuff_for_synth), atol=1e-5)
    lengths = [len(data["audio"]["array"]) for data in codec.batch_synth(clips, local_save=False)]
    assert lengths == [700, 2_403, 40]


def test_an_empty_batch_has_no_units(one):
    batch = one.batch_extract_unit([])
    assert (batch.units, batch.stuff_for_synth, batch.batch_size) == ([], [], 0)
    assert one.batch_decode_unit(batch) == [] and one.batch_synth([]) == []


def test_a_clip_in_chunks_has_the_same_ids(one, monkeypatch):
    whole = one.extract_unit(clip(9_000)).unit
    monkeypatch.setattr(codec_superb, "CHUNK_SECONDS", 0.1)
    assert torch.equal(one.extract_unit(clip(9_000)).unit, whole)


def test_every_form_of_a_clip_has_the_same_ids(one, tmp_path):
    array = np.round(clip(2_000)["audio"]["array"] * 2**15) / 2**15
    path = tmp_path / "clip.wav"
    soundfile.write(path, array, RATE)
    forms = [
        {"array": array, "sampling_rate": RATE},
        {"array": array.tolist(), "sampling_rate": RATE},  # as `datasets` gives it to a function of `map`
        {"array": torch.from_numpy(array), "sampling_rate": RATE},
        {"path": str(path)},
        {"path": None, "bytes": path.read_bytes()},
        str(path),
    ]
    first, *others = (one.extract_unit({"audio": form}).unit for form in forms)
    assert all(torch.equal(first, unit) for unit in others)
    assert len(one.synth({"audio": str(path)}, local_save=False)["audio"]["array"]) == 2_000


def test_saved_audio_is_the_decoded_audio_and_stays_in_its_folder(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one.setting = "l3ac_tiny"
    expected = one.synth(clip(2_000, 22_050), local_save=False)["audio"]["array"]
    saved = one.synth(clip(2_000, 22_050))["audio"]
    assert saved == {"path": "reconstructed_l3ac_tiny/clip-0.wav", "sampling_rate": 22_050}
    audio, rate = soundfile.read(saved["path"])
    assert rate == 22_050
    np.testing.assert_allclose(audio, expected.clip(-1, 1), atol=2**-15)
    one.synth({**clip(500), "id": "../../outside"})
    one.synth({"audio": clip(500)["audio"]})
    assert len(list((tmp_path / "reconstructed_l3ac_tiny").iterdir())) == 3


def test_clips_are_leveled_as_the_checkpoint_says(tmp_path):
    codec = codec_of(tiny("tiny"), tmp_path / "leveled", level_lufs=-20)
    loud, quiet = clip(RATE), clip(RATE)
    quiet["audio"]["array"] = quiet["audio"]["array"] / 8
    assert torch.equal(codec.extract_unit(loud).unit, codec.extract_unit(quiet).unit)
    loud, quiet = (codec.synth(data, local_save=False)["audio"]["array"] for data in (loud, quiet))
    np.testing.assert_allclose(quiet, loud / 8, atol=1e-6)


@pytest.mark.parametrize(
    ("audio", "problem"),
    [
        ({"array": np.zeros((2, 900), np.float32), "sampling_rate": RATE}, "one channel"),
        ({"array": np.zeros(0, np.float32), "sampling_rate": RATE}, "holds no audio"),
        ({"array": np.full(900, np.nan, np.float32), "sampling_rate": RATE}, "nan"),
        ({"array": np.full(900, 9_000, np.int16), "sampling_rate": RATE}, "full scale"),
        ({"path": "missing.wav"}, "missing.wav"),
        (None, "NoneType"),
    ],
)
def test_a_clip_without_mono_audio_is_refused_by_its_name_and_unchanged(one, tmp_path, monkeypatch, audio, problem):
    monkeypatch.chdir(tmp_path)
    data = {"id": "bird-7", "audio": audio}
    with pytest.raises(AudioError, match=problem) as caught:
        one.synth(data)
    assert "bird-7" in str(caught.value) or "missing.wav" in str(caught.value)
    assert data.keys() == {"id", "audio"} and data["audio"] is audio
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


def test_an_unknown_source_says_which_there_are():
    class Codec(L3ACCodec):
        source = "l3ac-1k-lihgt"

    with pytest.raises(ValueError, match="did you mean l3ac-1k-light"):
        Codec()


def test_versa_is_asked_for_metrics_by_name_once():
    entries = yaml.safe_load((files("l3ac_tokenizer.integrations") / "versa.yaml").read_text("utf-8"))
    names = [entry["name"] for entry in entries]
    assert {"stoi", "pesq"} <= set(names) and len(names) == len(set(names))
