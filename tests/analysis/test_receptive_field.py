"""Measured receptive fields are those of the network's structure, and what streaming states."""

from __future__ import annotations

import pytest
import torch
from networks import TINY_NETWORKS, speech_like, tiny

from l3ac_tokenizer import StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.analysis.latency import LatencyAnalysis, analyze_latency, latency_page
from l3ac_tokenizer.analysis.plots import draw_fields
from l3ac_tokenizer.analysis.receptive_field import (
    Reach,
    decoder_field,
    encoder_field,
    perturbed_reach_of_id,
    perturbed_reach_of_sample,
    reach_of_id,
    reach_of_sample,
)
from l3ac_tokenizer.modeling.layers import means_for_maxima, tpooling


@pytest.fixture(params=TINY_NETWORKS)
def model(request):
    model = tiny(request.param).double()
    model.calibrate_time_norm([speech_like(4000).double()])
    return model.requires_grad_(False)


def test_the_look_ahead_of_an_id_is_what_streaming_states_by_gradients_and_by_perturbation(model):
    reach = reach_of_id(encoder_field(model), model.config.hop_length)
    assert reach.after == StreamingEncoder(model).latency == perturbed_reach_of_id(model, reach)


def test_the_look_ahead_of_a_sample_is_what_streaming_states_by_gradients_and_by_perturbation(model):
    reach = reach_of_sample(decoder_field(model))
    assert reach.after == StreamingDecoder(model).latency
    assert perturbed_reach_of_sample(model, "frozen", frames=400) == reach.after


def test_look_back_is_that_of_attention_and_of_the_convolutions_before_it(model):
    span, hop = model.config.attention_span, model.config.hop_length
    back, most = reach_of_id(encoder_field(model), hop).before, model.encoder.lookback
    # Of L3AC's convolutions it is only known that they see no farther before a time step than after it.
    assert back == most if model.config.model_type == "taae" else most - hop - model.encoder_lookahead < back <= most

    @torch.no_grad()
    def moves(sample: int) -> bool:
        frame = (back // (span * hop) + 2) * span - 1
        wave = speech_like((frame + 20) * hop).double()[None, None]
        changed = wave.clone()
        changed[..., sample + frame * hop] += 1.0
        latents = [model.encode(one).latents[0, frame] for one in (wave, changed)]
        return bool((latents[0] != latents[1]).any())

    assert any(moves(-back + nearer) for nearer in range(3 * hop))
    assert not moves(-back - 1)


def test_an_id_changes_no_sample_beyond_what_the_decoder_states(model):
    back, most = reach_of_sample(decoder_field(model)).before, model.decoder.lookback
    assert back == most if model.config.model_type == "taae" else most / 2 < back < most


@pytest.mark.parametrize("model", ["tiny"], indirect=True)
def test_published_time_normalization_sees_the_whole_clip(model):
    assert bool((decoder_field(model, "clip").strength > 0).all())
    assert perturbed_reach_of_sample(model, "clip", frames=8) is None


def test_maxima_come_back_even_after_an_error():
    pulse = torch.tensor([[[0.0, 0.0, 3.0, 0.0, 0.0]]])
    maxima = tpooling(pulse, 3, None)
    with pytest.raises(RuntimeError), means_for_maxima():
        assert (tpooling(pulse, 3, None) < maxima).all()
        raise RuntimeError
    assert torch.equal(tpooling(pulse, 3, None), maxima)


@pytest.mark.parametrize("name", TINY_NETWORKS)
def test_an_uncalibrated_model_is_analyzed_and_shown_on_a_page_and_in_a_picture(name):
    model = TINY_NETWORKS[name]().eval()
    analysis, fields = analyze_latency(model, "tiny", pushes=3)
    assert analysis.agrees
    normalizes = name == "tiny"
    assert (analysis.perturbed_sample_clip is None) == normalizes
    hop, rate = model.config.hop_length, model.config.sampling_rate
    assert analysis.algorithmic == hop + model.encoder_lookahead + model.decoder_lookahead
    page = latency_page([analysis], "a command")
    assert f"{analysis.id_reach.after} ({1e3 * analysis.id_reach.after / rate:.0f} ms)" in page
    assert ("| whole clip |" in page) == normalizes and "| yes |" in page
    waits = (hop, hop + model.encoder_lookahead, model.decoder_lookahead, analysis.algorithmic)
    assert " | ".join(f"{1e3 * samples / rate:.1f} ms" for samples in waits) in page
    assert draw_fields(analysis, fields).startswith(b"\x89PNG")


def test_a_disagreement_is_shown():
    analysis = LatencyAnalysis("a", 16_000, 12, 83, 292, Reach(251, 83), Reach(503, 291), 83, 250, None, (1.0, 2.0), 1)
    assert not analysis.agrees
    assert "no: 83, 292" in latency_page([analysis], "a command")
