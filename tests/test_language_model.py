"""Embeddings and heads of ids, compared with enumeration of all ids for few levels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from l3ac_tokenizer import FSQEmbedding, FSQHead
from l3ac_tokenizer.language_model import EMBEDDING_MODES, HEAD_MODES, IGNORED_ID
from l3ac_tokenizer.quantization import digits_to_ids, digits_to_values, ids_to_digits

SMALL_LEVELS = [(5, 3, 3), (3, 5), (7, 3, 5, 3), (6, 4)]
WIDTH = 12


def sharp_head(levels, mode) -> FSQHead:
    """A head whose distributions are far from uniform."""
    head = FSQHead(WIDTH, levels, mode)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)
    return head


def every_id(levels) -> torch.Tensor:
    return torch.arange(math.prod(levels))


def distribution(head: FSQHead, hidden: torch.Tensor) -> torch.Tensor:
    """Probabilities (B, codebook) of every id for features (B, D)."""
    ids = every_id(head.levels).expand(len(hidden), -1)
    return head.log_prob(hidden[:, None].expand(-1, ids.shape[1], -1), ids).exp()


# ---------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("levels", SMALL_LEVELS)
@pytest.mark.parametrize("mode", EMBEDDING_MODES)
def test_every_id_has_its_own_features_of_variance_one(levels, mode):
    features = FSQEmbedding(levels, 2048, mode)(every_id(levels))
    assert features.shape == (math.prod(levels), 2048)
    assert torch.pdist(features).min() > 1
    assert features.square().mean().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("mode", EMBEDDING_MODES)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 0), (2, 1, 3)])
def test_features_depend_on_the_id_alone_whatever_the_shape(mode, shape):
    embedding = FSQEmbedding((5, 3, 3), WIDTH, mode)
    ids = torch.randint(45, shape)
    assert torch.allclose(embedding(ids), embedding(every_id((5, 3, 3)))[ids], atol=1e-6)


def test_codes_are_a_linear_map_of_the_values_the_codec_decodes():
    levels = (5, 3, 3)
    embedding = FSQEmbedding(levels, WIDTH, "codes")
    values = digits_to_values(ids_to_digits(every_id(levels), levels), levels)
    assert torch.allclose(embedding(every_id(levels)), embedding.codes(values))


def test_digits_are_a_sum_of_one_table_a_digit():
    levels = (5, 3, 3)
    embedding = FSQEmbedding(levels, WIDTH, "digits")
    tables = embedding.digits.weight.split(levels)
    for identity, digits in enumerate(ids_to_digits(every_id(levels), levels).tolist()):
        wanted = sum(table[digit] for table, digit in zip(tables, digits, strict=True))
        assert torch.allclose(embedding(torch.tensor(identity)), wanted, atol=1e-6)


def test_a_table_from_codes_starts_linear_in_the_values_and_learns_each_row_apart():
    levels = (5, 3, 3)
    embedding = FSQEmbedding(levels, WIDTH, "table_from_codes")
    values = digits_to_values(ids_to_digits(every_id(levels), levels), levels)
    fitted = torch.linalg.lstsq(values, embedding.table.weight).solution
    assert torch.allclose(values @ fitted, embedding.table.weight, atol=1e-5)
    embedding(torch.tensor([7])).sum().backward()
    assert embedding.table.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [7]


def test_factorised_layers_stay_small_on_the_large_codebook():
    levels = (7,) * 6
    embedding, head = FSQEmbedding(levels, 256), FSQHead(256, levels)
    assert sum(p.numel() for module in (embedding, head) for p in module.parameters()) < 100_000
    ids = torch.tensor([0, 117_648])
    assert head.log_prob(embedding(ids), ids).shape == (2,)


# ---------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("levels", SMALL_LEVELS)
@pytest.mark.parametrize("mode", HEAD_MODES)
def test_probabilities_of_all_ids_sum_to_one(levels, mode):
    probabilities = distribution(sharp_head(levels, mode), torch.randn(4, WIDTH))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(4), atol=1e-5)
    assert probabilities.max() > 3 / math.prod(levels)


@pytest.mark.parametrize("levels", SMALL_LEVELS)
@pytest.mark.parametrize("mode", HEAD_MODES)
@pytest.mark.parametrize("shape", [(), (4,), (2, 0), (2, 3)])
def test_log_probabilities_of_all_ids_are_those_of_each(levels, mode, shape):
    head, hidden = sharp_head(levels, mode), torch.randn(*shape, WIDTH)
    found = head.log_probs(hidden)
    assert found.shape == (*shape, math.prod(levels)) and found.dtype == torch.float32
    each = head.log_prob(
        hidden[..., None, :].expand(*shape, math.prod(levels), WIDTH), every_id(levels).expand_as(found)
    )
    assert torch.allclose(found, each, atol=1e-5)


@pytest.mark.parametrize("mode", HEAD_MODES)
@pytest.mark.parametrize("shape", [(), (4,), (2, 0), (2, 3)])
def test_log_probabilities_have_the_shape_of_the_ids(mode, shape):
    head, hidden, ids = sharp_head((5, 3, 3), mode), torch.randn(*shape, WIDTH), torch.randint(45, shape)
    found = head.log_prob(hidden, ids)
    assert found.shape == shape
    for one in itertools.product(*map(range, shape)):
        assert torch.allclose(found[one], distribution(head, hidden[one][None])[0, ids[one]].log(), atol=1e-5)


@pytest.mark.parametrize("mode", HEAD_MODES)
def test_loss_is_the_mean_of_minus_log_prob_over_the_ids_that_count(mode):
    head, hidden = sharp_head((5, 3, 3), mode), torch.randn(2, 7, WIDTH)
    ids = torch.randint(45, (2, 7))
    assert torch.allclose(head.loss(hidden, ids), -head.log_prob(hidden, ids).mean())
    padded = ids.clone()
    padded[1, 4:] = IGNORED_ID
    counted = torch.cat([head.log_prob(hidden[0], ids[0]), head.log_prob(hidden[1, :4], ids[1, :4])])
    assert torch.allclose(head.loss(hidden, padded), -counted.mean())


@pytest.mark.parametrize("mode", ["chained", "split"])
def test_a_chained_head_conditions_each_group_on_those_before_it_and_on_none_after(mode):
    levels = (5, 3, 3)
    head, hidden = sharp_head(levels, mode), torch.randn(1, WIDTH)
    joint = distribution(head, hidden)[0].reshape(3, 3, 5)  # the first digit is fastest
    first = 5 if mode == "chained" else 15
    groups = joint.reshape(-1, first)  # (rest, first group)
    conditional = groups / groups.sum(dim=0)
    assert (conditional[:, 0] - conditional[:, 1]).abs().max() > 0.01
    readout = head.readouts[0](torch.nn.functional.silu(head.hidden(hidden))).softmax(-1)
    assert torch.allclose(groups.sum(dim=0), readout[0], atol=1e-6)


def test_an_independent_head_is_a_product_of_its_digits():
    levels = (5, 3, 3)
    joint = distribution(sharp_head(levels, "independent"), torch.randn(1, WIDTH))[0].reshape(3, 3, 5)
    product = torch.einsum("c,b,a->cba", joint.sum((1, 2)), joint.sum((0, 2)), joint.sum((0, 1)))
    assert torch.allclose(joint, product, atol=1e-6)


def test_a_full_head_is_one_softmax():
    head, hidden = sharp_head((5, 3, 3), "full"), torch.randn(4, WIDTH)
    assert torch.allclose(distribution(head, hidden), head.readouts[0](hidden).softmax(-1), atol=1e-6)


@pytest.mark.parametrize("mode", ["chained", "split", "full"])
def test_a_distribution_with_dependent_digits_can_be_learned(mode):
    """Two ids that differ in all digits, with probability 1/2 each: independent digits cost 2 bits more."""
    levels = (3, 3, 3)
    ids = digits_to_ids(torch.tensor([[0, 0, 0], [2, 2, 2]]), levels).repeat(8)
    head, hidden = FSQHead(WIDTH, levels, mode), torch.ones(16, WIDTH)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(hidden, ids).backward()
        optimizer.step()
    assert head.loss(hidden, ids).item() == pytest.approx(math.log(2), abs=0.02)


# ---------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("mode", HEAD_MODES)
def test_ids_are_drawn_as_often_as_their_probability_says(mode):
    head, hidden, draws = sharp_head((5, 3, 3), mode), torch.randn(1, WIDTH), 40_000
    ids = head.sample(hidden.expand(draws, -1))
    frequencies = torch.bincount(ids, minlength=45) / draws
    probabilities = distribution(head, hidden)[0]
    deviation = (probabilities * (1 - probabilities) / draws).sqrt()
    assert ((frequencies - probabilities).abs() < 5 * deviation + 1e-4).all()


@pytest.mark.parametrize("mode", HEAD_MODES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_samples_have_the_shape_of_the_features_and_repeat_with_the_generator(mode, shape):
    head, hidden = sharp_head((5, 3, 3), mode), torch.randn(*shape, WIDTH)
    first, second = (head.sample(hidden, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == shape and first.dtype == torch.int64
    assert torch.equal(first, second)


def test_temperature_raises_probabilities_to_its_inverse():
    head, hidden = sharp_head((5, 3, 3), "full"), torch.randn(1, WIDTH)
    wanted = distribution(head, hidden)[0] ** 2
    frequencies = torch.bincount(head.sample(hidden.expand(40_000, -1), temperature=0.5), minlength=45) / 40_000
    assert torch.allclose(frequencies, wanted / wanted.sum(), atol=0.015)


def test_temperature_zero_takes_the_most_probable_digit_given_those_before():
    head, hidden = sharp_head((5, 3, 3), "chained"), torch.randn(1, WIDTH)
    joint = distribution(head, hidden)[0].reshape(3, 3, 5)
    first = joint.sum((0, 1)).argmax()
    second = joint[:, :, first].sum(0).argmax()
    third = joint[:, second, first].argmax()
    wanted = digits_to_ids(torch.stack([first, second, third]), (5, 3, 3))
    assert head.sample(hidden, temperature=0).item() == wanted


def test_top_p_of_a_full_head_keeps_the_smallest_set_of_ids_that_reaches_it():
    head, hidden = sharp_head((5, 3, 3), "full"), torch.randn(1, WIDTH)
    probabilities, order = distribution(head, hidden)[0].sort(descending=True)
    size = int((probabilities.cumsum(0) < 0.6).sum()) + 1
    drawn = head.sample(hidden.expand(20_000, -1), top_p=0.6)
    assert set(drawn.tolist()) == set(order[:size].tolist())


def test_top_p_of_a_chained_head_acts_on_each_digit_given_those_before():
    levels = (5, 3, 3)
    head, hidden, top_p = sharp_head(levels, "chained"), torch.randn(1, WIDTH), 0.6
    joint = distribution(head, hidden)[0].reshape(3, 3, 5)

    def nucleus(weights: torch.Tensor) -> list[int]:
        probabilities, order = (weights / weights.sum()).sort(descending=True)
        return order[: int((probabilities.cumsum(0) < top_p).sum()) + 1].tolist()

    allowed = {
        a + 5 * b + 15 * c
        for a in nucleus(joint.sum((0, 1)))
        for b in nucleus(joint[:, :, a].sum(0))
        for c in nucleus(joint[:, b, a])
    }
    assert len(allowed) < 45
    assert set(head.sample(hidden.expand(20_000, -1), top_p=top_p).tolist()) == allowed


# ---------------------------------------------------------------------------------------------- types and errors


@pytest.mark.parametrize("mode", HEAD_MODES)
def test_bfloat16_layers_give_float32_log_probabilities_near_those_of_float32(mode):
    head = FSQHead(WIDTH, (5, 3, 3), mode)
    hidden, ids = torch.randn(6, WIDTH), torch.randint(45, (6,))
    wanted = head.log_prob(hidden, ids)
    found = head.to(torch.bfloat16).log_prob(hidden.to(torch.bfloat16), ids)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=0.1)


@pytest.mark.parametrize("mode", EMBEDDING_MODES)
def test_embeddings_follow_the_type_of_their_weights(mode):
    embedding = FSQEmbedding((5, 3, 3), WIDTH, mode).to(torch.bfloat16)
    assert embedding(every_id((5, 3, 3))).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: FSQEmbedding((3, 5), 4, "onehot"), "`mode` is 'onehot'; it must be one of codes, digits"),
        (lambda: FSQHead(4, (3, 5), "joint"), "`mode` is 'joint'; it must be one of chained, independent"),
        (lambda: FSQHead(4, (3,), "split"), "`groups` is 2; ids of 1 digits"),
        (lambda: FSQEmbedding((3, 5), 4)(torch.tensor([15])), "holds 15; ids are 0 to 14"),
        (lambda: FSQHead(4, (3, 5)).loss(torch.zeros(1, 4), torch.tensor([-1])), "holds -1; ids are 0 to 14"),
        (lambda: FSQHead(4, (3, 5)).sample(torch.zeros(1, 4), temperature=-1), "`temperature` is -1"),
        (lambda: FSQHead(4, (3, 5)).sample(torch.zeros(1, 4), top_p=0), "`top_p` is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()
