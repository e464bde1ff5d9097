"""Every entrance of audio and of ids accepts and refuses the same; a new entrance is tested by being listed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import speech_like, tiny, tiny_streams
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from l3ac_tokenizer import (
    AcousticBPE,
    CodecFeatureExtractor,
    CodecModel,
    FSQEmbedding,
    FSQHead,
    L3ACProcessor,
    StreamingDecoder,
    StreamingEncoder,
)
from l3ac_tokenizer.checks import MAX_ABS_SAMPLE
from l3ac_tokenizer.container import Header, dump_l3ac
from l3ac_tokenizer.inference import decode_chunks, decode_clips, encode_chunks, encode_clips
from l3ac_tokenizer.speechbrain import L3AC, L3ACTokenizer

SAMPLES = 600
"""Length of the clips, 50 frames of the tiny networks."""

Entrance = Callable[[CodecModel, Any], Any]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte."""
    vocabulary = {piece: index for index, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>")


def processor() -> L3ACProcessor:
    return L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), codebook_size=45)


def wrapped(model: CodecModel, kind: type[L3AC] = L3AC) -> Any:
    """The SpeechBrain form of a model in memory."""
    form = kind.__new__(kind)
    torch.nn.Module.__init__(form)
    form.model, form.freeze = model, True
    return form


def batch(clip: Any) -> Any:
    """Clip (T,) → (1, 1, T)."""
    return clip[None, None]


AUDIO: dict[str, Entrance] = {
    "encode": lambda model, clip: model.encode(batch(clip)),
    "encode in chunks": lambda model, clip: model.encode(batch(clip), chunk_seconds=0.01),
    "encode with a mask": lambda model, clip: model.encode(batch(clip), torch.ones(1, 1, len(clip))),
    "forward": lambda model, clip: model(batch(clip)),
    "calibrate_time_norm": lambda model, clip: model.calibrate_time_norm([torch.as_tensor(clip)]),
    "stream": lambda model, clip: StreamingEncoder(model).push(clip[None]),
    "stream without rows": lambda model, clip: StreamingEncoder(model).push(clip),
    "stream of a microphone": lambda model, clip: StreamingEncoder(model).push(clip[:, None]),
    "stream of a list": lambda model, clip: StreamingEncoder(model, 2).push([clip, clip]),
    "feature extractor": lambda model, clip: CodecFeatureExtractor()(clip, sampling_rate=16_000),
    "feature extractor, list": lambda model, clip: CodecFeatureExtractor()([clip, clip], sampling_rate=16_000),
    "processor": lambda model, clip: processor()(audio=clip, sampling_rate=16_000),
    "encode_clips": lambda model, clip: encode_clips(model, [clip]),
    "encode_chunks": lambda model, clip: encode_chunks(model, [clip]),
    "SpeechBrain": lambda model, clip: wrapped(model).encode(clip[None]),
    "DASB": lambda model, clip: wrapped(model, L3ACTokenizer).sig_to_tokens(clip[None]),
}

STREAMS = {name for name in AUDIO if name.startswith("stream")} | {"encode_chunks"}
"""Entrances of audio that also take 16-bit integers."""

GOOD_AUDIO = {
    "float32": speech_like(SAMPLES).numpy(),
    "float64": speech_like(SAMPLES).double().numpy(),
    "tensor": speech_like(SAMPLES),
    "bfloat16": speech_like(SAMPLES).bfloat16(),
    "a view": np.repeat(speech_like(SAMPLES).numpy(), 2)[::2],
    "reversed": speech_like(SAMPLES).numpy()[::-1],
    "big-endian": speech_like(SAMPLES).numpy().astype(">f4"),
    "at the bound": np.full(SAMPLES, MAX_ABS_SAMPLE, np.float32),
}


def one(value: float) -> np.ndarray:
    """A clip with one wrong sample."""
    clip = speech_like(SAMPLES).numpy()
    clip[77] = value
    return clip


BAD_AUDIO = {
    **{str(kind): np.ones(SAMPLES, kind) for kind in ("int8", "int16", "int32", "int64", "uint8", "bool", "complex64")},
    **{str(kind): torch.ones(SAMPLES, dtype=kind) for kind in (torch.int16, torch.uint8, torch.bool, torch.complex64)},
    "NaN": one(float("nan")),
    "infinite": one(float("inf")),
    "negative infinite": torch.from_numpy(one(float("-inf"))),
    "unscaled": one(-32_768.0),
    "just too large": one(1.001 * MAX_ABS_SAMPLE),
    "stereo": np.zeros((SAMPLES, 2), np.float32),
}

