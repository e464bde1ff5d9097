"""Generation of ids: only legal sequences, and sound while `generate` runs."""

from __future__ import annotations

import itertools
import queue
from threading import Thread

import numpy as np
import pytest
import torch
from networks import tiny
from test_processing import byte_tokenizer, text
from transformers import LlamaConfig, LlamaForCausalLM

from l3ac_tokenizer import AudioLogitsProcessor, AudioStreamer, CodecFeatureExtractor, L3ACProcessor

HOP = 12


@pytest.fixture(scope="module")
def codec():
    model = tiny("tiny").double()
    model.calibrate_time_norm([torch.sin(torch.arange(600, dtype=torch.float64) / 7)])
    return model


@pytest.fixture(scope="module")
def processor(codec) -> L3ACProcessor:
    return L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), audio_offset=270, audio_tokenizer=codec)


@pytest.fixture(scope="module")
def lm(processor) -> LlamaForCausalLM:
    """A random language model; its rows 263 to 269 are those of no token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=processor.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def prompts(processor) -> dict[str, torch.Tensor]:
    texts = [[text("he")], [text("hello")], [{"type": "audio", "ids": [1, 2]}]]
    return processor.encode(texts, padding=True, padding_side="left", return_tensors="pt")


def open_prompt(processor, *ids: int) -> dict[str, torch.Tensor]:
    parts = [text("he"), {"type": "audio", "ids": list(ids)}]
    return processor.encode(parts, open_audio=True, return_tensors="pt")


# ---------------------------------------------------------------------------------------------- legal tokens


@pytest.mark.parametrize(
    ("mode", "kinds"), [("both", {"text", "audio"}), ("text", {"text"}), ("audio", {"text", "audio"})]
)
def test_what_is_generated_can_be_read_strictly_in_every_mode(processor, lm, mode, kinds):
    keeping = AudioLogitsProcessor(processor, mode)
    inputs = prompts(processor)
    output = lm.generate(**inputs, logits_processor=[keeping], max_new_tokens=60, do_sample=True, top_k=0)
    new = output[:, inputs["input_ids"].shape[1] :]
    parts = [processor.decode_parts(row) for row in new]
    assert {part["type"] for row in parts for part in row} == (kinds - {"text"} if mode == "audio" else kinds)


@pytest.mark.parametrize("mode", ["both", "audio"])
def test_parts_of_audio_have_the_numbers_of_ids_that_were_asked_for(processor, mode):
    keeping = AudioLogitsProcessor(processor, mode, min_ids=2, max_ids=4)
    row = open_prompt(processor, 5)["input_ids"]
    for _ in range(300):  # a language model that begins and ends audio half of the times it may
        scores = torch.zeros(1, processor.vocab_size)
        scores[:, [processor.audio_start_id, processor.audio_end_id]] = 4.0
        drawn = torch.multinomial(keeping(row, scores).softmax(dim=-1), 1)
        row = torch.cat([row, drawn], dim=1)
    closed = [part for part in processor.decode_parts(row[0]) if part["type"] == "audio"][:-1]
    assert {len(part["ids"]) for part in closed} == {2, 3, 4}


def test_only_ids_follow_until_the_audio_may_end(processor):
    tokens = open_prompt(processor, 3)["input_ids"]
    scores = torch.zeros(1, processor.vocab_size)
    for keeping, ends in [(AudioLogitsProcessor(processor), True), (AudioLogitsProcessor(processor, min_ids=2), False)]:
        legal = keeping(tokens, scores).isfinite()[0].nonzero().flatten().tolist()
        ids = list(range(processor.audio_offset, processor.vocab_size))
        assert legal == ([processor.audio_end_id] * ends + ids)


def test_text_is_every_token_of_the_tokenizer_and_no_spare_row(processor):
    tokens, scores = torch.tensor([[5]]), torch.zeros(1, processor.vocab_size + 3)
    start, end = processor.audio_start_id, processor.audio_end_id
    for mode, wanted in [
        ("both", set(range(263)) - {end}),
        ("text", set(range(263)) - {start, end}),
        ("audio", {start}),  # this tokenizer has no end of sequence
    ]:
        legal = AudioLogitsProcessor(processor, mode)(tokens, scores).isfinite()[0].nonzero().flatten()
        assert set(legal.tolist()) == wanted


def test_text_closes_the_audio_that_a_prompt_left_open(processor):
    legal = AudioLogitsProcessor(processor, "text")(
        open_prompt(processor, 1)["input_ids"], torch.zeros(1, processor.vocab_size)
    ).isfinite()
    assert legal[0].nonzero().flatten().tolist() == [processor.audio_end_id]


def test_a_generation_without_a_prompt_of_tokens_begins_outside_audio(processor):
    legal = AudioLogitsProcessor(processor)(
        torch.empty(2, 0, dtype=torch.long), torch.zeros(2, processor.vocab_size)
    ).isfinite()
    assert legal[:, processor.audio_start_id].all() and not legal[:, processor.audio_offset :].any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "sound"}, "`mode` is 'sound'; it must be one of audio, text, both"),
        ({"mode": "text", "max_ids": 3}, "no effect"),
        ({"min_ids": 3, "max_ids": 2}, "`min_ids` is 3 and `max_ids` is 2"),
        ({"max_ids": 0}, "1 ≤ max_ids"),
        ({"min_ids": -1}, "`min_ids` is -1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(processor, arguments, said):
    with pytest.raises(ValueError, match=said):
        AudioLogitsProcessor(processor, **arguments)


def test_a_language_model_without_logits_for_all_ids_is_refused(processor):
    with pytest.raises(ValueError, match="extend_causal_lm"):
        AudioLogitsProcessor(processor)(torch.tensor([[5]]), torch.zeros(1, processor.vocab_size - 1))


# ---------------------------------------------------------------------------------------------- sound


def heard(streamer: AudioStreamer) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *streamer])


def frozen(processor, *clips: list[int]) -> np.ndarray:
    return np.concatenate(processor.decode_audio(list(clips), time_norm="frozen"))


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_sound_while_generating_is_that_of_decoding_the_whole(codec, processor, lm, skip_prompt):
    streamer = AudioStreamer(codec, processor, skip_prompt=skip_prompt, timeout=60)
    keeping, ids = AudioLogitsProcessor(processor, "audio"), [1, 44, 7]
    output: list[torch.Tensor] = []
    inputs = open_prompt(processor, *ids)

    def generate() -> None:
        options = {"max_new_tokens": 50, "do_sample": True, "top_k": 0}
        output.append(lm.generate(**inputs, logits_processor=[keeping], streamer=streamer, **options))

    thread = Thread(target=generate)
    thread.start()
    samples = heard(streamer)
    thread.join()
    clips = [part["ids"] for part in processor.decode_parts(output[0][0]) if part["type"] == "audio"]
    assert sum(map(len, clips)) > 20
    whole = frozen(processor, *clips)
    np.testing.assert_allclose(samples, whole[len(ids) * HOP * skip_prompt :], atol=1e-6)


@pytest.mark.parametrize("end", ["<|audio_end|>", "<|im_end|>", None])
def test_whatever_ends_audio_ends_its_sound(codec, processor, end):
    """An end of sequence inside audio too, and the end of generation."""
    streamer = AudioStreamer(codec, processor)
    first, second = [3, 4, 5], [6]
    streamer.put(open_prompt(processor)["input_ids"])
    for token in first:
        streamer.put(torch.tensor([token + processor.audio_offset]))
    if end:
        streamer.put(torch.tensor([processor.tokenizer.convert_tokens_to_ids(end)]))
        for token in (processor.audio_start_id, processor.audio_offset + second[0]):
            streamer.put(torch.tensor([token]))
    streamer.end()
    wanted = frozen(processor, first, second) if end else frozen(processor, first)
    np.testing.assert_allclose(heard(streamer), wanted, atol=1e-6)


def test_sound_comes_before_generation_ends(codec, processor):
    streamer = AudioStreamer(codec, processor, timeout=0)
    streamer.put(open_prompt(processor, *range(40))["input_ids"])
    assert len(next(iter(streamer))) > 0
    with pytest.raises(queue.Empty):
        next(iter(streamer))


def test_a_streamer_can_be_used_again(codec, processor):
    streamer = AudioStreamer(codec, processor, skip_prompt=True)
    for _ in range(2):
        streamer.put(open_prompt(processor, 9)["input_ids"])
        streamer.put(torch.tensor([processor.audio_offset + 2]))
        streamer.end()
        np.testing.assert_allclose(heard(streamer), frozen(processor, [9, 2])[HOP:], atol=1e-6)


def test_the_codec_and_the_batch_of_a_streamer_are_checked(codec, processor):
    other = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer())
    with pytest.raises(ValueError, match="45 ids and the processor 117649"):
        AudioStreamer(codec, other)
    with pytest.raises(ValueError, match="no statistics"):
        AudioStreamer(tiny("tiny"), processor)
    with pytest.raises(ValueError, match="takes one sequence and got 3"):
        AudioStreamer(codec, processor).put(prompts(processor)["input_ids"])


def test_every_sequence_of_tokens_leaves_one_state(processor):
    """The state that decides what may follow is that of the whole sequence, for all sequences of four tokens."""
    start, end, first = processor.audio_start_id, processor.audio_end_id, processor.audio_offset
    keeping = AudioLogitsProcessor(processor)
    rows = torch.tensor(list(itertools.product([5, start, end, first], repeat=4)))
    legal = keeping(rows, torch.zeros(len(rows), processor.vocab_size)).isfinite()
    for row, may in zip(rows, legal, strict=True):
        for token in (5, start, end, first + 1):
            before, after = (processor.decode_parts(tokens, errors="close") for tokens in (row, [*row, token]))
            wrong = [str(parts).count("without <|audio") for parts in (before, after)]
            assert bool(may[token]) == (wrong[0] == wrong[1])
