"""Causal language models extended by ids: one distribution over text and ids, generation, training, saving."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import tiny
from test_processing import byte_tokenizer, text
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, Trainer, TrainingArguments

from l3ac_tokenizer import (
    AudioLogitsProcessor,
    CodecFeatureExtractor,
    ExtendedCausalLM,
    L3ACProcessor,
    extend_causal_lm,
)
from l3ac_tokenizer.language_model import EMBEDDING_MODES, HEAD_MODES

ARCHITECTURES = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {"tie_word_embeddings": True, "head_dim": 16, "final_logit_softcapping": 3.0},
    "gpt2": {"n_positions": 64},
    "gpt_neox": {},
}
ROWS = 300
"""Rows of the embeddings; the tokenizer has 263 tokens with the two of audio."""


def text_lm(architecture: str = "qwen2", **values):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if architecture != "gpt2":
        sizes |= {"intermediate_size": 64, "num_key_value_heads": 2}
    config = AutoConfig.for_model(architecture, vocab_size=ROWS, **sizes, **ARCHITECTURES[architecture])
    model = AutoModelForCausalLM.from_config(config, **values).eval()
    with torch.no_grad():  # logits that differ
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    return model


@pytest.fixture(scope="module")
def codec():
    return tiny("tiny")


@pytest.fixture
def processor(codec) -> L3ACProcessor:
    return L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), audio_tokenizer=codec)


def sequences(processor, **options):
    parts = [
        [text("he"), {"type": "audio", "ids": [1, 2, 44, 3]}, text(" hello")],
        [{"type": "audio", "ids": [7]}],
        [text("hello hello")],
    ]
    return processor.encode(parts, padding=True, output_labels=True, return_tensors="pt", **options)


def sharpened(model: ExtendedCausalLM) -> ExtendedCausalLM:
    with torch.no_grad():
        model.audio_gate.weight.mul_(20)
        for weight in model.audio_head.parameters():
            weight.mul_(4)
    return model


# -------------------------------------------------------------------------------------------- the distribution


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_text_is_as_before_but_for_the_share_of_audio(processor, architecture):
    lm = text_lm(architecture)
    before = copy.deepcopy(lm)
    model = extend_causal_lm(lm, processor)
    tokens = torch.tensor([processor.encode_parts([text("hello there")])])
    logits, wanted = model(tokens).logits, before(tokens).logits[..., : processor.audio_offset]
    assert logits.shape == (1, tokens.shape[1], processor.vocab_size)
    assert torch.equal(logits[..., : processor.audio_offset], wanted)


@pytest.mark.parametrize("head", HEAD_MODES)
def test_logits_are_those_of_text_beside_one_of_audio_times_the_head(processor, head):
    model = sharpened(extend_causal_lm(text_lm(), processor, head=head))
    batch = sequences(processor)
    hidden = model.language_model(inputs_embeds=model._embed(batch["input_ids"]), output_hidden_states=True)
    features = hidden.hidden_states[-1]
    joint = torch.cat([hidden.logits, model.audio_gate(features)], dim=-1).softmax(-1)
    share = model.audio_head.log_probs(features).exp()
    wanted = torch.cat([joint[..., :-1], joint[..., -1:] * share], dim=-1)
    found = model(batch["input_ids"]).logits.softmax(-1)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found[..., processor.audio_offset :].max() > 3 * found[..., processor.audio_offset :].mean()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["split", "chained"])
def test_the_loss_is_the_cross_entropy_of_the_whole_vocabulary(processor, architecture, head):
    model = sharpened(extend_causal_lm(text_lm(architecture), processor, head=head))
    batch = sequences(processor)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    total = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="sum")
    count = (labels[:, 1:] != -100).sum()
    output = model(**batch, labels=labels)
    assert output.logits is None
    assert torch.allclose(output.loss, total / count, atol=1e-5)
    assert torch.allclose(model(**batch, labels=labels, num_items_in_batch=10).loss, total / 10, atol=1e-5)


def test_ids_are_embedded_by_their_own_layer_as_large_as_text(processor):
    model = extend_causal_lm(text_lm(), processor)
    tokens = sequences(processor)["input_ids"]
    features, offset = model._embed(tokens), processor.audio_offset
    is_id = tokens >= offset
    assert torch.equal(features[~is_id], model.get_input_embeddings()(tokens[~is_id]))
    assert torch.equal(features[is_id], model.audio_embedding(tokens[is_id] - offset))
    every_id = model.audio_embedding(torch.arange(45))
    assert every_id.std().item() == pytest.approx(model.get_input_embeddings().weight.std().item(), rel=0.2)


def test_logits_of_the_last_tokens_alone_are_the_last_logits(processor):
    model = extend_causal_lm(text_lm(), processor)
    tokens = sequences(processor)["input_ids"]
    assert torch.allclose(model(tokens, logits_to_keep=2).logits, model(tokens).logits[:, -2:], atol=1e-6)
    loss, *_ = model(tokens, labels=tokens, return_dict=False)
    assert torch.equal(loss, model(tokens, labels=tokens).loss)


# ------------------------------------------------------------------------------------- rows, room, later tokens


def test_spare_rows_go_and_missing_ones_come_with_the_tokens(processor, codec):
    model = extend_causal_lm(text_lm(), processor)
    assert model.get_input_embeddings().num_embeddings == processor.audio_offset == 263
    roomy = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), audio_offset=512, audio_tokenizer=codec)
    lm = text_lm()
    kept = lm.get_input_embeddings().weight.detach().clone()
    model = extend_causal_lm(lm, roomy)
    assert model.config.vocab_size == 512 + 45 and model(torch.tensor([[5]])).logits.shape[-1] == 512 + 45
    assert torch.equal(model.get_input_embeddings().weight[:ROWS], kept)


def test_tokens_added_later_never_share_a_number_with_an_id(processor):
    model = extend_causal_lm(text_lm(), processor)
    with pytest.raises(ValueError, match="text cannot grow"):
        model.resize_token_embeddings(processor.vocab_size + 1)
    processor.tokenizer.add_tokens(["<|later|>"])
    with pytest.raises(ValueError, match="audio tokens begin at 263"):
        extend_causal_lm(text_lm(), processor)


# -------------------------------------------------------------------------------------------------- generation


@pytest.mark.parametrize("options", [{"do_sample": False}, {"do_sample": True, "top_p": 0.9}, {"num_beams": 3}])
def test_a_prompt_of_text_and_audio_is_continued(processor, options):
    model = extend_causal_lm(text_lm(), processor)
    inputs = sequences(processor, padding_side="left")
    inputs.pop("labels")
    keeping = AudioLogitsProcessor(processor, max_ids=6)
    output = model.generate(**inputs, logits_processor=[keeping], max_new_tokens=20, **options)
    assert output.shape == (3, inputs["input_ids"].shape[1] + 20)
    for row, mask in zip(output, inputs["attention_mask"], strict=True):
        processor.decode_parts(row[int((mask == 0).sum()) :])


def test_greedy_generation_takes_the_largest_logit_with_and_without_a_cache(processor):
    model = sharpened(extend_causal_lm(text_lm("llama"), processor))
    tokens = sequences(processor)["input_ids"][:1]
    with torch.no_grad():
        model.audio_gate.bias.fill_(6)  # so that ids come, too
        wanted = tokens
        for _ in range(12):
            wanted = torch.cat([wanted, model(wanted).logits[:, -1:].argmax(-1)], dim=1)
    for use_cache in (True, False):
        assert torch.equal(model.generate(tokens, max_new_tokens=12, do_sample=False, use_cache=use_cache), wanted)
    assert (wanted[:, tokens.shape[1] :] >= processor.audio_offset).any()


def test_scores_of_beams_are_over_the_whole_vocabulary(processor):
    model = extend_causal_lm(text_lm(), processor)
    output = model.generate(
        sequences(processor)["input_ids"][:1],
        max_new_tokens=5,
        num_beams=2,
        return_dict_in_generate=True,
        output_scores=True,
    )
    scores = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    assert torch.allclose(scores.sum(), output.sequences_scores * scores.shape[1], atol=1e-4)


# ---------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_weight_learns_also_with_gradient_checkpointing(processor, architecture, checkpointing):
    model = extend_causal_lm(text_lm(architecture), processor).train()
    batch = sequences(processor)
    plain = model(**batch).loss
    if checkpointing:
        model.gradient_checkpointing_enable()
    loss = model(**batch).loss
    loss.backward()
    assert torch.allclose(loss, plain)
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_text_and_ids_are_learned_together(processor):
    model = extend_causal_lm(text_lm(), processor).train()
    batch = sequences(processor)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model(**batch).loss.item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 < first
    model.eval()
    start = batch["input_ids"][:1, :4]  # "he", the start of audio, and the first id
    wanted = batch["input_ids"][0, : int(batch["attention_mask"][0].sum())]
    assert torch.equal(model.generate(start, max_new_tokens=len(wanted) - 4, do_sample=False)[0], wanted)


def test_the_trainer_of_transformers_trains_evaluates_and_saves(processor, tmp_path):
    pytest.importorskip("accelerate")
    model = extend_causal_lm(text_lm(), processor)
    rows = [{"input_ids": row} for row in sequences(processor)["input_ids"].tolist()]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True, save_steps=2
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=processor,
        data_collator=lambda rows: processor.pad(rows, return_tensors="pt", output_labels=True),
    )
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    folder = tmp_path / "checkpoint-2"
    assert AutoProcessor.from_pretrained(folder).audio_tokenizer is not None
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is ExtendedCausalLM


# ------------------------------------------------------------------------------------------- saving and loading


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_and_loading_changes_nothing(processor, architecture, dtype, tmp_path):
    lm = text_lm(architecture, dtype=dtype)
    lm.generation_config.pad_token_id = 258
    model = extend_causal_lm(lm, processor)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is ExtendedCausalLM and loaded.dtype == dtype == model.audio_gate.weight.dtype
    weights = model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.state_dict().items())
    tokens = sequences(processor)["input_ids"]
    accuracy = 1e-5 if dtype == torch.float32 else 0.05  # where weights lie in memory decides how they are multiplied
    assert torch.allclose(loaded(tokens).logits, model(tokens).logits, atol=accuracy)
    tied = loaded.get_input_embeddings().weight is loaded.language_model.get_output_embeddings().weight
    assert tied == lm.config.tie_word_embeddings
    assert loaded.generation_config.pad_token_id == 258


@pytest.mark.parametrize("embedding", EMBEDDING_MODES)
def test_every_embedding_is_saved_and_loaded(processor, embedding, tmp_path):
    model = extend_causal_lm(text_lm(), processor, embedding=embedding, head="independent")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.config.embedding, loaded.config.head) == (embedding, "independent")
    assert torch.equal(loaded.audio_embedding(torch.arange(45)), model.audio_embedding(torch.arange(45)))


def test_bfloat16_gives_float32_logits_and_a_loss_near_that_of_float32(processor):
    model = extend_causal_lm(text_lm(), processor)
    batch = sequences(processor)
    wanted = model(**batch).loss
    half = model.to(torch.bfloat16)
    assert half(batch["input_ids"]).logits.dtype == torch.float32
    assert half(**batch).loss.item() == pytest.approx(wanted.item(), rel=0.05)


def test_attention_is_computed_as_before(processor):
    for kind in ("eager", "sdpa"):
        model = extend_causal_lm(text_lm(attn_implementation=kind), processor)
        assert model.language_model.config._attn_implementation == kind


# ------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_extended_is_refused_and_unchanged(processor, codec):
    lm = text_lm()
    without = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), codebook_size=45)
    for call, error, said in [
        (lambda: extend_causal_lm(lm, without), ValueError, "no codec"),
        (lambda: extend_causal_lm(lm, processor, head="joint"), ValueError, "`mode` is 'joint'"),
        (lambda: extend_causal_lm(lm, processor, embedding="onehot"), ValueError, "`mode` is 'onehot'"),
        (lambda: extend_causal_lm(codec, processor), TypeError, "`lm` is a L3ACModel"),
    ]:
        with pytest.raises(error, match=said):
            call()
    assert lm.config.vocab_size == lm.get_input_embeddings().num_embeddings == ROWS
    extended = extend_causal_lm(lm, processor)
    with pytest.raises(ValueError, match="extended before"):
        extend_causal_lm(extended, processor)
    with pytest.raises(ValueError, match="either `input_ids` or `inputs_embeds`"):
        extended()