IDS: dict[str, Entrance] = {
    "decode": lambda model, ids: model.decode(batch(ids)),
    "decode in chunks": lambda model, ids: model.decode(batch(ids), chunk_seconds=0.01),
    "iter_decode": lambda model, ids: list(model.iter_decode(batch(ids), chunk_seconds=0.01)),
    "stream": lambda model, ids: StreamingDecoder(model).push(ids[None]),
    "stream without rows": lambda model, ids: StreamingDecoder(model).push(ids),
    "stream of a list": lambda model, ids: StreamingDecoder(model, 2).push([ids, ids]),
    "decode_clips": lambda model, ids: decode_clips(model, [ids], [12 * len(ids)], "clip"),
    "decode_chunks": lambda model, ids: list(decode_chunks(model, ids, 12 * len(ids), "clip", 0.01)),
    "SpeechBrain": lambda model, ids: wrapped(model).decode(batch(ids)),
    "DASB": lambda model, ids: wrapped(model, L3ACTokenizer).tokens_to_sig(ids[None, :, None]),
    "processor": lambda model, ids: processor().encode_parts([{"type": "audio", "ids": ids}]),
    "acoustic BPE": lambda model, ids: AcousticBPE.train([[1, 2]], 45, 1).encode(ids),
    "embedding": lambda model, ids: FSQEmbedding((5, 3, 3), 8)(torch.as_tensor(ids)),
    "head": lambda model, ids: FSQHead(8, (5, 3, 3)).log_prob(torch.zeros(*ids.shape, 8), torch.as_tensor(ids)),
    ".l3ac": lambda model, ids: dump_l3ac(
        Header("tiny", "0" * 64, (5, 3, 3), 16_000, 12, 12 * len(ids)),
        ids.numpy() if isinstance(ids, torch.Tensor) else ids,
    ),
}

GOOD_IDS = {
    **{kind: np.arange(20).astype(kind) for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
    "tensor": torch.arange(20),
    "int32 tensor": torch.arange(20, dtype=torch.int32),
}

BAD_IDS = {
    **{kind: np.ones(20, kind) for kind in ("float32", "float64", "bool", "complex64")},
    **{str(kind): torch.ones(20, dtype=kind) for kind in (torch.float32, torch.bool)},
    "too large": np.array([0, 45]),
    "far too large": torch.tensor([2**40, 1]),
    "negative": np.array([0, -1]),
}

SHAPELESS = {"embedding", "head"}
"""Entrances of ids of any shape."""


@pytest.fixture(scope="module")
def model() -> CodecModel:
    model = tiny("tiny")
    model.calibrate_time_norm([speech_like(2000)])
    return model


@torch.no_grad()
@pytest.mark.parametrize("entrance", AUDIO)
def test_audio_of_every_form_passes_every_entrance(model, entrance):
    for name, clip in GOOD_AUDIO.items():
        if isinstance(clip, torch.Tensor) and clip.dtype == torch.bfloat16 and entrance == "calibrate_time_norm":
            clip = clip.float()
        if not (entrance == "calibrate_time_norm" and name in ("big-endian", "reversed")):
            AUDIO[entrance](model, clip)


@torch.no_grad()
@pytest.mark.parametrize("entrance", AUDIO)
def test_what_is_not_audio_is_refused_at_every_entrance(model, entrance):
    for name, clip in BAD_AUDIO.items():
        if name == "stereo" and entrance == "calibrate_time_norm":
            continue
        if "int16" in name and entrance in STREAMS:
            continue
        with pytest.raises(ValueError) as error:
            AUDIO[entrance](model, clip)
            pytest.fail(f"{entrance} takes {name}")
        assert "\n" not in str(error.value) and len(str(error.value)) > 30


@torch.no_grad()
@pytest.mark.parametrize("entrance", IDS)
def test_ids_of_every_integer_type_pass_every_entrance(model, entrance):
    for ids in GOOD_IDS.values():
        IDS[entrance](model, ids)


@torch.no_grad()
@pytest.mark.parametrize("entrance", IDS)
def test_what_is_no_id_is_refused_at_every_entrance(model, entrance):
    for name, ids in BAD_IDS.items():
        with pytest.raises(ValueError):
            IDS[entrance](model, ids)
            pytest.fail(f"{entrance} takes {name}")
    if entrance not in SHAPELESS:
        with pytest.raises(ValueError):
            IDS[entrance](model, np.zeros((2, 3, 4), np.int64))


@torch.no_grad()
def test_a_stream_of_one_row_gives_the_ids_of_the_clip_in_every_shape(model):
    clip = speech_like(SAMPLES)
    wanted = model.encode(clip[None, None]).audio_codes[0, 0]
    for shaped in (clip, clip[None], clip[:, None], clip[None, None], clip.numpy(), clip.tolist(), [clip.numpy()]):
        stream = StreamingEncoder(model)
        assert torch.equal(torch.cat([*stream.push(shaped), *stream.flush()]), wanted)


@torch.no_grad()
def test_a_stream_takes_the_integers_of_a_sound_card_for_samples_of_full_scale_32768(model):
    pcm = (speech_like(SAMPLES) * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)
    wanted = model.encode((pcm.float() / 2**15)[None, None]).audio_codes[0, 0]
    for shaped in (pcm, pcm[:, None], pcm[None].numpy(), pcm.numpy()[:, None].astype(">i2"), [pcm]):
        stream = StreamingEncoder(model)
        assert torch.equal(torch.cat([*stream.push(shaped), *stream.flush()]), wanted)


@torch.no_grad()
def test_a_decoding_stream_takes_what_encode_gives_by_frame_and_by_codebook():
    model = tiny_streams()
    codes = model.encode(torch.stack([speech_like(SAMPLES, seed)[None] for seed in range(2)])).audio_codes
    frames = model.quantizer.codebooks_to_ids(codes)
    for row in (0, 1):
        wanted = model.decode(codes[row : row + 1]).audio_values[0, 0]
        pushes = (
            codes[row],
            codes[row : row + 1],
            codes[row].numpy(),
            [codes[row]],
            frames[row],
            frames[row : row + 1],
        )
        for shaped in pushes:
            stream = StreamingDecoder(model)
            audio = torch.cat([*stream.push(shaped), *stream.flush()])
            assert (audio - wanted).abs().max() < 1e-4
    for shaped in (codes, frames, list(codes), list(frames), [codes[0], frames[1]]):
        stream = StreamingDecoder(model, 2)
        both = [torch.cat(pair) for pair in zip(stream.push(shaped), stream.flush(), strict=True)]
        assert (torch.stack(both) - model.decode(codes).audio_values[:, 0]).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 3, 1), (3, 5), (3, 1), (1, 1, 5)])
