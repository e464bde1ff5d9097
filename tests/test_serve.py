"""The page of `l3ac serve` without a browser: clips, ids, recordings, what is shown, and the command."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from networks import speech_like

from l3ac_tokenizer import encode_files
from l3ac_tokenizer.audio import AudioError, read_audio
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.container import ContainerError, Header, dump_l3ac, read_l3ac
from l3ac_tokenizer.conversion.trial import SENTENCE
from l3ac_tokenizer.hub import bundled_presets
from l3ac_tokenizer.id_metadata import ModelMismatchError
from l3ac_tokenizer.inference import encode_clips
from l3ac_tokenizer.resampling import Resampler
from l3ac_tokenizer.serving import recordings, view
from l3ac_tokenizer.serving.clips import Result, decode_file, decode_text, encode_file
from l3ac_tokenizer.serving.models import served_model, served_names
from l3ac_tokenizer.serving.recordings import Recording, Recordings

ROOT = Path(__file__).parents[1]
LIGHT = "l3ac-1k-light"


@pytest.fixture(scope="module")
def result() -> Result:
    return encode_file(str(SENTENCE), LIGHT)


def samples_of(seconds: float, rate: int) -> np.ndarray:
    """Speech-like samples (t,) int16."""
    return (speech_like(round(seconds * rate)).numpy() * 2**15).astype(np.int16)


def pushed_together(samples: np.ndarray, rate: int) -> np.ndarray:
    """A recording (t,) int16 at the model's rate, resampled as a whole."""
    resampler = Resampler(rate, 16_000)
    return np.concatenate([resampler.push(samples.astype(np.float32) / 2**15), resampler.flush()])


# --- clips ------------------------------------------------------------------------------------------------------


def test_a_clip_has_the_ids_of_encode_files(result):
    (clip,) = encode_files(served_model(LIGHT).codec, [SENTENCE])
    assert np.array_equal(result.ids, clip.ids)
    assert len(result.original) == len(result.decoded) == result.header.num_samples == clip.num_samples
    assert np.array_equal(result.original, read_audio(SENTENCE, 16_000)[0])


def test_channels_that_are_downmixed_are_told(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([speech_like(8_000), speech_like(8_000)], 1), 16_000)
    assert encode_file(str(path), LIGHT).remark == "The clip was downmixed from 2 channels to mono."


def test_a_long_clip_is_refused(tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(121 * 8_000, dtype=np.float32), 8_000)
    with pytest.raises(AudioError, match=r"^long\.flac is 121\.0 s long, more than the 120 s allowed: cut it\.$"):
        encode_file(str(path), LIGHT)


