"""Whole runs of a tiny TAAE by the loop that trains L3AC: pretraining, resume, export, and a causal fine-tuning."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from l3ac_tokenizer import CodecFeatureExtractor, StreamingEncoder, TAAEModel
from l3ac_tokenizer.training.config import (
    Augment,
    ConfigError,
    DiscriminatorOptions,
    LossWeights,
    Phase,
    TrainingConfig,
)
from l3ac_tokenizer.training.data.sampler import Request
from l3ac_tokenizer.training.evaluator import checkpoint_level
from l3ac_tokenizer.training.export import export_checkpoint
from l3ac_tokenizer.training.loop import Run
from l3ac_tokenizer.training.perceptual import relative_perceptual_loss, speech_features

TINY = {
    "hidden_size": 32,
    "num_attention_heads": 1,
    "depths": [1, 1],
    "attention_window": [3, 4],
    "levels": [5, 5],
}


def tiny(**options) -> TrainingConfig:
    """Six steps by the rules of the paper."""
    values = dict(
        preset="taae-tiny",
        model=TINY,
        max_steps=6,
        phases=[Phase(0.2, 2)],
        accumulation=1,
        lr=8e-4,
        schedule="constant",
        weight_decay=0.01,
        weights=LossWeights(l1=1.0, stft=0.0, stft_l1=1.0, perceptual_max=0.0, adversarial_max=float("inf")),
        reconstruction_decay=0.5,
        perceptual_encoder=None,
        discriminator=DiscriminatorOptions(kind="taae", every=1, lr=8e-4, fft_sizes=[78, 206], channels=4),
        ema_decay=0.99,
        workers=0,
        augment=Augment(),
        holdout=["*/voice3_*"],
        log_every=1,
        save_every_minutes=0.0,
        evaluate_every_minutes=100.0,
    )
    return TrainingConfig(**(values | options))


def records(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    Run(tiny(), [corpus_folder], folder).train()
    return folder


def test_pretraining_is_feature_matching_and_decaying_reconstruction(finished):
    lines = records(finished)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        reconstruction = 0.5 ** line["step"] * (line["l1"] + line["stft_l1"])
        assert line["loss"] == pytest.approx(line["feature_matching"] + reconstruction, rel=1e-3)
        assert line["lr"] == pytest.approx(8e-4)
        assert "discriminator" in line and "stft" not in line and "adversarial" not in line


def test_a_discriminator_with_batches_of_its_own_sees_others_than_the_codec(corpus_folder, tmp_path, monkeypatch):
    options = DiscriminatorOptions(kind="taae", every=2, own_batches=True, lr=8e-4, fft_sizes=[78, 206], channels=4)
    run = Run(tiny(discriminator=options, max_steps=4, accumulation=2), [corpus_folder], tmp_path)
    seen: list[tuple[str, torch.Tensor]] = []
    judge, update = run.discriminator.update, run._update_codec

    def judged(references, *others):
        seen.extend(("discriminator", x[:, None]) for x in references)
        return judge(references, *others)

    def updated(audio, *others):
        seen.extend(("codec", x) for x in audio)
        update(audio, *others)

    monkeypatch.setattr(run.discriminator, "update", judged)
    monkeypatch.setattr(run, "_update_codec", updated)
    run.train()
    two = {"d": ["discriminator"] * 2, "c": ["codec"] * 2}
    assert [who for who, _ in seen] == [who for part in "dccdcc" for who in two[part]]
    batches = [run.sampler[Request(0, 2 * number, 2, 3200)].samples for number in range(len(seen))]
    assert all(torch.equal(x, batch) for (_, x), batch in zip(seen, batches, strict=True))
    assert run.counters.items == 2 * len(seen)


def test_the_export_loads_and_its_card_names_what_trained_it(finished):
    model = TAAEModel.from_pretrained(finished / "export")
    codes = model.encode(torch.zeros(1, 1, 1281)).audio_codes
    assert codes.shape == (1, 1, 3)
    card = (finished / "export" / "README.md").read_text()
    assert "TAAE (arXiv 2411.19842)" in card and "relative feature matching" in card and "0.5^update" in card
    assert "frozen" not in card.split("Discriminator:")[1]


def test_the_checkpoint_levels_clips_as_its_training_or_its_start_did(finished, tmp_path):
    levels = []
    for lufs, start in ((None, None), (-23.0, None), (None, -20.0), (-23.0, -20.0)):
        shutil.copytree(finished / "export", tmp_path, dirs_exist_ok=True)
        CodecFeatureExtractor(level_lufs=start).save_pretrained(tmp_path)
        config = tiny(augment=Augment(lufs=lufs), init_from=None if start is None else str(tmp_path))
        levels.append(checkpoint_level(config))
    assert levels == [None, -23.0, -20.0, -23.0]
    export_checkpoint(TAAEModel.from_pretrained(finished / "export"), tmp_path / "new", "", level_lufs=-23.0)
    assert CodecFeatureExtractor.from_pretrained(tmp_path / "new").level_lufs == -23.0


def test_a_resumed_run_is_the_run_that_was_not_stopped(finished, corpus_folder, tmp_path):
    run = Run(tiny(), [corpus_folder], tmp_path)
    update = run._update

    def stop_after_three(group, figures):
        update(group, figures)
        if run.counters.step == 3:
            run._request_stop()

    run._update = stop_after_three
    run.train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3]
    Run(tiny(), [corpus_folder], tmp_path).train()
    assert [line["loss"] for line in records(tmp_path)] == [line["loss"] for line in records(finished)]


def test_fine_tuning_on_perceptual_features_makes_a_causal_codec_out_of_one_that_was_not(
    finished, corpus_folder, tmp_path, tiny_wavlm
):
    weights = LossWeights(l1=0.0, stft=0.0, perceptual_max=0.0, perceptual_relative=1.0, adversarial_max=float("inf"))
    config = tiny(
        model={**TINY, "causal": True, "attention_window": [7, 0]},
        init_from=str(finished / "export"),
        perceptual_encoder=str(tiny_wavlm),
        weights=weights,
        max_steps=2,
    )
    Run(config, [corpus_folder], tmp_path).train()
    for line in records(tmp_path):
        assert line["loss"] == pytest.approx(line["feature_matching"] + line["perceptual_relative"], rel=1e-3)
    model = TAAEModel.from_pretrained(tmp_path / "export")
    assert CodecFeatureExtractor.from_pretrained(tmp_path / "export").level_lufs is None
    assert model.config.causal and StreamingEncoder(model).latency == 0


@pytest.fixture
def tiny_wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(16, 20),
        conv_kernel=(16, 20),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("encoder", ["tiny_wavlm", "tiny_whisper"])
def test_the_relative_perceptual_loss_is_that_of_all_layers_and_does_not_know_their_scale(encoder, request):
    features = speech_features(str(request.getfixturevalue(encoder)))
    x, y = 0.1 * torch.randn(2, 2, 8000)
    terms = [
        float((a - b).abs().mean() / b.abs().mean())
        for a, b in zip(features.layers(y), features.layers(x), strict=True)
    ]
    assert len(terms) == (2 if encoder == "tiny_wavlm" else 1)
    assert float(relative_perceptual_loss(features, y, x)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert float(relative_perceptual_loss(features, x, x)) == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tiny(schedule="cosine"), "schedule is 'cosine'"),
        (lambda: tiny(reconstruction_decay=1.5), "reconstruction_decay is 1.5"),
        (lambda: DiscriminatorOptions(kind="hinge"), "discriminator.kind is 'hinge'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
