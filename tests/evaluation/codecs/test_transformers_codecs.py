"""Codecs of transformers as codecs under test: tiny models, saved by `save_pretrained` and loaded as any other."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
import transformers
from networks import speech_like

from l3ac_tokenizer.evaluation.codecs.base import SCORING_RATE, CodecUnavailable, reconstruct
from l3ac_tokenizer.evaluation.codecs.registry import open_codec

SECONDS = 1.0
CLIP = speech_like(round(SECONDS * SCORING_RATE)).numpy()

W2V_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "feature_projection_input_dim": 160,
}
VOCODER = {
    "hidden_size": 32,  # at least: its normalisations have 32 groups
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "encoder_hidden_size": 2,
    "quantization_dim": 48,  # of both encoders together
    "quantization_levels": [4, 4],
    "semantic_model_config": {"model_type": "wav2vec2-bert", **W2V_BERT},
}


def save_encodec(folder):
    config = transformers.EncodecConfig(
        num_filters=2,
        hidden_size=8,
        codebook_size=16,
        codebook_dim=8,
        num_lstm_layers=1,
        upsampling_ratios=[8, 5, 4, 2],
    )
    transformers.EncodecModel(config).save_pretrained(folder)
    transformers.EncodecFeatureExtractor(sampling_rate=config.sampling_rate).save_pretrained(folder)


def save_dac(folder):
    config = transformers.DacConfig(
        encoder_hidden_size=2,
        decoder_hidden_size=16,
        downsampling_ratios=[2, 4, 5, 8],
        n_codebooks=3,
        codebook_size=16,
        codebook_dim=4,
    )
    transformers.DacModel(config).save_pretrained(folder)
    transformers.DacFeatureExtractor(sampling_rate=16_000, hop_length=320).save_pretrained(folder)


def save_mimi(folder):
    config = transformers.MimiConfig(
        num_filters=2,
        hidden_size=16,
        codebook_size=16,
        codebook_dim=16,
        vector_quantization_hidden_dimension=16,
        num_quantizers=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=16,
        upsample_groups=16,
    )
    transformers.MimiModel(config).save_pretrained(folder)
    transformers.EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(folder)


def save_xcodec2(folder):
    transformers.Xcodec2Model(transformers.Xcodec2Config(**VOCODER)).save_pretrained(folder)
    transformers.Xcodec2FeatureExtractor().save_pretrained(folder)


def save_neucodec(folder):
    transformers.NeuCodecModel(transformers.NeuCodecConfig(**VOCODER)).save_pretrained(folder)
    transformers.NeuCodecFeatureExtractor().save_pretrained(folder)


def save_xcodec(folder):
    semantic = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    acoustic = transformers.DacConfig(
        encoder_hidden_size=2,
        decoder_hidden_size=32,
        downsampling_ratios=[8, 5, 4, 2],
        upsampling_ratios=[8, 5, 4, 2],
        hidden_size=16,
        codebook_dim=4,
    )
    config = transformers.XcodecConfig(
        acoustic_model_config=acoustic,
        semantic_model_config=semantic,
        codebook_size=16,
        codebook_dim=32,
        target_bandwidths=[0.2, 0.4],
    )
    transformers.XcodecModel(config).save_pretrained(folder)
    transformers.DacFeatureExtractor(sampling_rate=16_000, hop_length=320).save_pretrained(folder)


def save_wavtokenizer(folder):
    config = transformers.WavTokenizerConfig(
        num_filters=2,
        hidden_size=8,
        num_lstm_layers=1,
        codebook_size=16,
        codebook_dim=8,
        decoder_hidden_size=32,
        decoder_intermediate_size=32,
        decoder_num_layers=1,
    )
    transformers.WavTokenizerModel(config).save_pretrained(folder)
    transformers.WavTokenizerFeatureExtractor().save_pretrained(folder)


FAMILIES = {
    # saved by, frames/s, codebook size, streams by default, (setting, its streams), rates in and out
    "encodec": (save_encodec, 75.0, 16, None, ("3", 10), 24_000, 24_000),
    "dac": (save_dac, 50.0, 16, 3, ("2", 2), 16_000, 16_000),
    "mimi": (save_mimi, 12.5, 16, 4, ("2", 2), 24_000, 24_000),
    "xcodec": (save_xcodec, 50.0, 16, None, ("0.4", 2), 16_000, 16_000),
    "xcodec2": (save_xcodec2, 50.0, 16, 1, None, 16_000, 16_000),
    "neucodec": (save_neucodec, 50.0, 16, 1, None, 16_000, 24_000),
    "wavtokenizer": (save_wavtokenizer, 40.0, 16, 1, None, 24_000, 24_000),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codecs") / request.param
    save, *facts = FAMILIES[request.param]
    if request.param == "wavtokenizer" and not hasattr(transformers, "WavTokenizerModel"):
        pytest.skip("transformers has WavTokenizer from 5.24 on")
    save(folder)
    return folder, facts


def test_a_codec_of_transformers_gives_ids_and_audio(family):
    folder, (frames, size, streams, _, rate_in, rate_out) = family
    codec = open_codec(str(folder))
    assert (codec.name, codec.sampling_rate, codec.output_rate) == (folder.name, rate_in, rate_out)
    assert codec.rates.frames_per_second == pytest.approx(frames, abs=0.51)
    assert set(codec.rates.codebooks) == {size} and codec.parameters > 0
    if streams is not None:
        assert len(codec.rates.codebooks) == streams
    code = codec.encode(soxr.resample(CLIP, SCORING_RATE, rate_in))
    assert code.ids.shape[0] == len(codec.rates.codebooks)
    assert abs(code.ids.shape[1] - frames * SECONDS) <= 1
    assert code.ids.min() >= 0 and code.ids.max() < size
    decoded = reconstruct(codec, code, CLIP.size)
    assert decoded.shape == CLIP.shape and np.isfinite(decoded).all()


def test_a_setting_changes_the_rate(family):
    folder, (_, _, _, setting, _, _) = family
    if setting is None:
        with pytest.raises(CodecUnavailable, match="takes no setting"):
            open_codec(f"{folder}@2")
        return
    codec = open_codec(f"{folder}@{setting[0]}")
    assert codec.title == f"{folder.name}@{setting[0]}" and len(codec.rates.codebooks) == setting[1]
    with pytest.raises(CodecUnavailable, match="does not fit"):
        open_codec(f"{folder}@few")


def test_weights_that_lack_a_tensor_are_not_used(tmp_path):
    from safetensors.torch import load_file, save_file

    save_dac(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(next(name for name in tensors if "decoder" in name))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CodecUnavailable, match="lacks"):
        open_codec(str(tmp_path))
