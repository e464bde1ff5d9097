"""A model card says what trained the weights, and nothing that was not so."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from l3ac_tokenizer import preset_config
from l3ac_tokenizer.training.card import model_card, source_table
from l3ac_tokenizer.training.config import LossWeights, Phase, TrainingConfig
from l3ac_tokenizer.training.data.corpus import DataError, TrainingClip

SCORES = {"speech/stoi": 0.5, "score": 0.5}


def card(scores=SCORES, **options) -> str:
    config = TrainingConfig(**options)
    return model_card(config, preset_config(config.preset, **config.model), scores, "Ten updates.", "| a table |")


def test_a_card_loads_its_own_folder_and_not_the_bundled_weights_of_the_same_network():
    text = card(model={"attention_window": 500})
    assert 'from_pretrained("FOLDER")' in text and 'from_pretrained("l3ac-1k")' not in text
    assert "the network `l3ac-1k` with attention_window = 500" in text


def test_a_card_names_the_weights_that_training_began_from():
    assert "Ten updates. It began from random weights." in card()
    assert "Ten updates. It began from `l3ac-3k`, as far as its tensors fit." in card(init_from="l3ac-3k")


def test_a_card_names_the_speech_encoder_and_its_window():
    encoder = "the frozen speech encoder `openai/whisper-tiny.en`"
    assert f"perceptual loss on {encoder} (a Whisper sees a window of 30 s) clamped at 5" in card()
    weights = LossWeights(perceptual_relative=2.0)
    text = card(perceptual_seconds=None, weights=weights)
    assert f"relative L1 over all layers of {encoder} (a Whisper sees the crop alone) x 2" in text
    assert "speech encoder" not in card(perceptual_encoder=None)


def test_training_audio_is_told_by_source_and_license_however_its_path_is_spelled(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = tmp_path / "real"
    audio.mkdir()
    (tmp_path / "link").symlink_to(audio)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,source,licence\nlink/a.wav,Somebody,CC0\n")
    corpus = SimpleNamespace(minutes=lambda clip: 1.5)
    clips = [TrainingClip("link/../real/a.wav", "speech"), TrainingClip("real/b.wav", "speech")]
    table = source_table(clips, corpus, "manifest.csv")
    assert "| Somebody | CC0 | 1 | 1.5 |" in table and "| speech | not stated | 1 | 1.5 |" in table
    assert not caplog.records
    source_table(clips[1:], corpus, manifest)
    assert "lists none of the training audio" in caplog.text
    manifest.write_text("path,source\nlink/a.wav,Somebody\n")
    with pytest.raises(DataError, match="has no column 'licence'"):
        source_table(clips, corpus, manifest)


def test_losses_without_weight_and_clamps_that_clamp_nothing_are_not_listed():
    text = card(weights=LossWeights(l1=0.0, stft=0.0, perceptual_max=math.inf, adversarial_max=math.inf))
    assert "L1" not in text and "STFT (" not in text and "inf" not in text
    assert text.count("without clamp") == 2


def test_losses_are_listed_phase_by_phase_where_they_differ():
    weights = LossWeights(l1=3.0, stft=0.0, perceptual_max=0.0, adversarial_max=0.0)
    phases = [Phase(1.0, 2, 0.25), Phase(2.0, 2, 0.5), Phase(2.0, 2, 1.0, weights)]
    text = card(phases=phases)
    assert "Losses up to 50% of the run: L1 x 100, multi-scale STFT" in text
    assert "; up to 100% of the run: L1 x 3. Discriminator" in text
    assert "Losses: L1 x 100" in card(phases=[*phases[:2], Phase(3.0, 2)])


def test_a_card_without_scores_has_no_table_of_them():
    text = card(scores={})
    assert "Nothing was held out" in text and "| measure |" not in text and "chose" not in text
    assert "| speech/stoi | 0.500 |\n\n## Training" in card()


def test_frozen_statistics_are_claimed_only_by_a_decoder_that_has_some():
    assert 'time_norm="frozen"' in card()
    assert "frozen" not in card(preset="l3ac-1k-light", perceptual_encoder=None)
    assert "frozen" not in card(stage="tokens", model={"analysis": "spectral"}, perceptual_encoder=None)
