"""The programs of `examples/` do what they say, as they stand in the guides."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from l3ac_tokenizer import CodecModel, StreamingDecoder
from l3ac_tokenizer.cli.info import describe_model

EXAMPLES = Path(__file__).parents[1] / "examples"
SENTENCE = EXAMPLES.parent / "l3ac_tokenizer" / "assets" / "demo.flac"
RATE = 16_000


def run(name: str, *arguments: object) -> None:
    """Call `main` of an example in this process."""
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*map(str, arguments))


def run_apart(name: str, *arguments: object) -> str:
    """Run an example in a process of its own, and return its output."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def light() -> CodecModel:
    return CodecModel.from_pretrained("l3ac-1k-light")


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A folder of five clips of 0.3 to 1.5 s."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    audio, _ = soundfile.read(SENTENCE)
    for number in range(5):
        soundfile.write(folder / f"{number}.flac", audio[4_000 : 8_801 + 4_799 * number], RATE)
    return folder


def ids_of(model: CodecModel, path: Path) -> list[int]:
    audio, _ = soundfile.read(path, dtype="float32")
    with torch.inference_mode():
        return model.encode(torch.from_numpy(audio)[None, None]).audio_codes.flatten().tolist()


def guide(name: str) -> str:
    return (EXAMPLES.parent / "docs" / "guides" / f"{name}.md").read_text("utf-8")


def listing(page: str, beginning: str) -> str:
    """The listing of a guide that begins so."""
    (found,) = [code for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if code.startswith(beginning)]
    return found


