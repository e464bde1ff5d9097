"""Text and audio in one sequence: exact inverses, the range of audio tokens, chats, saving and loading."""

from __future__ import annotations

import copy
import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import speech_like, tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast

from l3ac_tokenizer import CodecFeatureExtractor, L3ACProcessor
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.inference import encode_clips
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


GENERATION_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    {"role": "user", "content": [text("First: "), audio(1, 2)]},
    {"role": "assistant", "content": [text("hello "), audio(44, 3), text(" he")]},
    {"role": "user", "content": "hell"},
    {"role": "assistant", "content": [audio(5)]},
]


def test_the_mask_of_assistant_tokens_is_what_the_assistant_says_audio_included(processor):
    batch = processor.apply_chat_template(
        [TALK, TALK[:2]],
        chat_template=GENERATION_TEMPLATE,
        tokenize=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
    )
    said = [
        processor.decode_parts(row[mask.bool()])
        for row, mask in zip(batch["input_ids"], batch["assistant_masks"], strict=True)
    ]
    first = [text("hello "), audio(44, 3)]
    assert said == [[*first, text(" he<|im_end|>"), audio(5), text("<|im_end|>")], [*first, text(" he<|im_end|>")]]
    assert not (batch["assistant_masks"] > batch["attention_mask"]).any()


def test_the_mask_of_assistant_tokens_of_text_is_that_of_the_tokenizer(processor):
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "he\nhell"}]
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    wanted = processor.tokenizer.apply_chat_template(chat, chat_template=GENERATION_TEMPLATE, **options)
    assert processor.apply_chat_template(chat, chat_template=GENERATION_TEMPLATE, **options) == wanted


def test_a_mask_is_truncated_with_its_tokens(processor):
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    options["chat_template"] = GENERATION_TEMPLATE
    whole, cut = (
        processor.apply_chat_template(TALK, **options, **cutting)
        for cutting in ({}, {"truncation": True, "max_length": 30})
    )
    assert cut == {name: values[:30] for name, values in whole.items()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"return_dict": True}, "marks the assistant's text with"),
        ({"return_dict": True, "chat_template": GENERATION_TEMPLATE, "continue_final_message": True}, "leave one"),
        ({"chat_template": GENERATION_TEMPLATE}, "give `return_dict=True`"),
    ],
)
def test_a_mask_that_cannot_be_made_is_refused(processor, arguments, said):
    with pytest.raises(ValueError, match=said):
        processor.apply_chat_template(TALK, tokenize=True, return_assistant_tokens_mask=True, **arguments)


def test_a_chat_may_end_inside_audio(processor):
    start, offset = processor.audio_start_id, processor.audio_offset
    prompt = processor.apply_chat_template(CHAT[:2], tokenize=True, add_generation_prompt=True, open_audio=True)
    assert prompt == [*processor.apply_chat_template(CHAT[:2], tokenize=True, add_generation_prompt=True), start]
    going_on = processor.apply_chat_template(CHAT, tokenize=True, continue_final_message=True, open_audio=True)
    assert going_on[-2:] == [start, offset + 44]


# ---------------------------------------------------------------------------------- prompts, batches, labels


def test_a_prompt_may_end_inside_audio_so_that_ids_follow(processor):
    start, end, offset = processor.audio_start_id, processor.audio_end_id, processor.audio_offset
    for parts, last in [
        ([text("he"), audio(3, 4)], [start, offset + 3, offset + 4]),
        ([audio(1), text("he")], [end, *processor.tokenizer.encode("he"), start]),
        ([text("he"), audio()], [*processor.tokenizer.encode("he"), start]),
        ([], [start]),
    ]:
        tokens = processor.encode_parts(parts, open_audio=True)
        assert tokens[-len(last) :] == last
        assert processor.decode_parts([*tokens, offset + 7])[-1]["ids"][-1] == 7


