"""Text and audio in one sequence: exact inverses, the range of audio tokens, chats, saving and loading."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast

from l3ac_tokenizer import CodecFeatureExtractor, L3ACProcessor
from l3ac_tokenizer.processing import AUDIO_END, AUDIO_START

CODEBOOK = 45
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, as in GPT-2 before merges, and the marks of ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l")]
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, *("".join(merge) for merge in merges)])}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", chat_template=CHAT_TEMPLATE)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return tokenizer


@pytest.fixture
def processor() -> L3ACProcessor:
    return L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), codebook_size=CODEBOOK)


def text(content: str) -> dict:
    return {"type": "text", "text": content}


def audio(*ids: int) -> dict:
    return {"type": "audio", "ids": list(ids)}


def normal(parts: list[dict]) -> list[dict]:
    """Join adjacent texts and drop empty ones."""
    joined: list[dict] = []
    for part in parts:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1] = text(joined[-1]["text"] + part["text"])
        elif part != text(""):
            joined.append(part)
    return joined


PARTS = st.lists(
    st.one_of(
        st.text().filter(lambda value: "<|" not in value).map(text),
        st.lists(st.integers(0, CODEBOOK - 1), max_size=5).map(lambda ids: audio(*ids)),
    ),
    max_size=6,
)


@given(PARTS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_decoding_gives_back_the_parts_whatever_text_and_ids(processor, parts):
    tokens = processor.encode_parts(parts)
    assert processor.decode_parts(tokens) == normal(parts)
    assert processor.encode_parts(processor.decode_parts(tokens)) == tokens


def test_ids_are_an_offset_range_after_the_text_and_add_two_entries_to_the_tokenizer(processor):
    plain = byte_tokenizer()
    assert len(processor.tokenizer) == len(plain) + 2
    assert processor.audio_offset == len(plain) + 2
    assert processor.vocab_size == len(plain) + 2 + CODEBOOK
    tokens = processor.encode_parts([text("he"), audio(0, 44)])
    start, end = len(plain), len(plain) + 1
    assert tokens[1:] == [start, processor.audio_offset, processor.audio_offset + 44, end]
    assert tokens[:1] == plain.encode("he")


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, tuple, lambda ids: np.asarray(ids, dtype=np.int32)])
def test_ids_may_be_arrays_tensors_and_lists(processor, kind):
    tokens = processor.encode_parts([{"type": "audio", "ids": kind([3, 44])}])
    assert processor.decode_parts(kind(tokens)) == [audio(3, 44)]


def test_an_audio_part_that_generation_left_open_is_taken_as_it_is(processor):
    tokens = processor.encode_parts([text("Hi "), audio(1, 2, 3)])
    assert processor.decode_parts(tokens[:-2]) == [text("Hi "), audio(1, 2)]


# ---------------------------------------------------------------------------------------------- chats

CHAT = [
    {"role": "system", "content": "You hear."},
    {"role": "user", "content": [text("First: "), audio(1, 2), text(", then: "), audio(3)]},
    {"role": "assistant", "content": [audio(44)]},
]


def test_a_chat_becomes_one_sequence_and_comes_back(processor):
    tokens = processor.apply_chat_template(CHAT, tokenize=True)
    assert processor.decode_parts(tokens) == [
        text("<|im_start|>system\nYou hear.<|im_end|>\n<|im_start|>user\nFirst: "),
        audio(1, 2),
        text(", then: "),
        audio(3),
        text("<|im_end|>\n<|im_start|>assistant\n"),
        audio(44),
        text("<|im_end|>\n"),
    ]


def test_text_alone_is_what_the_tokenizer_makes_of_it(processor):
    chat = [{"role": "user", "content": "hello"}]
    wanted = processor.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True) == wanted


def test_a_batch_of_chats_is_padded_to_tensors(processor):
    batch = processor.apply_chat_template(
        [CHAT, CHAT[:1]], tokenize=True, padding=True, return_dict=True, return_tensors="pt"
    )
    for chat, row, mask in zip([CHAT, CHAT[:1]], batch["input_ids"], batch["attention_mask"], strict=True):
        assert row[mask.bool()].tolist() == processor.apply_chat_template(chat, tokenize=True)
    one = processor.apply_chat_template(CHAT, tokenize=True, return_dict=True, return_tensors="pt")
    assert one["input_ids"].shape == one["attention_mask"].shape == (1, batch["attention_mask"][0].sum())


def test_the_conversation_is_not_changed(processor):
    before = json.dumps(CHAT)
    processor.apply_chat_template(CHAT, tokenize=True)
    assert json.dumps(CHAT) == before


def test_without_tokenizing_a_chat_is_text_with_numbers_for_audio(processor):
    written = processor.apply_chat_template(CHAT[2:], add_generation_prompt=True)
    assert written == f"<|im_start|>assistant\n{AUDIO_START}0{AUDIO_END}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content }}", "{% for m in messages * 2 %}{{ m.content }}{% endfor %}"]
)
def test_a_template_that_loses_or_repeats_audio_is_refused(processor, template):
    with pytest.raises(ValueError, match="template wrote the audio parts"):
        processor.apply_chat_template(CHAT, chat_template=template, tokenize=True)


# --------------------------------------------------------------------------------- calling, saving, loading


def test_calling_gives_what_the_feature_extractor_and_the_tokenizer_give(processor):
    wave = np.sin(np.arange(500) / 9).astype(np.float32)
    inputs = processor(audio=wave, sampling_rate=16_000, return_tensors="pt")
    wanted = processor.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")
    assert set(inputs) == set(wanted) == {"input_values", "padding_mask"}
    assert all(torch.equal(inputs[name], wanted[name]) for name in wanted)
    assert processor(text="hello")["input_ids"] == processor.tokenizer("hello")["input_ids"]


def test_saving_and_loading_changes_nothing(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    for loader in (AutoProcessor, L3ACProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is L3ACProcessor
        assert type(loaded.feature_extractor) is CodecFeatureExtractor
        assert (loaded.audio_offset, loaded.vocab_size) == (processor.audio_offset, processor.vocab_size)
        tokens = processor.apply_chat_template(CHAT, tokenize=True)
        assert loaded.apply_chat_template(CHAT, tokenize=True) == tokens
        assert loaded.decode_parts(tokens) == processor.decode_parts(tokens)


def test_the_saved_tokenizer_holds_no_string_for_an_id(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    plain = byte_tokenizer()
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(plain) + 2


def test_a_processor_may_have_a_chat_template_of_its_own(tmp_path):
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), CODEBOOK, chat_template=template).save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.decode_parts(loaded.apply_chat_template(CHAT[2:], tokenize=True)) == [
        text("["),
        audio(44),
        text("]"),
    ]


def test_a_tokenizer_that_grew_into_the_audio_range_is_refused_on_loading(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="audio tokens begin at"):
        AutoProcessor.from_pretrained(tmp_path)


def test_an_offset_may_leave_room_for_rows_that_a_text_model_has_beyond_its_tokenizer(tmp_path):
    processor = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), CODEBOOK, audio_offset=512)
    assert processor.encode_parts([audio(1)])[1] == 513 and processor.vocab_size == 512 + CODEBOOK
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.audio_offset == 512
    with pytest.raises(ValueError, match="Token 0 is 511"):
        loaded.decode_parts([511])


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([audio(1), audio(45)], "`ids` of part 1 holds 45; ids are 0 to 44"),
        ([audio(-1)], "holds -1"),
        ([{"type": "audio", "ids": [0.5]}], "whole numbers"),
        ([{"type": "audio", "ids": [[1, 2]]}], r"shape \(1, 2\)"),
        ([{"type": "audio", "audio": "clip.wav"}], "has no codec: give it `audio_tokenizer`"),
        ([{"type": "image"}], "type of part 0 is 'image'"),
        ([text("a " + AUDIO_START)], "contains <|audio_start|>".replace("|", r"\|")),
    ],
)
def test_parts_that_cannot_be_encoded_are_refused_by_name(processor, parts, said):
    with pytest.raises(ValueError, match=said):
        processor.encode_parts(parts)
    chat = [{"role": "system", "content": "Hear."}, {"role": "user", "content": [text("This: "), *parts]}]
    with pytest.raises(ValueError, match=re.sub(r"part (\d)", "part [12] of message 1", said)):
        processor.apply_chat_template(chat, tokenize=True)


def test_a_processor_of_other_parts_or_no_ids_is_refused():
    with pytest.raises(TypeError, match="argument feature_extractor"):
        L3ACProcessor(byte_tokenizer(), CodecFeatureExtractor())
    with pytest.raises(ValueError, match="`codebook_size` is 0"):
        L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), codebook_size=0)


def test_sequences_that_no_parts_give_are_refused_by_name(processor):
    start, end, first = processor.audio_start_id, processor.audio_end_id, processor.audio_offset
    for tokens, said in [
        ([processor.vocab_size], "Token 0 is 308; text tokens are 0 to 262, audio tokens are 263 to 307"),
        ([-1], "Token 0 is -1"),
        ([5, first], "Token 1 is the audio token .* without"),
        ([end], "Token 0 is the audio token .* without"),
        ([start, first, 5], "Token 2 is the text token 5, without"),
        ([start, start], "Token 1 is the text token .* without"),
    ]:
        with pytest.raises(ValueError, match=said):
            processor.decode_parts(tokens)