def test_a_wrong_number_of_codebooks_is_refused(model, shape):
    for codec in (tiny_streams(), model):
        if shape != (1, 1, 5) or codec.config.num_quantizers == 2:
            with pytest.raises(ValueError, match=r"has shape|rows"):
                StreamingDecoder(codec).push(torch.zeros(shape, dtype=torch.int64))


@torch.no_grad()
def test_a_refused_push_leaves_the_stream_as_it_was(model):
    clip = speech_like(SAMPLES)
    wanted = model.encode(clip[None, None]).audio_codes[0, 0]
    stream = StreamingEncoder(model, 2)
    parts = [stream.push([clip[:100], clip[:100]])[0]]
    for bad in ([clip[100:], one(float("nan"))], [clip[100:]], [clip[100:], clip.to(torch.int32)]):
        with pytest.raises(ValueError):
            stream.push(bad)
    parts += [stream.push([clip[100:], clip[100:]])[0], stream.flush()[0]]
    assert torch.equal(torch.cat(parts), wanted)


@torch.no_grad()
def test_what_lies_in_the_padding_is_not_looked_at(model):
    clip = speech_like(SAMPLES)
    padded, mask = torch.full((1, 1, SAMPLES + 9), float("nan")), torch.zeros(1, SAMPLES + 9)
    padded[..., :SAMPLES], mask[:, :SAMPLES] = clip, 1
    encoded = model.encode(padded, mask)
    ids = encoded.audio_codes[encoded.audio_codes_mask]
    assert torch.equal(ids, model.encode(clip[None, None]).audio_codes[0, 0])


def test_nothing_to_do_gives_nothing_or_a_sentence(model):
    assert encode_clips(model, []) == decode_clips(model, [], [], "clip") == []
    for empty in (
        lambda: CodecFeatureExtractor()([], sampling_rate=16_000),
        lambda: CodecFeatureExtractor().pad([]),
        lambda: processor()(audio=[], sampling_rate=16_000),
        lambda: processor()(),
        lambda: processor().apply_chat_template([], tokenize=True),
        lambda: model.encode(torch.zeros(0, 1, 50)),
        lambda: model.decode(torch.zeros(0, 1, 5, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match=r"give|not given|leave"):
            empty()


@pytest.mark.parametrize(
    "call",
    [
        lambda: CodecFeatureExtractor(smapling_rate=24_000),
        lambda: CodecFeatureExtractor()(np.zeros(9, np.float32), samplingrate=16_000),
        lambda: CodecFeatureExtractor.from_pretrained("l3ac-1k", samplingrate=1),
        lambda: type(tiny("tiny").config).from_preset("l3ac-1k", level=[3]),
        lambda: type(tiny("tiny").config).from_pretrained("l3ac-1k", level=[3]),
        lambda: CodecModel.from_pretrained("l3ac-1k", level=[3]),
        lambda: processor()(text="a", truncated=True),
        lambda: FSQEmbedding((3, 5), 4, padding_idx=0),
        lambda: tiny("tiny").encode(torch.zeros(1, 1, 50), chunk_second=1),
    ],
)
def test_an_unknown_argument_is_refused(call):
    with pytest.raises(TypeError):
        call()