def test_a_batch_of_parts_has_masks_and_labels_without_padding(processor):
    rows = [[text("hello"), audio(1, 2)], [audio(3)]]
    for side in ("left", "right"):
        batch = processor.encode(rows, padding=True, padding_side=side, return_tensors="pt", output_labels=True)
        each = zip(rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
        for parts, tokens, mask, labels in each:
            assert tokens[mask.bool()].tolist() == processor.encode_parts(parts) == labels[mask.bool()].tolist()
            assert (labels[~mask.bool()] == -100).all()
    assert not batch["attention_mask"].all()


def test_labels_keep_a_token_that_is_also_that_of_padding(processor):
    """Unlike labels made from `input_ids == pad_token_id`, as where padding is the end of sequence."""
    batch = processor.encode([[text("he<|pad|>")], [audio(1, 2)]], padding=True, output_labels=True)
    assert batch["labels"][0] == [*processor.encode_parts([text("he<|pad|>")]), -100, -100]


def test_one_sequence_is_a_row_of_lists_or_a_batch_of_tensors(processor):
    parts = [text("he"), audio(1)]
    assert processor.encode(parts) == {"input_ids": processor.encode_parts(parts), "attention_mask": [1, 1, 1, 1]}
    assert processor.encode(parts, return_tensors="pt")["input_ids"].shape == (1, 4)
    assert processor.encode([parts])["input_ids"] == [processor.encode_parts(parts)]


def test_sequences_are_padded_as_encoding_pads_them(processor):
    rows = [[text("hello"), audio(1, 2)], [audio(3)]]
    wanted = processor.encode(rows, padding=True, output_labels=True)
    tokens = [processor.encode_parts(parts) for parts in rows]
    for form in (tokens, [{"input_ids": row} for row in tokens], [torch.tensor(row) for row in tokens]):
        assert processor.pad(form, output_labels=True) == wanted
    with pytest.raises(ValueError, match="no sequences to pad"):
        processor.pad([])


def test_chats_have_labels(processor):
    options = {"tokenize": True, "return_dict": True, "padding": True, "output_labels": True}
    batch = processor.apply_chat_template([CHAT, CHAT[:1]], **options)
    assert batch["labels"][0] == batch["input_ids"][0]
    count = sum(batch["attention_mask"][1])
    assert batch["labels"][1] == batch["input_ids"][1][:count] + [-100] * (len(batch["labels"][1]) - count)


# ------------------------------------------------------------------------------- what a language model does


@given(st.lists(st.integers(0, 307), max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_closing_reads_every_sequence_without_losing_a_token(processor, tokens):
    """Text and ids are all there in their order, and what `encode_parts` makes of the parts is read strictly."""
    start, end, offset = processor.audio_start_id, processor.audio_end_id, processor.audio_offset
    parts = processor.decode_parts(tokens, errors="close")
    ids = [token - offset for token in tokens if token >= offset]
    assert [each for part in parts if part["type"] == "audio" for each in part["ids"]] == ids
    written = processor.tokenizer.decode([token for token in tokens if token < offset and token not in (start, end)])
    assert "".join(part["text"] for part in parts if part["type"] == "text").encode() == written.encode() or (
        "\ufffd" in written  # bytes of one character, apart from each other
    )
    try:
        strict = processor.decode_parts(tokens)
    except ValueError:
        assert any("error" in part for part in parts)
    else:
        assert parts == strict


def test_an_end_of_sequence_inside_audio_closes_it_and_says_so(processor):
    tokens = processor.encode_parts([text("he"), audio(1, 2)])[:-1] + processor.tokenizer.encode("<|im_end|>hello")
    with pytest.raises(ValueError, match="Token 4 is the text token 260, without"):
        processor.decode_parts(tokens)
    error = "Token 4 is the text token 260, without <|audio_end|> before it."
    parts = [text("he"), {**audio(1, 2), "error": error}, text("<|im_end|>hello")]
    assert processor.decode_parts(tokens, errors="close") == parts
    with pytest.raises(ValueError, match="`errors` is 'ignore'"):
        processor.decode_parts(tokens, errors="ignore")


def test_ids_alone_as_after_a_prompt_that_was_cut_off_are_a_part(processor):
    tokens = [processor.audio_offset + 1, processor.audio_offset + 2, processor.audio_end_id]
    (part,) = processor.decode_parts(tokens, errors="close")
    assert part["ids"] == [1, 2] and "Token 0 is the audio token 264, without <|audio_start|>" in part["error"]


def test_tokens_added_later_are_refused_wherever_they_could_be_an_id(processor):
    processor.tokenizer.add_tokens(["<|later|>"])
    later = [text("<|later|>")]
    for call in (
        lambda: processor.encode_parts(later),
        lambda: processor.encode(later),
        lambda: processor.apply_chat_template([{"role": "user", "content": later}], tokenize=True),
        lambda: processor(text="<|later|>"),
    ):
        with pytest.raises(ValueError, match="The text has the token 263, '<|later|>'".replace("|", r"\|")):
            call()
    with pytest.raises(ValueError, match="audio tokens begin at 263"):
        L3ACProcessor(CodecFeatureExtractor(), processor.tokenizer, CODEBOOK, audio_offset=263)
    assert processor.decode_parts(processor.encode_parts([audio(0)])) == [audio(0)]


# ------------------------------------------------------------------------------------------------- the codec


@pytest.fixture(scope="module")
def codec():
    return tiny("tiny")


@pytest.fixture
def speaking(codec) -> L3ACProcessor:
    return L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), audio_tokenizer=codec)


def ids_of(codec, wave: np.ndarray) -> list[int]:
    return encode_clips(codec, [wave])[0].tolist()


def test_audio_of_any_form_becomes_the_ids_of_the_codec(codec, speaking, tmp_path):
    wave = speech_like(1500, 3).numpy()
    path = tmp_path / "clip.wav"
    soundfile.write(path, wave, 16_000, "FLOAT")
    forms = {
        "array": {"audio": wave, "sampling_rate": 16_000},
        "tensor": {"audio": torch.from_numpy(wave)[None], "sampling_rate": 16_000},
        "list": {"audio": wave.tolist()},
        "path": {"audio": path},
        "name": {"path": str(path)},
        "file": {"audio": io.BytesIO(path.read_bytes())},
        "bytes": {"audio": path.read_bytes()},
        "dataset": {"audio": {"array": wave, "sampling_rate": 16_000}},
        "ids": {"ids": ids_of(codec, wave)},
    }
    wanted = speaking.encode_parts([text("he"), audio(*ids_of(codec, wave))])
    assert len(set(wanted)) > 10
    for name, form in forms.items():
        assert speaking.encode_parts([text("he"), {"type": "audio", **form}]) == wanted, name
    chat = [
        {"role": "user", "content": [{"type": "audio", "audio": path}, text(", "), {"type": "audio", "audio": wave}]}
    ]
    ids = [part["ids"] for part in speaking.decode_parts(speaking.apply_chat_template(chat, tokenize=True))[1::2]]
    assert ids == [ids_of(codec, wave)] * 2


def test_audio_is_resampled_and_downmixed_as_the_reader_does_it(codec, speaking, tmp_path):
    stereo = np.stack([speech_like(3000, 1).numpy(), speech_like(3000, 2).numpy()], axis=1)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo, 24_000, "FLOAT")
    read, _ = read_audio(path, 16_000)
    mono = {"type": "audio", "audio": stereo.mean(axis=1), "sampling_rate": 24_000}
    for part in ({"type": "audio", "audio": path}, mono):
        assert speaking.decode_parts(speaking.encode_parts([part])) == [audio(*ids_of(codec, read))]


