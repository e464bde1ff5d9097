"""The programs of `examples/` do what they say, as they stand in the guides."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

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
    assert 1 + 60 * 270 / RATE < seconds < 1.1 + 120 * 270 / RATE
    run_script("generate", model, prompt, tmp_path / "spoken.wav")
    told = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if line.endswith(" s")]
    assert told == sorted(told)
    assert soundfile.info(tmp_path / "spoken.wav").duration == pytest.approx(told[-1], abs=0.01)


def test_extend_lm(run_script, spoken, tmp_path, capsys):
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text_lm = Qwen2ForCausalLM(Qwen2Config(vocab_size=300, num_key_value_heads=2, **sizes))
    text_lm.save_pretrained(tmp_path / "text_lm")
    tokenizer.save_pretrained(tmp_path / "text_lm")
    run_script("extend_lm", tmp_path / "text_lm", spoken, tmp_path / "extended", 3)
    assert "Second 0." in capsys.readouterr().out.splitlines()[-1]
    lm, processor = (auto.from_pretrained(tmp_path / "extended") for auto in (AutoModelForCausalLM, AutoProcessor))
    inputs = processor.encode([{"type": "text", "text": "Hello."}], return_tensors="pt", output_labels=True)
    assert lm(**inputs).loss.isfinite() and processor.audio_tokenizer.config.codebook_size == 117_649
