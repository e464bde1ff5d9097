"""The programs of `examples/` do what they say, as they stand in the guides."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from test_processing import byte_tokenizer
from transformers import AutoModelForCausalLM, AutoProcessor, Qwen2Config, Qwen2ForCausalLM

EXAMPLES = Path(__file__).parents[1] / "examples"
SENTENCE = EXAMPLES.parent / "l3ac_tokenizer" / "assets" / "demo.flac"
RATE = 16_000


# ------------------------------------------------------------------------------------------- language models


@pytest.fixture
def run_script(monkeypatch):
    """Run an example as a script, in this process."""

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

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
    guide = (EXAMPLES.parent / "docs" / "guides" / "language-models.md").read_text("utf-8")
    part = guide[guide.index("## Text and audio in one sequence") : guide.index("## A speech language model")]
    listing = "\n".join(re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE))
    assert listing.count("Qwen/Qwen2.5-0.5B") == 2 and listing.count(" = 300") + listing.count("=300") == 2
    monkeypatch.chdir(spoken)
    (spoken / "0.wav").rename("clip.wav")
    values: dict[str, Any] = {}
    exec(listing.replace("Qwen/Qwen2.5-0.5B", str(text_lm)).replace("300", "20"), values)
    assert values["parts"][0]["text"] == "Hear: " and len(values["waveform"]) == 60 * 270
    assert len(values["waveforms"]) >= 1