def test_a_file_that_is_not_audio_is_refused_by_its_name_alone(tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("not audio")
    with pytest.raises(AudioError, match=r"^text\.wav is not audio"):
        encode_file(str(path), LIGHT)


def test_models_are_those_that_are_bundled_or_downloaded():
    assert served_names()[: len(bundled_presets())] == bundled_presets()
    with pytest.raises(ValueError, match=r"'/etc' is not served here: choose l3ac-1k or"):
        served_model("/etc")


# --- ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["l3ac", "json"])
def test_a_file_of_ids_gives_the_clip_again(suffix, result, tmp_path):
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(view.id_files(result)[suffix])
    again = decode_file(str(path), "l3ac-1k")  # the model that the file names is taken
    assert again.header == result.header and np.array_equal(again.ids, result.ids)
    assert np.array_equal(again.decoded, result.decoded)
    assert again.original is None and again.encode_seconds is None


def test_pasted_ids_are_json_or_numbers(result):
    ids = result.ids[:60].tolist()
    texts = [" ".join(map(str, ids)), ",".join(map(str, ids)), json.dumps(ids), "\n".join(map(str, ids))]
    assert all(decode_text(text, LIGHT).ids.tolist() == ids for text in texts)
    whole = decode_text(view.id_files(result)["json"].decode(), LIGHT)
    assert np.array_equal(whole.decoded, result.decoded)
    assert len(decode_text(texts[0], LIGHT).decoded) == 60 * 270


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there are no ids: paste some"),
        ("one two", "the text does not hold the ids of a clip"),
        ("{}", r"the text does not hold the ids of a clip \(it lacks 'sampling_rate'\)"),
        ("1 -1", "id -1 at position 1 of the text is outside the codebook"),
        ("0 " * 7_200, r"the text holds ids of 121\.5 s, more than the 120 s allowed: cut them\."),
    ],
)
def test_other_texts_are_refused(text, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        decode_text(text, LIGHT)


def test_a_damaged_file_is_refused(result, tmp_path):
    data = bytearray(view.id_files(result)["l3ac"])
    data[-20] ^= 1
    (tmp_path / "clip.l3ac").write_bytes(data)
    with pytest.raises(ContainerError, match=r"^the file is damaged: block 1 of 1 fails its checksum"):
        decode_file(str(tmp_path / "clip.l3ac"), LIGHT)


@pytest.mark.parametrize("change", [{"weights_digest": "0" * 64}, {"levels": (7, 7)}, {"sampling_rate": 8_000}])
def test_ids_of_other_models_are_refused(change, result, tmp_path):
    header = dataclasses.replace(result.header, model_name="mine", **change)
    (tmp_path / "clip.l3ac").write_bytes(dump_l3ac(header, result.ids % 49))
    with pytest.raises(ModelMismatchError, match=r"^the file holds ids of mine with .*can be decoded here"):
        decode_file(str(tmp_path / "clip.l3ac"), LIGHT)


def test_a_long_file_is_refused_before_its_ids_are_read(result, tmp_path):
    header: Header = dataclasses.replace(result.header, num_samples=121 * 16_000)
    data = dump_l3ac(header, np.zeros(header.num_ids, dtype=np.int64))
    (tmp_path / "clip.l3ac").write_bytes(data[:200])  # the header alone
    with pytest.raises(ValueError, match=r"^the file holds ids of 121\.0 s"):
        decode_file(str(tmp_path / "clip.l3ac"), LIGHT)


# --- recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_size_of_pushes_does_not_change_a_recording(rate):
    samples = samples_of(1.2, rate)
    whole = pushed_together(samples, rate)
    (ids,) = encode_clips(served_model(LIGHT).codec, [whole])
    for size in (rate // 7, rate // 3, len(samples)):
        recording = Recording(LIGHT, rate)
        for start in range(0, len(samples), size):
            progress = recording.push(samples[start : start + size])
        assert progress.seconds == len(samples) / rate and len(progress.ids) <= len(ids)
        finished = recording.finish()
        assert np.array_equal(finished.ids, ids)
        np.testing.assert_allclose(finished.original, whole, atol=1e-6)
        assert len(finished.decoded) == len(whole)


def test_a_recording_ends_at_the_longest_length(monkeypatch):
    monkeypatch.setenv("L3AC_SERVED_SECONDS", "0.5")
    recording = Recording(LIGHT, 16_000)
    assert not recording.push(samples_of(0.3, 16_000)).full
    assert recording.push(samples_of(0.3, 16_000)).full
    assert recording.push(samples_of(0.3, 16_000)).seconds == 0.5
    result = recording.finish()
    assert result.header.num_samples == 8_000 and result.remark == "A recording ends after 0.5 s."


def test_recordings_are_apart_limited_and_forgotten(monkeypatch):
    monkeypatch.setattr(recordings, "MOST_RECORDINGS", 2)
    running = Recordings()
    first, second = samples_of(0.3, 16_000), samples_of(0.2, 16_000)
    running.push("a", LIGHT, 16_000, first)
    running.push("b", LIGHT, 16_000, second)
    with pytest.raises(ValueError, match="2 recordings run already"):
        running.push("c", LIGHT, 16_000, first)
    assert running.finish("a").header.num_samples == len(first)
    with pytest.raises(ValueError, match="not found or has been forgotten"):
        running.finish("a")
    monkeypatch.setattr(recordings, "IDLE_SECONDS", 0.0)
    running.push("c", LIGHT, 16_000, first)
    with pytest.raises(ValueError, match="not found or has been forgotten"):
        running.finish("b")


def test_an_empty_recording_is_refused():
    recording = Recording(LIGHT, 48_000)
    recording.push(np.empty(0, dtype=np.int16))
    with pytest.raises(ValueError, match=r"^the recording holds no audio"):
        recording.finish()


# --- view -------------------------------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_ids(result):
    text = re.sub("<[^>]*>", " ", view.result_facts(result))
    bits = len(result.ids) * 6 * np.log2(7)
    for fact in (LIGHT, "6.46 s", f"{len(result.ids)}", "59.3 per second", f"{bits:,.0f}", "real time"):
        assert fact in text


def test_names_and_sentences_are_text(result):
    named = dataclasses.replace(result, header=dataclasses.replace(result.header, model_name="<img src=x>"))
    assert "<img" not in view.result_facts(named)
    assert "<img" not in view.refusal("<img src=x>")


def test_pictures_and_files_are_made(result):
    original, decoded = view.spectrograms(result)
    assert original[:8] == decoded[:8] == b"\x89PNG\r\n\x1a\n" and original != decoded
    assert view.spectrograms(dataclasses.replace(result, original=None))[0] is None


def test_files_of_ids_are_those_of_the_commands(result, tmp_path):
    for suffix, data in view.id_files(result).items():
        (tmp_path / f"clip.{suffix}").write_bytes(data)
        assert main(["decode", str(tmp_path / f"clip.{suffix}"), "-o", str(tmp_path / f"{suffix}.wav")]) == 0
    assert (tmp_path / "l3ac.wav").read_bytes() == (tmp_path / "json.wav").read_bytes()
    assert read_l3ac(tmp_path / "clip.l3ac")[0] == result.header


# --- command ----------------------------------------------------------------------------------------------------


def test_without_the_extra_the_command_names_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve"]) == 1
    assert "pip install 'l3ac-tokenizer[serve]'" in capsys.readouterr().err


def test_the_command_serves_the_page_at_the_address_that_it_prints(monkeypatch, capsys):
    gradio = pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    import httpx

    seen = []

    def look(page):
        address = json.loads(capsys.readouterr().out)["address"]
        seen.append(httpx.get(address).text)
        for query, body, sentence in (
            ("model=/etc&rate=16000", b"\0\0", "'/etc' is not served here"),
            (f"model={LIGHT}&rate=1", b"\0\0", "the microphone"),
            (f"model={LIGHT}&rate=16000", b"\0", "buffer size"),
        ):
            assert sentence in httpx.post(f"{address}recording/a?{query}", content=body).json()["error"]
        assert main(["serve", "--port", str(page.server_port)]) == 1  # taken
        page.close(verbose=False)

    monkeypatch.setattr(gradio.Blocks, "block_thread", look)
    assert main(["serve", "--json"]) == 0
    assert "L3AC: speech as ids" in seen[0]
    err = capsys.readouterr().err
    assert re.search(r"^l3ac: port \d+ is in use, or cannot be opened: choose another port\.$", err, re.MULTILINE)


def test_the_space_serves_the_same_page(monkeypatch):
    pytest.importorskip("gradio", reason="the extra `serve` is not installed")
    served = []

    class Page:
        def block_thread(self):
            served.append("blocked")

    monkeypatch.setattr("l3ac_tokenizer.serving.page.serve", lambda: (served.append("served") or Page(), ""))
    runpy.run_path(str(ROOT / "hf_integration" / "space" / "app.py"), run_name="__main__")
    assert served == ["served", "blocked"]


def test_the_front_matter_of_the_space_fits():
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "hf_integration" / "space" / "README.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and front["license"] == "mit"
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk_version", "pinned", "python_version"} <= set(front)
    if importlib.util.find_spec("gradio"):
        import gradio

        assert front["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    requirements = (ROOT / "hf_integration" / "space" / "requirements.txt").read_text("utf-8")
    assert re.search(r"^l3ac-tokenizer\[(\w+,)*serve(,\w+)*\]", requirements, re.MULTILINE)
