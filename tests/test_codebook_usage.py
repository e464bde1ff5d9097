from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3ac_tokenizer.codebook_usage import huffman_bits, usage, usage_of_counts

COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(any)


@given(COUNTS)
def test_use_of_symbols_is_that_of_their_counts(counts):
    symbols = np.repeat(np.arange(len(counts)), counts)
    assert usage(symbols, len(counts)) == usage_of_counts(np.array(counts))


def test_even_and_single_use():
    even = usage_of_counts(np.full(8, 5))
    assert (even.count, even.size, even.used, even.entropy, even.normalized_entropy) == (40, 8, 8, 3.0, 1.0)
    assert even.entropy_miller_madow == pytest.approx(3 + 7 / 80 / math.log(2))
    single = usage_of_counts(np.array([0, 9, 0]))
    assert (single.entropy, single.entropy_miller_madow, single.used) == (0.0, 0.0, 1)


@given(COUNTS)
def test_huffman_words_are_within_a_bit_of_the_entropy(counts):
    entropy = usage_of_counts(np.array(counts)).entropy
    bits = huffman_bits(np.array(counts))
    assert entropy - 1e-9 <= bits < entropy + 1 or (entropy == 0 and bits == 1)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_huffman_words_are_the_shortest_of_all_prefix_codes(counts):
    """By Kraft's inequality lengths belong to a prefix code if and only if their 2^-l sum to at most 1."""
    lengths = itertools.product(range(1, len(counts)), repeat=len(counts))
    best = min(
        sum(length * count for length, count in zip(each, counts, strict=True))
        for each in lengths
        if sum(2.0**-length for length in each) <= 1
    )
    assert huffman_bits(np.array(counts)) == pytest.approx(best / sum(counts))


def test_nothing_to_measure_is_refused():
    for measure in (usage_of_counts, huffman_bits):
        with pytest.raises(ValueError, match="no symbols"):
            measure(np.zeros(4, dtype=int))
    with pytest.raises(ValueError, match=r"0 … 9 do not fit in 0 … 8"):
        usage(np.array([0, 9]), 9)
