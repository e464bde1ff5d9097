"""Streams by compiled steps: equal to the whole, kept on disk, and eager where nothing can be compiled.

The network is tiny, for the sake of time; test_invariants.py runs the steps of all networks without a compiler.
"""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from networks import speech_like, tiny

from l3ac_tokenizer import StreamingDecoder, StreamingEncoder, compiled
from l3ac_tokenizer.modeling.steps import DecoderStep, EncoderStep


@pytest.fixture(scope="module")
def model():
    return tiny("tiny-light-2khz")


@pytest.fixture(scope="module", params=["plain", pytest.param("tuned", marks=pytest.mark.slow)])
def cache(request, tmp_path_factory):
    """A folder for what is compiled; only the slow suite searches for the fastest products, and optimizes the code."""
    if not shutil.which("g++") and not shutil.which("clang++"):
        pytest.skip("there is no C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            plain = {"max_autotune": False, "aot_inductor.debug_compile": True}
            patch.setattr(compiled, "OPTIONS", compiled.OPTIONS | plain)
        yield tmp_path_factory.mktemp("cache")


@pytest.fixture
def streams(model, cache, monkeypatch):
    """Both directions, compiled by the first test that asks for them."""
    monkeypatch.setenv("L3AC_CACHE", str(cache))
    return [stream(model, 2, engine="aot", step_frames=2) for stream in (StreamingEncoder, StreamingDecoder)]


@torch.no_grad()
def test_compiled_streams_give_the_ids_and_the_audio_of_the_whole(model, streams):
    encoder, decoder = streams
    clips = [speech_like(70 * 12 + 5, 0), speech_like(31 * 12, 1)]
    for _ in range(2):  # a stream starts anew after its end
        ids, samples = [[], []], [[], []]
        for first in range(0, 72 * 12, 50):
            pushed = encoder.push([clip[first : first + 50] for clip in clips])
            for row, audio in enumerate(decoder.push(pushed)):
                ids[row].append(pushed[row])
                samples[row].append(audio)
        rest = encoder.flush()
        ends = decoder.push(rest), decoder.flush()
        for row, clip in enumerate(clips):
            row_ids = torch.cat([*ids[row], rest[row]])
            wanted = model.encode(clip[None, None])
            changed = row_ids != wanted.audio_codes[0, 0]
            assert not (changed & ~model.quantizer.near_boundary(wanted.latents)[0]).any()
            whole = model.decode(row_ids[None, None]).audio_values[0, 0]
            audio = torch.cat([*samples[row], *(end[row] for end in ends)])
            assert audio.shape == whole.shape and (audio - whole).abs().max() < 1e-4


def test_what_is_compiled_is_kept_for_these_weights_alone(model, streams, monkeypatch):
    made = []
    monkeypatch.setattr(compiled, "_compile", lambda *arguments: made.append(arguments) or exit(3))
    StreamingEncoder(model, 2, engine="aot", step_frames=2)
    assert not made
    other = tiny("tiny-light-2khz")
    with torch.no_grad():
        next(other.encoder.parameters())[0] += 1e-6
    with pytest.raises(SystemExit):
        StreamingEncoder(other, 2, engine="aot", step_frames=2)


@pytest.mark.slow
@torch.no_grad()
def test_the_products_of_a_library_give_the_audio_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("L3AC_CACHE", str(tmp_path))
    only = {"max_autotune_gemm_backends": "ATEN", "aot_inductor.debug_compile": True}
    monkeypatch.setattr(compiled, "_options", lambda step: compiled.OPTIONS | only)
    codec = tiny("tiny")
    codec.calibrate_time_norm([speech_like(4000)])
    ids = codec.encode(speech_like(70 * 12)[None, None]).audio_codes
    decoder = StreamingDecoder(codec, engine="aot", step_frames=2)
    audio = torch.cat([decoder.push(some)[0] for some in ids[0].split(3, dim=1)] + decoder.flush())
    whole = codec.decode(ids, time_norm="frozen").audio_values[0, 0]
    assert audio.shape == whole.shape and (audio - whole).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("network", "step", "frames", "backends"),
    [
        ("tiny", DecoderStep, 1, "CPP"),
        ("tiny", DecoderStep, 2, "ATEN,CPP"),
        ("tiny", EncoderStep, 2, "CPP"),
        ("tiny-light", DecoderStep, 2, "CPP"),
    ],
)
def test_only_long_steps_of_convolutional_decoders_try_the_products_of_a_library(network, step, frames, backends):
    codec = tiny(network)
    codec.calibrate_time_norm([speech_like(4000)])
    assert compiled._options(step(codec, frames))["max_autotune_gemm_backends"] == backends


def test_without_a_compiler_a_stream_is_eager_and_a_warning_says_so(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("L3AC_CACHE", str(tmp_path))
    clip = speech_like(300)
    with torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}), caplog.at_level(logging.WARNING):
        stream = StreamingEncoder(model, engine="aot")
    (said,) = caplog.messages
    assert "engine='eager'" in said and "InvalidCxxCompiler" in said
    assert torch.equal(
        torch.cat([*stream.push(clip), *stream.flush()]), model.encode(clip[None, None]).audio_codes[0, 0]
    )
    assert stream.latency == model.encoder_lookahead
    assert not list((tmp_path / "compiled").iterdir())


def test_wrong_engines_and_steps_are_one_sentence(model):
    for arguments, said in (
        ({"engine": "onnx"}, "`engine` is 'onnx'; it must be 'eager' or 'aot'."),
        ({"engine": "aot", "step_frames": 0}, "`step_frames` is 0; it must be at least 1."),
    ):
        for stream in (StreamingEncoder, StreamingDecoder):
            with pytest.raises(ValueError, match=said):
                stream(model, **arguments)