def test_the_ids_of_a_clip_are_the_same_in_any_batch(codec, speaking):
    waves = [speech_like(count, seed).numpy() for seed, count in enumerate((100, 1300, 700))]
    batch = speaking.encode([[{"type": "audio", "audio": wave}] for wave in waves])
    for row, wave in zip(batch["input_ids"], waves, strict=True):
        assert speaking.decode_parts(row) == [audio(*ids_of(codec, wave))]


@pytest.mark.parametrize(
    ("part", "error", "said"),
    [
        ({"audio": np.zeros((2, 50), np.float32)}, ValueError, "the audio of part 1 has shape .*mono"),
        ({"audio": np.zeros(0, np.float32)}, ValueError, "the audio of part 1 holds no audio"),
        ({"audio": b"no audio"}, ValueError, "the audio of part 1 is not audio"),
        ({"audio": "missing.wav"}, OSError, "missing.wav"),
        ({"audio": 3}, TypeError, "the audio of part 1 is int"),
        ({}, ValueError, "The audio of part 1 is missing"),
    ],
)
def test_audio_that_cannot_be_encoded_is_refused_by_name(speaking, part, error, said):
    with pytest.raises(error, match=said):
        speaking.encode_parts([text("he"), {"type": "audio", **part}])


def test_ids_become_the_waveforms_of_the_codec(codec, speaking):
    first, second = [1, 2, 44, 7], [9]
    waves = speaking.decode_audio([first, [], second])
    for ids, wave in zip(([1, 2, 44, 7], [], [9]), waves, strict=True):
        assert wave.dtype == np.float32 and wave.shape == (12 * len(ids),)
    wanted = codec.decode(torch.tensor([[first]])).audio_values[0, 0].detach().numpy()
    np.testing.assert_allclose(waves[0], wanted, atol=1e-5)
    np.testing.assert_allclose(speaking.decode_audio(torch.tensor(first)), wanted, atol=1e-5)