def shown_in_guides() -> str:
    return "".join(guide(page.stem) for page in (EXAMPLES.parent / "docs" / "guides").glob("*.md"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_public_and_shown(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 40 or path.stem == "public_api"
    assert not re.search(r"(from|import) l3ac_tokenizer\.", text)
    assert f"python examples/{path.name}" in text
    assert f"examples/{path.name}" in shown_in_guides()


# --- plain Python -----------------------------------------------------------------------------------------------


def test_files(recordings, tmp_path, light, capsys):
    run("files", recordings, tmp_path / "decoded")
    lines = capsys.readouterr().out.splitlines()
    for path, line in zip(sorted(recordings.iterdir()), lines, strict=True):
        ids = np.load(tmp_path / "decoded" / f"{path.stem}.npy")
        decoded = soundfile.info(tmp_path / "decoded" / f"{path.stem}.wav")
        assert ids.tolist() == ids_of(light, path)
        assert (decoded.frames, decoded.samplerate) == (soundfile.info(path).frames, RATE)
        assert line == f"{path.name}: {decoded.frames} samples, {len(ids)} ids"


def test_ids_list(recordings, light, capsys):
    path = recordings / "2.flac"
    run("ids_list", path)
    assert json.loads(capsys.readouterr().out) == ids_of(light, path)


def test_dataloader(recordings, light, capsys):
    paths = sorted(recordings.iterdir())
    run("dataloader", *paths)
    lines = capsys.readouterr().out.splitlines()
    for path, line in zip(paths, lines, strict=True):
        assert json.loads(line) == ids_of(light, path)


def test_map_dataset(recordings, tmp_path, light):
    datasets = pytest.importorskip("datasets")
    (recordings / "9.flac").write_bytes(b"no audio")
    out = run_apart("map_dataset", recordings, tmp_path / "with_ids")
    table = datasets.load_from_disk(str(tmp_path / "with_ids"))
    paths = sorted(recordings.glob("[0-4].flac"))
    assert table["ids"][:5] == [ids_of(light, path) for path in paths]
    assert table["error"][:5] == [None] * 5 and "9.flac is not audio" in table["error"][5]
    assert out == f"6 clips, {sum(map(len, table['ids']))} ids\n"


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_microphone(light, monkeypatch, capsys, kind):
    audio, _ = soundfile.read(SENTENCE, dtype=kind, stop=RATE)
    played = []

    class InputStream:
        """A microphone that hears the sentence, in one buffer that is written over and over."""

        def __init__(self, samplerate, blocksize, channels, dtype, callback):
            assert (samplerate, channels, dtype) == (RATE, 1, "int16")
            self.size, self.callback = blocksize, callback

        def __enter__(self):
            buffer = np.zeros((self.size, 1), kind)
            for first in range(0, len(audio), self.size):
                buffer[:, 0] = audio[first : first + self.size]
                self.callback(buffer, self.size, None, None)

        def __exit__(self, *exception):
            pass

    device = ModuleType("sounddevice")
    device.InputStream = InputStream
    device.sleep = lambda milliseconds: None
    device.play = lambda samples, rate, blocking: played.append(samples)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    run("microphone")
    ids = list(map(int, capsys.readouterr().out.split()))
    wave = torch.from_numpy(audio / 2**15 if kind == "int16" else audio).float()[None, None]
    with torch.inference_mode():
        encoded = light.encode(wave)
        assert ids == encoded.audio_codes.flatten().tolist()
        whole = light.decode(**encoded, time_norm="frozen").audio_values.flatten()
    (samples,) = played
    assert len(samples) == len(whole) and np.abs(samples - whole.numpy()).max() < 1e-4


def test_compare_mimi(tmp_path, monkeypatch, capsys):
    from transformers import EncodecFeatureExtractor, MimiConfig, MimiModel

    config = MimiConfig(
        num_filters=4,
        hidden_size=16,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        codebook_size=32,
        num_quantizers=4,
        upsample_groups=16,
    )
    MimiModel(config).save_pretrained(tmp_path / "mimi")
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(tmp_path / "mimi")
    monkeypatch.chdir(tmp_path)
    run("compare_mimi", SENTENCE, tmp_path / "mimi", "l3ac-1k-light")
    mimi, ours = capsys.readouterr().out.splitlines()
    assert mimi.endswith("4 x 12.50 ids/s of 32") and ours == "l3ac-1k-light: 1 x 59.26 ids/s of 117649"
    seconds = soundfile.info(SENTENCE).duration
    for name in ("MimiModel", "L3ACModel"):
        assert soundfile.info(tmp_path / f"{name}.wav").duration == pytest.approx(seconds, abs=1e-4)


def test_continuous(recordings, light, capsys):
    path = recordings / "1.flac"
    run("continuous", path)
    count = len(ids_of(light, path))
    assert capsys.readouterr().out == (
        f"features (1, {count}, {light.config.feature_dim}), hidden states (1, {count}, 64)\n"
    )


# --- listings of the guides -------------------------------------------------------------------------------------


def test_the_listing_of_the_tokenizing_guide(tmp_path, monkeypatch, light):
    shutil.copy(SENTENCE, tmp_path / "speech.flac")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(listing(guide("tokenizing"), "from l3ac_tokenizer import CodecModel"), scope)
    assert scope["ids"][0].tolist() == ids_of(light, SENTENCE)
    assert len(scope["decoded"][0]) == soundfile.info(SENTENCE).frames


def test_the_difference_of_streams_that_the_guide_states_is_the_measured_one(tmp_path, monkeypatch):
    (tmp_path / "speech").mkdir()
    shutil.copy(SENTENCE, tmp_path / "speech")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(listing(guide("streaming"), "from pathlib import Path"), scope)
    (level,) = scope["levels"]
    (stated,) = re.findall(r"−([\d.]+) dB relative to the audio of `decode` for `l3ac-1k`", guide("streaming"))
    assert level == pytest.approx(-float(stated), abs=0.1)
    assert f"is {-level:.0f} dB below the signal" in " ".join(str(StreamingDecoder.__doc__).split())
    assert describe_model("l3ac-1k")["stream_difference_db"] == pytest.approx(level, abs=0.1)
