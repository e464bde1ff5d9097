"""Text-to-speech model from characters to ids."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from l3ac_tokenizer.speechbrain.tts import Characters, TokenTTS, gate_targets, sinusoids

TEXTS = [7, 4]
COUNTS = [9, 6]


@pytest.fixture
def model(tiny_model, tmp_path) -> TokenTTS:
    tiny_model.save_pretrained(tmp_path / "codec")
    return TokenTTS(
        str(tmp_path / "codec"), num_characters=12, d_model=16, nhead=2, enc_layers=2, dec_layers=2, d_ffn=32
    ).eval()


@pytest.fixture
def batch():
    """Two texts and clips with arbitrary characters and ids in their padding, and relative lengths."""
    text, ids = torch.randint(1, 12, (2, max(TEXTS))), torch.randint(45, (2, max(COUNTS)))
    return text, torch.tensor(TEXTS) / max(TEXTS), ids, torch.tensor(COUNTS) / max(COUNTS)


@torch.no_grad()
def test_a_clip_is_scored_the_same_in_any_batch(model, batch):
    text, _, ids, _ = batch
    together = model(*batch)
    for row, (characters, count) in enumerate(zip(TEXTS, COUNTS, strict=True)):
        one = torch.ones(1)
        alone = model(text[row : row + 1, :characters], one, ids[row : row + 1, :count], one)
        torch.testing.assert_close(together.nats[row, :count], alone.nats[0])
        torch.testing.assert_close(together.gate[row, : count + 1], alone.gate[0])
        torch.testing.assert_close(together.alignments[row, : count + 1, :characters], alone.alignments[0])
        assert (together.nats[row, count:] == 0).all()
        assert (together.alignments[row, :, characters:] == 0).all()


@torch.no_grad()
def test_an_id_is_predicted_from_those_before_it_only(model, batch):
    text, text_lengths, ids, lengths = batch
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 45
    difference = (model(*batch).gate - model(text, text_lengths, changed, lengths).gate)[0].abs()
    assert (difference[:6] == 0).all() and (difference[6:] > 0).all()


@torch.no_grad()
def test_step_by_step_with_the_cache_is_what_the_whole_sequence_says(model, batch):
    text, text_lengths, _, _ = batch
    spoken = model.speak(text, text_lengths, max_ids=8, temperature=0, gate_threshold=1.0)
    for row, characters in enumerate(TEXTS):
        ids = spoken[row].ids[None]
        assert ids.shape == (1, 8) and not spoken[row].finished
        one = torch.ones(1)
        whole = model(text[row : row + 1, :characters], one, ids, one)
        torch.testing.assert_close(spoken[row].alignment[:, :characters], whole.alignments[0, :-1])
        # Greedy digits: no other last digit of the chain is more probable.
        for other in range(45):
            if other % 15 == ids[0, -1] % 15:
                replaced = ids.clone()
                replaced[0, -1] = other
                assert model(text[row : row + 1, :characters], one, replaced, one).nats[0, -1] >= whole.nats[0, -1]


@torch.no_grad()
def test_the_gate_ends_each_clip_for_itself(model, batch):
    text, text_lengths, _, _ = batch
    for bias, length, finished in ((50.0, 1, True), (-50.0, 6, False)):
        model.gate.bias.fill_(bias)
        for spoken in model.speak(text, text_lengths, max_ids=6):
            assert len(spoken.ids) == len(spoken.alignment) == length
            assert spoken.finished == finished


def test_draws_repeat_with_the_seed(model, batch):
    draws = [
        model.speak(*batch[:2], 8, gate_threshold=1.0, generator=torch.Generator().manual_seed(seed))[0].ids.tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_no_length_is_refused(model, batch):
    with pytest.raises(ValueError, match="`max_ids` is 0"):
        model.speak(*batch[:2], 0)


@pytest.mark.parametrize("head", ["chained", "independent", "split", "full"])
@pytest.mark.parametrize("embedding", ["codes", "codec"])
def test_every_head_and_embedding_learns_and_speaks(tiny_model, tmp_path, batch, head, embedding):
    tiny_model.save_pretrained(tmp_path / "codec")
    model = TokenTTS(str(tmp_path / "codec"), 12, embedding, head, 16, 2, 1, 1, 32)
    output = model(*batch)
    (output.nats.sum() + output.gate.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert output.nats[0].mean() < 2 * math.log(45)
    assert model.eval().speak(*batch[:2], 3)[0].ids.max() < 45


def test_gate_targets_are_one_at_the_end_and_nothing_after_it():
    targets = gate_targets(torch.tensor([3, 1]), 4)
    assert targets[0].tolist() == [0, 0, 0, 1]
    assert targets[1][:2].tolist() == [0, 1] and targets[1][2:].isnan().all()


def test_positions_are_told_apart_by_their_distance():
    table = sinusoids(torch.arange(50), 16)
    products = F.normalize(table) @ F.normalize(table).T
    for distance in (1, 7, 20):
        torch.testing.assert_close(products.diagonal(distance), products[0, distance].expand(50 - distance))


def test_characters_that_are_not_known_are_left_out():
    characters = Characters(" abc")
    assert characters("Cab 7a").tolist() == [4, 2, 3, 1, 2]
    assert len(characters) == 5
    assert Characters("abC", lower=False)("aC").tolist() == [1, 3]
    assert characters.known("(A 1b)") == "a b"
