"""What must hold for every network, of either family, whatever its weights (random here): lengths, batches, streams.

Ids are compared exactly, but for frames in which a latent lies within rounding noise of a boundary: these are counted.
Decoded audio of random weights is compared in float64, which shows that two ways compute one thing; `test_bundled.py`
does the same in float32 with trained weights on real audio.
"""

from __future__ import annotations

import copy
import functools
import math
import random

import pytest
import torch
from networks import MIXED_NETWORKS, TINY_NETWORKS, speech_like, tiny, with_varied_ids
from torch import Tensor
from transformers import AutoModel

from l3ac_tokenizer import CodecModel, compiled, preset_config, streaming
from l3ac_tokenizer.presets import L3AC_PRESETS, LIGHT_PRESETS
from l3ac_tokenizer.streaming import StreamingDecoder, StreamingEncoder

EXACT = 1e-9
"""Of full scale, in float64."""

SMALL_NETWORKS = [*TINY_NETWORKS, *MIXED_NETWORKS]


def ids_of(model: CodecModel, clip: Tensor, **kwargs) -> Tensor:
    return model.encode(clip[None, None], **kwargs).audio_codes[0, 0]


def assert_same_ids(model: CodecModel, clip: Tensor, ids: Tensor) -> None:
    """Equal to those of the clip alone, but for frames near a rounding boundary (at most 2 % of them)."""
    alone = model.encode(clip[None, None])
    assert ids.shape == alone.audio_codes[0, 0].shape
    changed = ids != alone.audio_codes[0, 0]
    near = model.quantizer.near_boundary(alone.latents[0])
    assert not (changed & ~near).any(), f"{int((changed & ~near).sum())} of {len(ids)} ids differ"
    assert changed.sum() <= max(1, 0.02 * len(ids))


def clip_lengths(model: CodecModel) -> list[int]:
    """Shorter than a frame, around whole frames, many frames (beyond the attention's span where it is short)."""
    hop, many = model.config.hop_length, 19 if model.config.attention_span < 19 else 9
    return [1, hop - 1, hop, hop + 1, 5 * hop + 7, many * hop - 3]


@pytest.fixture(params=[*SMALL_NETWORKS, *L3AC_PRESETS, *LIGHT_PRESETS, "taae-tiny"])
def model(request: pytest.FixtureRequest) -> CodecModel:
    """Tiny networks, whose attention windows end early, and each preset, but narrow; their ids vary."""
    return copy.deepcopy(_varied(request.param))


@pytest.fixture(params=SMALL_NETWORKS)
def tiny_model(request: pytest.FixtureRequest) -> CodecModel:
    """The tiny networks alone."""
    return copy.deepcopy(_varied(request.param))


