"""The perceptual loss on the real Whisper encoder equals the golden numbers; other encoders, and none at hand."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperForConditionalGeneration,
)

from l3ac_tokenizer.training import objective
from l3ac_tokenizer.training.config import ConfigError, LossWeights, Phase, TrainingConfig
from l3ac_tokenizer.training.objective import Objective
from l3ac_tokenizer.training.perceptual import SpeechEncoderError, perceptual_loss, speech_features


@pytest.fixture(scope="module")
def source(shared) -> str:
    return str(shared / "models" / "whisper-tiny.en-encoder")


def test_published_window_is_golden(golden_losses, source):
    g = golden_losses
    features = speech_features(source, window_seconds=30.0)
    torch.testing.assert_close(features.log_mel(g["x"])[:, :, :50], g["mel.x"], atol=1e-5, rtol=0)
    torch.testing.assert_close(features(g["x"])[:, ::100], g["perc.feat_x"], atol=1e-3, rtol=0)
    y = g["y"].clone().requires_grad_()
    loss = perceptual_loss(features, y, g["x"])
    loss.backward()
    torch.testing.assert_close(loss, g["perc.value"], rtol=1e-5, atol=0)
    assert (y.grad - g["perc.grad"]).norm() <= 1e-4 * g["perc.grad"].norm()
    assert all(parameter.grad is None for parameter in features.parameters())


def test_without_a_window_a_position_stands_for_twenty_milliseconds(golden_losses, source):
    assert speech_features(source)(golden_losses["x"][:, :8640]).shape == (3, 27, 384)


def test_encoder_of_a_whole_whisper_keeps_its_weights(tiny_whisper):
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).eval()
    features = speech_features(str(tiny_whisper), window_seconds=30.0)
    audio = torch.randn(2, 8000)
    with torch.no_grad():
        expected = model.get_encoder()(features.log_mel(audio)).last_hidden_state
        torch.testing.assert_close(features(audio), expected)


def test_any_encoder_of_waveforms_will_do(tmp_path):
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=[8, 8],
        conv_stride=[5, 4],
        conv_kernel=[10, 4],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    model = Wav2Vec2Model(config).eval()
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    features = speech_features(str(tmp_path))
    audio = 0.1 * torch.randn(2, 8000) + 0.3
    inputs = extractor(list(audio.numpy()), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        torch.testing.assert_close(features(audio), model(inputs).last_hidden_state, atol=1e-4, rtol=1e-4)
    y = audio.clone().requires_grad_()
    perceptual_loss(features, y, torch.randn(2, 8000)).backward()
    assert y.grad.norm() > 0 and all(parameter.grad is None for parameter in features.parameters())


def test_an_encoder_with_missing_tensors_is_refused(tiny_whisper):
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    state = {name: tensor for name, tensor in model.state_dict().items() if "encoder.conv1" not in name}
    model.save_pretrained(tiny_whisper, state_dict=state)
    with pytest.raises(SpeechEncoderError, match=r"its file lacks encoder\.conv1\.bias and 1 other tensors"):
        speech_features(str(tiny_whisper))


def test_no_encoder_at_hand_is_one_sentence_with_the_remedy(tmp_path):
    for source in ("openai/whisper-of-nobody", str(tmp_path)):
        with pytest.raises(SpeechEncoderError) as caught:
            speech_features(source)
        message = str(caught.value)
        assert source in message and "--perceptual-encoder null" in message and "\n" not in message


def test_a_codec_at_another_rate_than_the_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"the codec's is at 24000 Hz: .*--perceptual-encoder null"):
        Objective(TrainingConfig(model={"sampling_rate": 24_000}))
    assert Objective(TrainingConfig(model={"sampling_rate": 24_000}, perceptual_encoder=None)).features is None


def test_the_encoder_is_loaded_where_a_phase_has_a_weight_for_it(monkeypatch):
    monkeypatch.setattr(objective, "speech_features", lambda *arguments: torch.nn.Identity())
    without, last = LossWeights(perceptual_max=0.0), LossWeights(perceptual_max=0.0, perceptual_relative=1.0)
    assert Objective(TrainingConfig(weights=without)).features is None
    phases = [Phase(1.0, 1, 0.5, weights=without), Phase(1.0, 1)]
    assert Objective(TrainingConfig(weights=without, phases=phases)).features is None
    assert Objective(TrainingConfig(phases=phases)).features is not None
    phases[1].weights = last
    assert Objective(TrainingConfig(weights=without, phases=phases)).features is not None
