"""Codecs of both families with the interfaces of DASB and SpeechBrain."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from networks import speech_like, tiny, tiny_streams

from l3ac_tokenizer.speechbrain import L3AC, L3ACTokenizer

SAMPLES = [700, 1203, 40]


@pytest.fixture(params=["tiny", "tiny-light", "tiny-taae"])
def codec(request, tmp_path) -> str:
    tiny(request.param).save_pretrained(tmp_path / "codec")
    return str(tmp_path / "codec")


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (B, T) with noise in their padding, and relative lengths."""
    longest = max(SAMPLES)
    wave = 0.3 * torch.randn(len(SAMPLES), longest)
    for row, count in enumerate(SAMPLES):
        wave[row, :count] = speech_like(count, row)
    return wave, torch.tensor(SAMPLES) / longest


def test_the_ids_of_a_clip_are_its_own_and_padding_is_none(codec, batch):
    tokenizer = L3ACTokenizer(codec)
    wave, lengths = batch
    tokens = tokenizer.sig_to_tokens(wave, lengths)
    assert tokens.shape == (3, tokenizer.num_tokens(max(SAMPLES)), 1) and tokens.dtype == torch.int64
    for row, count in enumerate(SAMPLES):
        alone = tokenizer.sig_to_tokens(wave[row : row + 1, :count])
        assert torch.equal(tokens[row, : alone.shape[1]], alone[0])
        assert alone.shape[1] == tokenizer.num_tokens(count)
        assert (tokens[row, alone.shape[1] :] == 0).all()