@pytest.fixture(params=[None, 1, 3], ids=["eager", "steps of 1", "steps of 3"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Arguments of streams: eager, or the steps that `"aot"` compiles, as they are; test_compiled.py compiles them."""
    if request.param is None:
        return {}
    monkeypatch.setattr(streaming, "compiled_step", lambda step, batch: compiled.InPlace(step))
    return {"engine": "aot", "step_frames": request.param}


@functools.cache
def _varied(name: str) -> CodecModel:
    if name in SMALL_NETWORKS:
        return tiny(name)
    config = preset_config(name)
    if name != "taae-tiny":  # a quarter of the channels: lengths, rates, windows and depths are those of the preset
        config.feature_dim //= 4
        config.encoder_dims, config.decoder_dims = (
            [dim // 4 for dim in dims] for dims in (config.encoder_dims, config.decoder_dims)
        )
    return with_varied_ids(AutoModel.from_config(config).eval())


@torch.no_grad()
def test_a_clip_of_n_samples_has_ceil_n_over_hop_ids_and_comes_back_with_n_samples(model):
    hop = model.config.hop_length
    for samples in clip_lengths(model):
        encoded = model.encode(speech_like(samples)[None, None])
        assert encoded.audio_codes.shape == (1, 1, math.ceil(samples / hop))
        assert encoded.audio_codes_mask.all()
        assert model.decode(encoded.audio_codes).audio_values.shape[-1] == math.ceil(samples / hop) * hop
        assert model.decode(encoded.audio_codes, num_samples=samples).audio_values.shape == (1, 1, samples)
        assert model(speech_like(samples)[None, None]).audio_values.shape == (1, 1, samples)


@torch.no_grad()
def test_ids_and_audio_of_a_clip_do_not_depend_on_its_batch(model):
    model.double()
    lengths = clip_lengths(model)
    clips = [speech_like(samples, seed).double() for seed, samples in enumerate(lengths)]
    clips[4] = torch.zeros_like(clips[4])
    clips[5] = torch.sign(clips[5])
    longest = max(lengths) + 501
    for side in ("right", "left"):
        batch = torch.full((len(clips), 1, longest), 0.7, dtype=torch.float64)  # what lies in the padding is not seen
        mask = torch.zeros(len(clips), 1, longest, dtype=torch.bool)
        for row, clip in enumerate(clips):
            where = slice(0, len(clip)) if side == "right" else slice(longest - len(clip), longest)
            batch[row, 0, where], mask[row, 0, where] = clip, True
        encoded = model.encode(batch, mask)
        decoded = model.decode(encoded.audio_codes, encoded.audio_codes_mask).audio_values
        full = model(batch, mask).audio_values
        for row, clip in enumerate(clips):
            own = encoded.audio_codes_mask[row, 0]
            ids = encoded.audio_codes[row, 0, own]
            assert_same_ids(model, clip, ids)
            assert not encoded.audio_codes[row, 0, ~own].any()
            alone = model.decode(ids[None, None]).audio_values[0, 0]
            assert (decoded[row, 0, : len(alone)] - alone).abs().max() < EXACT
            assert not decoded[row, 0, len(alone) :].any()
            assert (full[row, 0, mask[row, 0]] - alone[: len(clip)]).abs().max() < EXACT
            assert not full[row, 0, ~mask[row, 0]].any()


def assert_chunks_equal_the_whole(model: CodecModel, frames: int, count: int) -> None:
    hop, seconds = model.config.hop_length, frames / model.config.frame_rate
    clip = speech_like(count * hop - hop // 3).double()
    ids = ids_of(model, clip, chunk_seconds=seconds)
    assert_same_ids(model, clip, ids)
    whole = model.decode(ids[None, None]).audio_values
    chunked = model.decode(ids[None, None], chunk_seconds=seconds).audio_values
    assert chunked.shape == whole.shape
    assert (chunked - whole).abs().max() < EXACT


@torch.no_grad()
def test_chunks_of_any_length_give_the_ids_and_the_audio_of_the_whole(model):
    model.double()
    for frames in (9, 10_000):
        assert_chunks_equal_the_whole(model, frames, count=20)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 11])
def test_chunks_of_few_frames_equal_the_whole_over_many_attention_windows(tiny_model, frames):
    assert_chunks_equal_the_whole(tiny_model.double(), frames, count=61)


@torch.no_grad()
@pytest.mark.slow
def test_chunks_equal_the_whole_beyond_two_attention_windows(model):
    window = model.config.attention_window
    window = window if isinstance(window, int) else sum(window) + 1
    assert_chunks_equal_the_whole(model.double(), frames=window // 3 + 1, count=2 * window + 9)


@torch.no_grad()
def test_chunked_batches_of_different_lengths_equal_single_clips(tiny_model):
    model, hop = tiny_model.double(), tiny_model.config.hop_length
    lengths = [1, 3 * hop, 17 * hop + 5, 60 * hop]
    batch, mask = (
        torch.zeros(4, 1, max(lengths), dtype=torch.float64),
        torch.zeros(4, 1, max(lengths), dtype=torch.bool),
    )
    for row, samples in enumerate(lengths):
        batch[row, 0, :samples], mask[row, 0, :samples] = speech_like(samples, row).double(), True
    encoded = model.encode(batch, mask, chunk_seconds=5 * hop / 16_000)
    decoded = model.decode(encoded.audio_codes, encoded.audio_codes_mask, chunk_seconds=7 * hop / 16_000).audio_values
    for row, samples in enumerate(lengths):
        ids = encoded.audio_codes[row, 0, encoded.audio_codes_mask[row, 0]]
        assert_same_ids(model, batch[row, 0, :samples], ids)
        alone = model.decode(ids[None, None]).audio_values[0, 0]
        assert (decoded[row, 0, : len(alone)] - alone).abs().max() < EXACT


@torch.no_grad()
def test_pushes_of_any_size_give_the_ids_of_the_whole(model, engine):
    rng = random.Random(0)
    clip = speech_like(25 * model.config.hop_length + 13)
    stream = StreamingEncoder(model, **engine)
    ids, position = [], 0
    sizes = [0, 1, 1, 2 * model.config.hop_length]
    while position < len(clip):
        size = sizes.pop() if sizes else rng.choice([0, 1, 160, 640, 5 * model.config.hop_length])
        ids += stream.push(clip[None, position : position + size])
        position += size
    ids += stream.flush()
    assert_same_ids(model, clip, torch.cat(ids))


@torch.no_grad()
def test_an_id_comes_as_soon_as_its_look_ahead_is_there_and_not_before(model, engine):
    hop, step = model.config.hop_length, engine.get("step_frames", 1)
    stream = StreamingEncoder(model, **engine)
    due = 3 * hop + model.encoder_lookahead
    due += -(due + -model.encoder_lookahead % hop) // hop % step * hop  # to the end of a step
    clip = speech_like(due + 1)
    (before,) = stream.push(clip[None, : due - 1])
    (at,) = stream.push(clip[None, due - 1 : due])
    assert len(before) + len(at) == (due - model.encoder_lookahead) // hop
    assert len(at) == min(step, len(before) + len(at))
    assert stream.latency == model.encoder_lookahead + (step - 1) * hop


@torch.no_grad()
def test_the_encoder_depends_on_the_last_sample_of_its_look_ahead_and_on_none_after_it(tiny_model):
    model, hop = tiny_model.double(), tiny_model.config.hop_length
    frame, latency = 9, StreamingEncoder(model).latency
    clip = speech_like(40 * hop + latency).double()
    latents = model.encode(clip[None, None]).latents[0, frame]
    last = (frame + 1) * hop - 1 + latency

    def change(sample: int) -> float:
        other = clip.clone()
        other[sample] += 0.5
        return float((model.encode(other[None, None]).latents[0, frame] - latents).abs().max())

    assert change(last) > 0
    assert change(last + 1) == 0


@torch.no_grad()
@pytest.mark.parametrize(
    ("preset", "id_samples", "audio_samples"),
    [
        ("l3ac-0k75-light", 1172, 899),  # 73 and 56 ms
        ("l3ac-1k-light", 1277, 944),  # 80 and 59 ms
        ("l3ac-1k5-light", 1277, 944),
        ("l3ac-3k-light", 1328, 911),  # 83 and 57 ms
    ],
)
def test_the_light_presets_wait_as_stated_and_not_a_sample_longer(preset, id_samples, audio_samples):
    model = copy.deepcopy(_varied(preset)).double()
    config, hop, h = model.config, model.config.hop_length, model.config.fine_hop
    assert model.encoder_lookahead == id_samples == 512 - h // 2 + 3 * h * config.analysis_depth
    assert id_samples <= 0.085 * config.sampling_rate
    steps = config.synthesis_lookahead * config.synthesis_lookahead_layers + config.compress_rate // 2
    assert model.decoder_lookahead == audio_samples == steps * h + 3 * h // 2 - 1
    assert audio_samples <= 0.060 * config.sampling_rate

    frame, wave = 5, speech_like(20 * hop + id_samples).double()[None, None]
    last = (frame + 1) * hop - 1 + id_samples
    for sample, matters in ((last, True), (last + 1, False)):
        other = wave.clone()
        other[..., sample] += 0.5
        latents = [model.encode(audio).latents[0, frame] for audio in (wave, other)]
        assert torch.equal(*latents) != matters

    frame = 25
    ids = torch.randint(config.codebook_size, (1, 1, 30), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[..., frame] = config.codebook_size - 1 - ids[..., frame]
    waves = [model.decode(codes).audio_values[0, 0] for codes in (ids, other)]
    assert int((waves[0] != waves[1]).nonzero()[0]) == frame * hop - audio_samples


@torch.no_grad()
def test_pushed_ids_give_the_audio_of_the_whole_with_frozen_time_normalisation(model, engine):
    model, rng = model.double(), random.Random(1)
    model.calibrate_time_norm([speech_like(4000, seed).double() for seed in range(2)])
    ids = torch.randint(model.config.codebook_size, (1, 30), generator=torch.Generator().manual_seed(0))
    whole = model.decode(ids[None], time_norm="frozen").audio_values[0, 0]
    stream, parts, position = StreamingDecoder(model, **engine), [], 0
    while position < ids.shape[1]:
        size = rng.choice([0, 1, 2, 30])
        parts += stream.push(ids[:, position : position + size])
        position += size
        step = engine.get("step_frames", 1)
        done = min(position, ids.shape[1]) // step * step * model.config.hop_length
        assert sum(map(len, parts)) == max(0, done - model.decoder_lookahead)
    parts += stream.flush()
    samples = torch.cat(parts)
    assert samples.shape == whole.shape
    assert (samples - whole).abs().max() < EXACT


@torch.no_grad()
def test_an_id_changes_samples_as_far_back_as_the_decoder_s_latency_and_no_further(tiny_model):
    model, hop = tiny_model.double(), tiny_model.config.hop_length
    model.calibrate_time_norm([speech_like(4000).double()])
    latency = StreamingDecoder(model).latency
    # The envelopes take maxima: not every change of an id gets through to the last sample it could reach.
    ids = torch.randint(model.config.codebook_size, (400, 1, 40), generator=torch.Generator().manual_seed(0))
    other, frame = ids.clone(), 30
    other[:, 0, frame] = (ids[:, 0, frame] + torch.arange(1, 401) % 44 + 1) % 45
    waves = [model.decode(codes, time_norm="frozen").audio_values for codes in (ids, other)]
    moved = (waves[1] - waves[0]).abs().amax(dim=(0, 1)).nonzero()
    assert int(moved[0]) == frame * hop - latency


@torch.no_grad()
def test_rows_of_a_stream_start_end_and_reset_on_their_own(tiny_model, engine):
    model, rng = tiny_model.double(), random.Random(2)
    model.calibrate_time_norm([speech_like(4000).double()])
    hop = model.config.hop_length
    clips = [
        speech_like(samples, seed).double() for seed, samples in enumerate([1, 5 * hop, 33 * hop + 1, 70 * hop - 1])
    ]
    encoder, decoder = StreamingEncoder(model, 3, **engine), StreamingDecoder(model, 3, **engine)
    waiting = clips * 2
    now, ids, samples = [None] * 3, [[] for _ in range(3)], [[] for _ in range(3)]
    position, finished = [0] * 3, 0
    while waiting or any(clip is not None for clip in now):
        for row in range(3):
            if now[row] is None and waiting:
                now[row], position[row], ids[row], samples[row] = waiting.pop(), 0, [], []
                if rng.random() < 0.5:  # a stream that was cut off leaves nothing behind
                    encoder.push([speech_like(100).double() if r == row else torch.zeros(0) for r in range(3)])
                    encoder.reset([row])
        pushed = []
        for row, clip in enumerate(now):
            size = rng.choice([0, 1, hop, 9 * hop])
            pushed.append(torch.zeros(0) if clip is None else clip[position[row] : position[row] + size])
            position[row] += size
        new = encoder.push(pushed)
        done = [row for row, clip in enumerate(now) if clip is not None and position[row] >= len(clip)]
        new = [torch.cat(pair) for pair in zip(new, encoder.flush(done), strict=True)]
        audio = [torch.cat(pair) for pair in zip(decoder.push(new), decoder.flush(done), strict=True)]
        for row in range(3):
            ids[row].append(new[row])
            samples[row].append(audio[row])
        for row in done:
            assert_same_ids(model, now[row], torch.cat(ids[row]))
            whole = model.decode(torch.cat(ids[row])[None, None], time_norm="frozen").audio_values[0, 0]
            assert (torch.cat(samples[row]) - whole).abs().max() < EXACT
            now[row] = None
            finished += 1
    assert finished == 8


@torch.no_grad()
def test_ids_do_not_depend_on_the_number_of_threads(tiny_model):
    clip, threads = speech_like(20_000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ids_of(tiny_model, clip)
        torch.set_num_threads(2)
        assert_same_ids(tiny_model, clip, one)
    finally:
        torch.set_num_threads(threads)