def test_generated_sequences_become_the_waveforms_of_their_parts(speaking):
    rows = [[text("he"), audio(1, 2), text("he"), audio(5)], [text("hello"), audio(3, 4, 5)], [text("he")]]
    batch = speaking.encode(rows, padding=True, padding_side="left", return_tensors="pt")
    waves = speaking.post_process_audio(batch["input_ids"])
    assert [len(row) for row in waves] == [2, 1, 0]
    for row, parts in zip(waves, rows, strict=True):
        clips = [part["ids"] for part in parts if part["type"] == "audio"]
        for wave, ids in zip(row, clips, strict=True):
            np.testing.assert_allclose(wave, speaking.decode_audio(ids), atol=1e-5)
    ids_without_start = batch["input_ids"][1][-4:-1]
    assert len(speaking.post_process_audio(ids_without_start)[0]) == 36


def test_the_codec_determines_the_number_of_ids_and_is_checked(codec):
    extractor = CodecFeatureExtractor()
    assert L3ACProcessor(extractor, byte_tokenizer(), audio_tokenizer=codec).codebook_size == 45
    assert L3ACProcessor(extractor, byte_tokenizer()).codebook_size == 117_649
    for arguments, error, said in [
        ({"codebook_size": 44, "audio_tokenizer": codec}, ValueError, "`codebook_size` is 44 and the codec has 45"),
        ({"audio_tokenizer": byte_tokenizer()}, TypeError, "give a codec of this package"),
    ]:
        with pytest.raises(error, match=said):
            L3ACProcessor(extractor, byte_tokenizer(), **arguments)
    with pytest.raises(ValueError, match="24000 Hz and the codec 16000 Hz"):
        L3ACProcessor(CodecFeatureExtractor(sampling_rate=24_000), byte_tokenizer(), audio_tokenizer=codec)


def test_without_a_codec_there_are_no_waveforms(processor):
    with pytest.raises(ValueError, match="no codec to decode ids"):
        processor.decode_audio([1])


@pytest.mark.parametrize("network", ["tiny", "tiny-light", "tiny-taae"])
def test_the_codec_is_saved_and_loaded_with_the_processor(network, tmp_path):
    codec = tiny(network)
    processor = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), audio_tokenizer=codec)
    processor.save_pretrained(tmp_path)
    assert str(tmp_path) not in (tmp_path / "processor_config.json").read_text()
    for loader in (AutoProcessor, L3ACProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded.audio_tokenizer) is type(codec)
        assert loaded.audio_tokenizer.weights_digest() == codec.weights_digest()
        assert loaded.codebook_size == 45
    assert L3ACProcessor.from_pretrained(tmp_path, audio_tokenizer=codec).audio_tokenizer is codec
    assert L3ACProcessor.from_pretrained(tmp_path, audio_tokenizer=None).audio_tokenizer is None
    half = AutoProcessor.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cpu").audio_tokenizer
    assert half.dtype == torch.bfloat16 and half.encoder_digest() == codec.encoder_digest()
    assert copy.deepcopy(processor).audio_tokenizer is not codec and processor.audio_tokenizer is codec


def test_the_codec_is_there_when_a_saved_processor_is_pushed(speaking, tmp_path, monkeypatch):
    pushed: dict[str, list[str]] = {}

    def push(name: str, **kwargs) -> None:
        pushed[name] = sorted(path.name for path in (tmp_path / "spoken" / "audio_tokenizer").iterdir())

    monkeypatch.setattr(speaking, "push_to_hub", push)
    speaking.save_pretrained(tmp_path / "spoken", push_to_hub=True)
    assert list(pushed) == ["spoken"] and "model.safetensors" in pushed["spoken"]


def test_a_codec_of_other_ids_is_refused_on_loading(speaking, tmp_path):
    speaking.save_pretrained(tmp_path)
    other = tiny("tiny")
    with torch.no_grad():
        next(other.encoder.parameters()).mul_(2)
    with pytest.raises(ValueError, match="whose ids have another meaning"):
        L3ACProcessor.from_pretrained(tmp_path, audio_tokenizer=other)
    other.save_pretrained(tmp_path / "audio_tokenizer")
    with pytest.raises(ValueError, match="whose ids have another meaning"):
        AutoProcessor.from_pretrained(tmp_path)


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
