"""Stages of training on tiny networks: trained parameters, outputs, resuming, and the weights handed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_run import TINY, records, tiny
from torch import Tensor

from l3ac_tokenizer import L3ACModel
from l3ac_tokenizer.modeling.l3ac.spectral import MEL_BANDS
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.training.config import (
    Augment,
    ConfigError,
    DiscriminatorOptions,
    LossWeights,
    Phase,
    TrainingConfig,
)
from l3ac_tokenizer.training.data.sampler import Request
from l3ac_tokenizer.training.discriminator_trainer import DISCRIMINATOR_FILE
from l3ac_tokenizer.training.loop import Run, TrainingError
from l3ac_tokenizer.training.network import HEAD_FILE, build_codec
from l3ac_tokenizer.training.objective import Objective
from l3ac_tokenizer.training.stages import MEL_STAGES, STAGES
from l3ac_tokenizer.training.tracking import Figures

SPECTRAL = {"analysis": "spectral", "analysis_depth": 1}
LIGHT = TINY | SPECTRAL | {"synthesis": "spectral", "synthesis_dim": 8, "synthesis_depth": 1, "attention": "sliding"}
LEVELS = L3ACModel.config_class().levels

NONE = LossWeights(l1=0.0, stft=0.0, perceptual_max=0.0, adversarial_max=0.0)
MEL = LossWeights(l1=0.0, stft=0.0, mel=1.0, perceptual_max=0.0, adversarial_max=0.0)
AUDIO = LossWeights(l1=0.0, stft=0.0, spectral=5.0, perceptual_max=0.0, adversarial_max=float("inf"))
SMALL = DiscriminatorOptions(kind="small", every=1, lr=1e-3, fft_sizes=[64, 32], channels=2, samples=1000)
OPTIONS = {
    "tokens": {"model": LIGHT, "weights": MEL},
    "distill": {"model": TINY, "weights": LossWeights(0.0, 0.0, distillation=1.0, perceptual_max=0.0)},
    "encode": {"model": TINY, "weights": MEL},
    "decode": {"model": LIGHT, "weights": AUDIO, "discriminator": SMALL},
    "joint": {"model": LIGHT, "weights": AUDIO, "discriminator": SMALL},
}


def staged(stage: str, given: Path | None = None, **options) -> TrainingConfig:
    """Four steps of a stage, from a checkpoint."""
    values = dict(
        stage=stage,
        init_from=None if given is None else str(given),
        teacher=str(given) if given is not None and stage == "distill" else None,
        max_steps=4,
        phases=[Phase(0.2, 2)],
        accumulation=1,
        muon=2.0,
        lr=1e-3,
        weight_norm=False,
        discriminator=None,
        holdout=[],
        tracker=None,
        domains={},
        augment=Augment(),
    )
    return tiny(**(values | OPTIONS[stage] | options))


@pytest.fixture(scope="module")
def tokens(corpus_folder, tmp_path_factory) -> Path:
    """Checkpoint of a finished stage `tokens`."""
    folder = tmp_path_factory.mktemp("tokens")
    Run(staged("tokens"), [corpus_folder], folder).train()
    return folder / "export"


def updated(run: Run, updates: int = 2) -> dict[str, Tensor]:
    """State of the codec before some updates of a run, which remain in it."""
    before = {name: tensor.clone() for name, tensor in run.codec.state_dict().items()}
    groups = run.loader.groups(run.counters, run._progress_at)
    for _ in range(updates):
        run._update(next(groups), Figures(LEVELS))
    return before


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_its_parameters_and_no_others(tokens, corpus_folder, tmp_path, stage):
    run = Run(staged(stage, tokens), [corpus_folder], tmp_path)
    before = updated(run)
    moved = {name for name, tensor in run.codec.state_dict().items() if not torch.equal(tensor, before[name])}
    moved = {name.replace("project_in.linear.", "project_in.") for name in moved if "running_" not in name}
    expected = {
        f"model.{name}"
        for name, _ in build_codec(staged(stage, tokens, whiten_latents=False)).model.named_parameters()
        if name.startswith(STAGES[stage])
    }
    if stage in ("tokens", "encode"):
        expected |= {f"head.{name}" for name, _ in run.codec.head.named_parameters()}
    assert moved - {"model.quantizer.project_in.num_batches"} == expected


@pytest.mark.parametrize("stage", ["tokens", "encode"])
def test_log_mels_are_predicted_without_a_waveform(tokens, stage):
    codec = build_codec(staged(stage, tokens))
    for module in codec.model.decoder.children():
        if module is not codec.model.decoder.transformer:
            module.register_forward_pre_hook(lambda *_: pytest.fail("the decoder made a waveform"))
    prediction = codec(0.1 * torch.randn(2, 1, 20 * 270))
    assert prediction.audio is None and prediction.log_mels.shape == (2, 60, MEL_BANDS)
    assert prediction.ids.shape == (2, 20)


def test_distill_approaches_its_teacher(tokens, corpus_folder, tmp_path):
    config = staged("distill", tokens, max_steps=40, lr=1e-2, holdout=["*/voice3_*"])
    Run(config, [corpus_folder], tmp_path).train()
    *lines, scores = records(tmp_path)
    first, last = (sum(line["distillation"] for line in part) for part in (lines[:5], lines[-5:]))
    assert last < 0.7 * first
    (digits,) = (value for name, value in scores.items() if name.endswith("/same_digits"))
    assert 0 < digits <= 1 and scores["held_out/score"] == digits
    assert "distance to the features and latents" in (tmp_path / "best" / "README.md").read_text()


def test_the_teacher_is_its_own_perfect_student(tokens):
    config = staged("distill", tokens)
    objective, teacher = Objective(config), L3ACModel.from_pretrained(tokens)
    x = 0.1 * torch.randn(2, 10 * 270)
    codec = build_codec(staged("tokens", tokens, whiten_latents=False)).eval()
    span = WholeSpan()
    features = codec.model.encoder.front_end(x[..., None], span)
    latents = teacher.quantizer.project_in(codec.model.encoder.transformer(features, span))
    assert objective.teacher(features, latents, x) < 1e-6
    shifted = objective.teacher(features + features.std(), latents, x)
    assert shifted.item() == pytest.approx(1.0, rel=0.01)


def test_decode_keeps_every_id_with_a_decoder_of_either_kind(tokens, corpus_folder, tmp_path):
    given = L3ACModel.from_pretrained(tokens)
    config = staged("decode", tokens, model=LIGHT | {"synthesis": "waveform"})
    Run(config, [corpus_folder], tmp_path).train()
    trained = L3ACModel.from_pretrained(tmp_path / "export")
    audio = 0.1 * torch.randn(2, 1, 4000)
    assert torch.equal(trained.encode(audio).audio_codes, given.encode(audio).audio_codes)
    assert trained.id_digests() == (trained.weights_digest(), given.weights_digest())


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_stage_is_the_one_that_was_not_stopped(tokens, corpus_folder, tmp_path, stage):
    config = staged(stage, tokens, max_steps=3)
    whole = Run(config, [corpus_folder], tmp_path / "whole")
    whole.train()
    stopped = Run(config, [corpus_folder], tmp_path / "stopped")
    update = stopped._update

    def stop_after_the_first(*arguments):
        update(*arguments)
        stopped._request_stop()

    stopped._update = stop_after_the_first
    assert stopped.train() is False
    resumed = Run(config, [corpus_folder], tmp_path / "stopped")
    assert resumed.counters.step == 1
    resumed.train()
    for name, tensor in whole.codec.state_dict().items():
        assert torch.equal(resumed.codec.state_dict()[name], tensor), name
    exports = [load_file(tmp_path / run / "export" / "model.safetensors") for run in ("whole", "stopped")]
    assert all(torch.equal(tensor, exports[1][name]) for name, tensor in exports[0].items())


def test_the_head_goes_from_stage_to_stage(tokens, corpus_folder, tmp_path):
    given = load_file(tokens / HEAD_FILE)
    assert {name: list(tensor.shape) for name, tensor in given.items()}["project.weight"] == [MEL_BANDS, 16]
    Run(staged("distill", tokens), [corpus_folder], tmp_path).train()
    handed_on = load_file(tmp_path / "export" / HEAD_FILE)
    codec = build_codec(staged("encode", tmp_path / "export"))
    for name, tensor in given.items():
        assert torch.equal(handed_on[name], tensor)
        assert torch.equal(codec.head.state_dict()[name], tensor)
    assert build_codec(staged("decode", tokens)).head is None
    L3ACModel.from_pretrained(tmp_path / "export")  # the head beside it does not disturb


def test_a_trained_discriminator_goes_on_in_the_next_run(tokens, corpus_folder, tmp_path):
    first = Run(staged("decode", tokens), [corpus_folder], tmp_path / "first")
    first.train()
    export = tmp_path / "first" / "export"
    trained = first.discriminator.network.state_dict()
    for stage in ("decode", "joint"):
        begun = Run(staged(stage, export), [corpus_folder], tmp_path / stage).discriminator.network.state_dict()
        assert all(torch.equal(begun[name], tensor) for name, tensor in trained.items())
    wider = replace(staged("decode", export), discriminator=replace(SMALL, channels=4))
    other = Run(wider, [corpus_folder], tmp_path / "wider").discriminator.network.state_dict()
    assert {name: tensor.shape for name, tensor in other.items()} != {name: t.shape for name, t in trained.items()}
    assert (export / DISCRIMINATOR_FILE).is_file()
    L3ACModel.from_pretrained(export)  # the discriminator beside it does not disturb


def test_a_discriminator_that_was_never_trained_is_not_exported(tokens, corpus_folder, tmp_path):
    late = replace(staged("decode", tokens), discriminator=replace(SMALL, start=1.0))
    Run(late, [corpus_folder], tmp_path).train()
    assert not (tmp_path / "export" / DISCRIMINATOR_FILE).exists()


def test_tokens_from_nothing_have_standardized_log_mels(corpus_folder, tmp_path):
    run = Run(staged("tokens"), [corpus_folder], tmp_path)
    analysis = run.codec.model.encoder.analysis
    request = Request(0, 0, 64, 32_000)
    mels = analysis.log_mels(run._whole_frames(run.sampler[request].samples).transpose(1, 2), WholeSpan())
    standardized = ((mels - analysis.mean) / analysis.std).flatten(0, 1)
    torch.testing.assert_close(standardized.mean(0), torch.zeros(MEL_BANDS), atol=0.02, rtol=0)
    moves = analysis.std > 1e-3  # of a band that is silent everywhere only the mean is known
    torch.testing.assert_close(standardized.std(0)[moves], torch.ones(MEL_BANDS)[moves], atol=0.05, rtol=0)


def test_log_mels_keep_the_statistics_of_the_weights_that_a_run_begins_from(tokens, corpus_folder, tmp_path):
    given = L3ACModel.from_pretrained(tokens).encoder.analysis
    for stage in ("tokens", "decode", "joint"):
        analysis = Run(staged(stage, tokens), [corpus_folder], tmp_path / stage).codec.model.encoder.analysis
        assert torch.equal(analysis.mean, given.mean) and torch.equal(analysis.std, given.std)


def test_tokens_from_a_published_network_have_standardized_log_mels_too(tokens, corpus_folder, tmp_path):
    Run(staged("encode", tokens, max_steps=1), [corpus_folder], tmp_path / "published").train()
    run = Run(staged("tokens", tmp_path / "published" / "export"), [corpus_folder], tmp_path / "tokens")
    assert run.codec.model.encoder.analysis.mean.mean() < -1


def test_whisper_hears_the_predicted_log_mels(tokens, tiny_whisper):
    weights = LossWeights(l1=0.0, stft=0.0, mel=2.0, perceptual_relative=3.0, perceptual_max=0.0)
    config = staged("tokens", tokens, weights=weights, perceptual_encoder=str(tiny_whisper), perceptual_seconds=None)
    objective, codec = Objective(config), build_codec(config)
    x = 0.1 * torch.randn(2, 30 * 270)
    total, terms = objective(codec(x[:, None]), x, weights)
    assert set(terms) == {"mel", "perceptual_relative"} and terms["perceptual_relative"] > 0
    torch.testing.assert_close(total, 2 * terms["mel"] + 3 * terms["perceptual_relative"])
    target = objective.log_mels(x[..., None], WholeSpan())
    perfect, _ = objective(codec(x[:, None])._replace(log_mels=target), x, weights)
    assert perfect == 0


@pytest.mark.parametrize("stage", MEL_STAGES)
def test_stages_without_a_waveform_train_in_half_precision(tokens, stage):
    codec = build_codec(staged(stage, tokens)).train()
    objective, x = Objective(staged(stage, tokens)), 0.1 * torch.randn(2, 10 * 270)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = codec(x[:, None])
    loss, _ = objective(prediction, x, OPTIONS[stage]["weights"])
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    gradients = [p.grad for p in codec.parameters() if p.requires_grad and p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_a_state_of_another_optimizer_is_named(tokens, corpus_folder, tmp_path):
    Run(staged("tokens", tokens, max_steps=1), [corpus_folder], tmp_path).train()
    with pytest.raises(TrainingError, match="resume with the values of preset, model, stage, muon, weight_norm"):
        Run(staged("tokens", tokens, muon=None), [corpus_folder], tmp_path)


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("tokens", {"model": TINY}, "Stage tokens trains a spectral analysis: set model.analysis to spectral"),
        ("distill", {}, "Stage distill needs a teacher"),
        ("distill", {"model": LIGHT}, "Stage distill trains a convolutional encoder"),
        ("decode", {}, "Stage decode needs a codec whose ids stay"),
        ("encode", {"preset": "taae-tiny", "model": {}}, "Stage encode is for networks of the L3AC family"),
    ],
)
def test_a_stage_that_lacks_something_says_what(stage, options, message):
    with pytest.raises(ConfigError, match=message):
        build_codec(staged(stage, **options))


def test_a_teacher_is_for_distill_alone():
    with pytest.raises(ConfigError, match="only stage distill has one"):
        TrainingConfig(teacher="l3ac-1k")
