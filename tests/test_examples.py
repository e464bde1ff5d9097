"""The programs of `examples/` run as they stand, and use nothing but the public API.

Those that run ONNX graphs are in test_onnx.py, where graphs are at hand.
"""

from __future__ import annotations

import ast
import http.server
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from hub_stub import LocalHub
from networks import speech_like, tiny_mimi
from test_processing import byte_tokenizer
from transformers import AutoModelForCausalLM, AutoProcessor, Qwen2Config, Qwen2ForCausalLM

from l3ac_tokenizer import CodecModel, PackedCorpus, StreamingDecoder
from l3ac_tokenizer.cli import main as l3ac
from l3ac_tokenizer.cli.info import describe_model
from l3ac_tokenizer.inference import decode_clips, encode_clips

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SENTENCE = ROOT / "l3ac_tokenizer" / "assets" / "demo.flac"
LONGER = {"public_api": 80, "onnx_streaming": 60, "duplex": 330}
"""Examples of more than 40 lines: every type of the API, a stream without us, and two programs with a protocol."""
RATE = 16_000
SAID = "One stream of whole numbers carries this sentence: about sixty of them a second, and nothing else."


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder, without network; returns what it prints."""

    def run(name: str, *arguments: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / f"{name}.py", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_public_and_shown(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGER.get(path.stem, 40)
    tree = ast.parse(text)
    assert f"python examples/{path.name}" in (ast.get_docstring(tree) or "")
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in modules if module.startswith("l3ac_tokenizer.")]
    assert f"examples/{path.name}" in shown_in_guides()


# --- command line and evaluation ------------------------------------------------------------------------------


def write_voice(folder: Path, *seeds: int) -> Path:
    folder.mkdir()
    for seed in seeds:
        soundfile.write(folder / f"{seed}.wav", speech_like(2 * RATE, seed).numpy(), RATE)
    return folder


def test_finetune(run, tmp_path):
    voice, held_out = write_voice(tmp_path / "voice", 0, 1), write_voice(tmp_path / "held-out", 2)
    out = run("finetune", voice, "--held-out", held_out, "--run", "mine", "--minutes", 0.05)
    assert "| l3ac-1k-light |" in out and "| best |" in out
    assert (tmp_path / "mine" / "best" / "model.safetensors").is_file()


def test_push(run, tmp_path, monkeypatch, capsys):
    hub = LocalHub(tmp_path / "home")
    with monkeypatch.context() as patched:
        hub.install(patched)
        runpy.run_path(str(ROOT / "examples" / "push.py"))["push"]("l3ac-1k-light", "me/my-codec")
    pushed = capsys.readouterr().out
    assert hub.private == {"me/my-codec"}
    card = (hub.files("me/my-codec") / "README.md").read_text("utf-8")
    assert "import l3ac_tokenizer" in card and 'AutoModel.from_pretrained("me/my-codec")' in card
    loaded = run("push", "--load", "me/my-codec", SENTENCE, **hub.environment)
    assert loaded.splitlines()[0] == pushed.splitlines()[0].replace("pushed", "loaded")


def test_wer(run, tmp_path):
    pytest.importorskip("faster_whisper", reason="the extra `eval-offline` is not installed")
    out = run("wer", SENTENCE, "--text", SAID)
    assert "WER" in out and re.search(r"^\s*l3ac-1k-light +1 +0\.\d+", out, re.MULTILINE)
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.slow
def test_ray_map(run, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    (write_voice(tmp_path / "voice", 0, 1) / "notes.wav").write_text("not audio")
    run("ray_map", "voice", "ids", RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=str(ROOT))
    rows = {Path(row["path"]).name: row for row in pq.read_table(tmp_path / "ids").to_pylist()}
    model = CodecModel.from_pretrained("l3ac-1k-light")
    for seed in (0, 1):
        audio, _ = soundfile.read(tmp_path / "voice" / f"{seed}.wav", dtype="float32")
        (ids,) = encode_clips(model, [audio])
        assert rows[f"{seed}.wav"]["ids"] == ids.tolist()
    assert "notes.wav" in rows["notes.wav"]["error"] and rows["notes.wav"]["ids"] == []


def run_here(name: str, *arguments: object) -> None:
    """Call `main` of an example in this process."""
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](*map(str, arguments))


def run_apart(name: str, *arguments: object) -> str:
    """Run an example in a process of its own, and return its output."""
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
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
    return (ROOT / "docs" / "guides" / f"{name}.md").read_text("utf-8")


def listing(page: str, beginning: str) -> str:
    """The listing of a guide that begins so."""
    (found,) = [code for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if code.startswith(beginning)]
    return found


def shown_in_guides() -> str:
    return "".join(guide(page.stem) for page in (ROOT / "docs" / "guides").glob("*.md"))


# --- plain Python -----------------------------------------------------------------------------------------------


def test_files(recordings, tmp_path, light, capsys):
    run_here("files", recordings, tmp_path / "decoded")
    lines = capsys.readouterr().out.splitlines()
    for path, line in zip(sorted(recordings.iterdir()), lines, strict=True):
        ids = np.load(tmp_path / "decoded" / f"{path.stem}.npy")
        decoded = soundfile.info(tmp_path / "decoded" / f"{path.stem}.wav")
        assert ids.tolist() == ids_of(light, path)
        assert (decoded.frames, decoded.samplerate) == (soundfile.info(path).frames, RATE)
        assert line == f"{path.name}: {decoded.frames} samples, {len(ids)} ids"


def test_ids_list(recordings, light, capsys):
    path = recordings / "2.flac"
    run_here("ids_list", path)
    assert json.loads(capsys.readouterr().out) == ids_of(light, path)


def test_dataloader(recordings, light, capsys):
    paths = sorted(recordings.iterdir())
    run_here("dataloader", *paths)
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
    run_here("microphone")
    ids = list(map(int, capsys.readouterr().out.split()))
    wave = torch.from_numpy(audio / 2**15 if kind == "int16" else audio).float()[None, None]
    with torch.inference_mode():
        encoded = light.encode(wave)
        assert ids == encoded.audio_codes.flatten().tolist()
        whole = light.decode(**encoded, time_norm="frozen").audio_values.flatten()
    (samples,) = played
    assert len(samples) == len(whole) and np.abs(samples - whole.numpy()).max() < 1e-4


def test_compare_mimi(tmp_path, monkeypatch, capsys):
    from transformers import EncodecFeatureExtractor

    tiny_mimi().save_pretrained(tmp_path / "mimi")
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(tmp_path / "mimi")
    monkeypatch.chdir(tmp_path)
    run_here("compare_mimi", SENTENCE, tmp_path / "mimi", "l3ac-1k-light")
    mimi, ours = capsys.readouterr().out.splitlines()
    assert mimi.endswith("4 x 12.50 ids/s of 32") and ours == "l3ac-1k-light: 1 x 59.26 ids/s of 117649"
    seconds = soundfile.info(SENTENCE).duration
    for name in ("MimiModel", "L3ACModel"):
        assert soundfile.info(tmp_path / f"{name}.wav").duration == pytest.approx(seconds, abs=1e-4)


def test_continuous(recordings, light, capsys):
    path = recordings / "1.flac"
    run_here("continuous", path)
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


# --- language models --------------------------------------------------------------------------------------------


@pytest.fixture
def run_script(monkeypatch):
    """Run an example as a script, in this process."""

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")

    return run


@pytest.fixture
def spoken(tmp_path) -> Path:
    """A folder of three clips of a second with their texts."""
    folder = tmp_path / "spoken"
    folder.mkdir()
    audio, _ = soundfile.read(SENTENCE)
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", audio[number * RATE :][:RATE], RATE)
        (folder / f"{number}.txt").write_text(f"Second {number}.")
    return folder


def test_speech_lm_and_generate(run_script, spoken, tmp_path, capsys):
    """The one trains and saves a model, the other speaks with it."""
    prompt, model = spoken / "0.wav", tmp_path / "model"
    run_script("speech_lm", spoken, prompt, model, tmp_path / "continued.wav", 2)
    steps = [float(line.split()[2]) for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(steps) == 2 and steps[1] < steps[0]
    seconds = soundfile.info(tmp_path / "continued.wav").duration
    assert 1 + 60 * 270 / RATE < seconds < 1.1 + 100 * 270 / RATE
    run_script("generate", model, prompt, tmp_path / "spoken.wav")
    told = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if line.endswith(" s")]
    assert told == sorted(told)
    assert soundfile.info(tmp_path / "spoken.wav").duration == pytest.approx(told[-1], abs=0.01)


def test_vllm_stream(run_script, spoken, tmp_path):
    """A server that streams as vLLM 0.32 does: the prompt in the first chunk, the end marker in the last."""
    asked, drawn = [], [int(number) for number in np.random.default_rng(0).integers(117_649, size=50)]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            for tokens in (*([2 + number] for number in drawn), [1]):
                choice = {"text": "", "token_ids": tokens, "prompt_token_ids": asked[0]["prompt"]}
                self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    target = tmp_path / "continued.wav"
    run_script("vllm_stream", f"http://127.0.0.1:{server.server_port}", "lm", spoken / "0.wav", target)
    server.server_close()
    codec = CodecModel.from_pretrained("l3ac-1k-light").eval()
    (ids,) = encode_clips(codec, [soundfile.read(spoken / "0.wav", dtype="float32")[0]])
    assert asked[0]["prompt"] == [0, *(2 + ids).tolist()] and asked[0]["return_token_ids"]
    (whole,) = decode_clips(codec, [np.concatenate([ids, drawn])], time_norm="frozen")
    written = soundfile.read(target, dtype="float32")[0]
    assert len(written) == len(whole) and np.abs(written - whole.clip(-1, 1)).max() < 2e-4  # 16 bits


def test_pack(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert l3ac(["tokenize", str(recordings), "-o", "OUT", "--format", "npy-index"]) == 0
    sequences = -(-PackedCorpus("OUT", 128, audio_start_id=0, audio_end_id=1, audio_offset=2).num_tokens // 128)
    run_here("pack", "OUT")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("nats a token")]
    assert len(lines) == (2 * sequences - 4 + 1) // 2 > 0  # of two epochs, the trainer took four
    assert all(11 < float(line.split()[-4]) < 12.5 for line in lines)


def test_the_section_on_training_of_the_guide_runs(recordings, tmp_path, monkeypatch):
    """Its commands, and its listings one after another."""
    page = guide("language-models")
    part = page[page.index("## A tokenized corpus in training") : page.index("## Layers for")]
    monkeypatch.chdir(tmp_path)
    assert part.count(" 512") == 4
    part = part.replace(" 512", " 64")
    commands = re.findall(r"^l3ac (.*?)(?: +#.*)?$", part, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert l3ac(shlex.split(command.replace("AUDIO_FOLDER", shlex.quote(str(recordings))))) == 0
    values: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE)), values)
    assert len(values["corpus"]) == 0 and values["corpus"].state_dict()["sequence"] > 0  # the loop has read all
    whole = PackedCorpus("CORPUS", values["corpus"].length, **values["tokens"])
    streamed = [row["input_ids"].tolist() for row in values["stream"].with_format("numpy")]
    assert streamed == [sequence["input_ids"].tolist() for sequence in whole]
    assert len(np.fromfile("tokens/audio.bin", "<i4")) == whole.num_tokens


@pytest.fixture
def text_lm(tmp_path) -> Path:
    """A folder with a tiny language model of text and its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    folder = tmp_path / "text_lm"
    Qwen2ForCausalLM(Qwen2Config(vocab_size=300, num_key_value_heads=2, **sizes)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_extend_lm(run_script, text_lm, spoken, tmp_path, capsys):
    run_script("extend_lm", text_lm, spoken, tmp_path / "extended", 3)
    assert "Second 0." in capsys.readouterr().out.splitlines()[-1]
    lm, processor = (auto.from_pretrained(tmp_path / "extended") for auto in (AutoModelForCausalLM, AutoProcessor))
    inputs = processor.encode([{"type": "text", "text": "Hello."}], return_tensors="pt", output_labels=True)
    assert lm(**inputs).loss.isfinite() and processor.audio_tokenizer.config.codebook_size == 117_649


def test_the_guide_to_language_models_runs(text_lm, spoken, tmp_path, monkeypatch):
    """Its listings from the processor to the streamer, one after another."""
    page = guide("language-models")
    part = page[page.index("## Text and audio in one sequence") : page.index("## A speech language model")]
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE))
    assert code.count("Qwen/Qwen2.5-0.5B") == 2 and code.count(" = 300") + code.count("=300") == 2
    monkeypatch.chdir(spoken)
    (spoken / "0.wav").rename("clip.wav")
    values: dict[str, Any] = {}
    exec(code.replace("Qwen/Qwen2.5-0.5B", str(text_lm)).replace("300", "20"), values)
    assert values["parts"][0]["text"] == "Hear: " and len(values["waveform"]) == 60 * 270
    assert len(values["waveforms"]) >= 1