def test_audio_of_a_clip_is_its_own(codec, batch):
    tokenizer = L3ACTokenizer(codec)
    wave, _ = batch
    tokens = tokenizer.sig_to_tokens(wave)
    count = tokens.shape[1] // 2
    audio = tokenizer.tokens_to_sig(tokens, length=torch.tensor([1.0, count / tokens.shape[1], 1.0]))
    assert audio.shape == (3, tokens.shape[1] * tokenizer.model.config.hop_length)
    alone = tokenizer.tokens_to_sig(tokens[1:2, :count])
    torch.testing.assert_close(audio[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
    assert (audio[1, alone.shape[1] :] == 0).all()


def test_embeddings_are_what_the_codec_decodes_the_ids_from(codec):
    tokenizer = L3ACTokenizer(codec)
    rows = tokenizer.get_pretrained_embeddings()
    width = {"l3ac": 16, "taae": 3}[tokenizer.model.config.model_type]  # TAAE decodes the digits' values themselves
    assert rows.shape == (tokenizer.vocab_size, width) == (45, width)
    ids = torch.tensor([0, 7, 44])
    assert torch.equal(rows[ids], tokenizer.model.quantizer.ids_to_features(ids))
    assert torch.equal(rows, tokenizer.get_pretrained_embeddings(vocab_size=45, num_codebooks=1))


def test_speechbrains_form_has_the_layout_of_its_wavtokenizer(codec, batch):
    wave, lengths = batch
    model, tokenizer = L3AC(codec), L3ACTokenizer(codec)
    tokens, embeddings = model.encode(wave, lengths)
    assert torch.equal(tokens.movedim(1, 2), tokenizer.sig_to_tokens(wave, lengths))
    last = model.num_tokens(SAMPLES[0])
    assert torch.equal(embeddings[0, :last], tokenizer.get_pretrained_embeddings()[tokens[0, 0, :last]])
    assert (embeddings[0, last:] == 0).all()
    same_tokens, _, audio = model(wave, lengths)
    assert torch.equal(same_tokens, tokens) and audio.shape == wave.shape
    assert torch.equal(model.encode(wave[:, None], lengths)[0], tokens)


def test_a_frozen_codec_stays_as_it_is_in_training(codec, batch):
    model = L3AC(codec).train()
    assert model.training and not model.model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert L3AC(codec, freeze=False).train().model.training


def test_what_one_codebook_cannot_do_is_refused(codec, batch):
    tokenizer = L3ACTokenizer(codec)
    for asked in (2, 0, -1, [1], [0, 1], []):
        with pytest.raises(ValueError, match="this codec has 1: give at most so many"):
            tokenizer.sig_to_tokens(batch[0], num_codebooks=asked)
        with pytest.raises(ValueError, match="this codec has 1: give at most so many"):
            tokenizer.get_pretrained_embeddings(num_codebooks=asked)
    with pytest.raises(ValueError, match="`vocab_size` is 1024; it must be 45 or None"):
        tokenizer.get_pretrained_embeddings(vocab_size=1024)
    with pytest.raises(ValueError, match="works at 16000 Hz"):
        L3ACTokenizer(codec, sample_rate=24_000)


def test_streams_of_small_ids_are_codebooks(batch, tmp_path):
    tiny_streams().save_pretrained(tmp_path)
    wave, lengths = batch
    tokenizer = L3ACTokenizer(str(tmp_path))
    tokens = tokenizer.sig_to_tokens(wave, lengths, num_codebooks=2)
    assert tokens.shape == (3, tokenizer.num_tokens(max(SAMPLES)), 2) and tokens.max() < tokenizer.vocab_size == 27
    assert tokenizer.tokens_to_sig(tokens).shape == (3, tokens.shape[1] * 12)
    assert torch.equal(tokenizer.sig_to_tokens(wave, lengths, num_codebooks=1), tokens[..., :1])
    assert torch.equal(tokenizer.sig_to_tokens(wave, lengths, num_codebooks=[1]), tokens[..., 1:])
    assert torch.equal(tokenizer.sig_to_tokens(wave, lengths, num_codebooks=[1, 0]), tokens.flip(-1))
    with pytest.raises(ValueError, match=r"it must be \(batch, 2, frames\)"):
        tokenizer.tokens_to_sig(tokens[..., :1])
    _, features, _ = tokenizer(wave, lengths)
    assert features.shape == (3, tokens.shape[1], 3)
    with pytest.raises(ValueError, match=r"call model.decompose\(1\) first"):
        tokenizer.get_pretrained_embeddings()


def test_the_bundled_codec_has_the_shapes_of_the_docstrings():
    tokenizer = L3ACTokenizer("l3ac-1k")
    tokens = tokenizer.sig_to_tokens(0.1 * torch.randn(2, 16_000), torch.tensor([1.0, 0.5]))
    assert tokens.shape == (2, 60, 1)
    assert tokenizer.tokens_to_sig(tokens).shape == (2, 16_200)
    assert tokenizer.get_pretrained_embeddings().shape == (117_649, 128)


# --- as DASB calls it: speechbrain/benchmarks 563a645, 44d3167 for enhancement, 205b05b for separation ----------------


def test_the_token_extraction_of_dasb(codec, batch):
    tokenizer = L3ACTokenizer(codec, sample_rate=16_000).to("cpu")
    wave, lengths = batch
    for num_codebooks in (1, [0]):
        assert torch.equal(
            tokenizer.sig_to_tokens(wave, lengths, num_codebooks=num_codebooks), tokenizer.sig_to_tokens(wave, lengths)
        )
        rows = tokenizer.get_pretrained_embeddings(tokenizer.vocab_size, num_codebooks)
        assert np.array(rows.cpu().numpy()).shape[0] == tokenizer.vocab_size
    assert np.array(tokenizer.sig_to_tokens(wave[:1])[0]).shape == (tokenizer.num_tokens(wave.shape[1]), 1)
    assert tokenizer.sample_rate == 16_000


def test_the_recognition_of_dasb_without_extraction(codec, batch):
    tokenizer = L3ACTokenizer(codec).eval().to("cpu")
    tokens = tokenizer.sig_to_tokens(*batch, num_codebooks=1).cpu()
    embedding = torch.nn.Embedding(tokenizer.vocab_size, tokenizer.get_pretrained_embeddings().shape[1])
    rows = tokenizer.get_pretrained_embeddings(device="cpu", num_codebooks=1, vocab_size=tokenizer.vocab_size)
    embedding.weight.data.copy_(rows)
    tokens += torch.arange(0, tokenizer.vocab_size, tokenizer.vocab_size)  # in place, as its embedding layer does
    assert embedding(tokens).shape[:3] == tokens.shape


def test_the_speech_synthesis_of_dasb(codec):
    tokenizer = L3ACTokenizer(codec)
    tokenizer.device = "cpu"
    assert not hasattr(tokenizer, "codec_vocoder")
    tokens = tokenizer.sig_to_tokens(torch.zeros(1, 1200), torch.ones(1), num_codebooks=1)
    silence = tokens.squeeze(0).mode(0).values
    assert silence.shape == (1,)
    audio = tokenizer.tokens_to_sig(tokens.int(), **{})  # int32, from VALL-E's prompts
    assert torch.equal(audio, tokenizer.tokens_to_sig(tokens)) and audio.shape == (1, 1200)


def test_the_enhancement_of_dasb(codec, batch):
    make = functools.partial(L3ACTokenizer, source=codec, sample_rate=16_000)  # what `!name:` makes
    tokenizer = make()
    tokenizer.to("cpu").eval()
    tokenizer.device = "cpu"
    wave, lengths = batch
    targets = tokenizer.sig_to_tokens(wave, lengths, num_codebooks=1)
    scores = torch.nn.functional.one_hot(targets, tokenizer.vocab_size).float()  # (B, N, K, C), a perfect network
    tokens = scores.log_softmax(dim=-1).argmax(dim=-1)
    assert torch.equal(tokens, targets)
    audio = tokenizer.tokens_to_sig(tokens)
    assert audio.shape[0] == len(wave) and audio.shape[1] >= wave.shape[1] and audio.dtype == torch.float32
    assert audio.narrow(-1, 0, wave.shape[1]).shape == wave.shape


def test_the_separation_of_dasb(codec):
    sources, model = 2, L3ACTokenizer(codec)
    assert type(model).__name__ == "L3ACTokenizer"  # what its `_get_encdec_helper` is to know
    mixture, clean = speech_like(1200, 1)[None], torch.stack([speech_like(1200, seed) for seed in (2, 3)])
    model.to("cpu").eval()
    tokens = model.encode(torch.cat([mixture, clean]))[0].permute(0, 2, 1)  # (B (1 + S), N, K)
    inputs, targets = tokens.split([1, sources])
    targets = targets.reshape(1, sources, -1, 1).movedim(-2, -3)  # (B, N, S, K)
    assert inputs.shape[1] == targets.shape[1] == model.num_tokens(1200)
    flat = targets.movedim(-2, -3).contiguous().flatten(end_dim=1)  # (B S, N, K)
    audio = model.decode(flat.movedim(-1, -2)).clone()
    assert audio.shape == (sources, 1200)
    torch.testing.assert_close(audio[1], model.decode(model.encode(clean[1:])[0])[0], atol=1e-5, rtol=0)


def test_the_vocabulary_of_dasb_is_the_pretrained_embeddings(codec):
    tokenizer = L3ACTokenizer(codec)
    rows = tokenizer.get_pretrained_embeddings()
    assert torch.equal(tokenizer.vocabulary.reshape(-1, rows.shape[1]), rows)
