"""Means over clips and data sets, and their confidence intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l3ac_tokenizer.evaluation.statistics import NO_MEAN, Mean, mean_of_means, mean_with_interval, pooled_mean


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_with_interval(list(values))
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_one_clip_has_no_interval_and_none_has_no_mean():
    assert mean_with_interval([3.0]) == Mean(1, 3.0, None)
    assert mean_with_interval([]) == NO_MEAN


def test_pooled_clips_count_by_their_denominators():
    assert pooled_mean([(1, 10), (3, 10), (0, 20)]).mean == 4 / 40
    assert pooled_mean([(0, 0), (0, 0)]) == NO_MEAN


def test_every_data_set_counts_the_same():
    large, small = [(1.0, 1.0)] * 98, [(0.0, 1.0)] * 2
    found = mean_of_means([large, small, []])
    assert (found.mean, found.count, found.interval) == (0.5, 100, (0.5, 0.5))


def test_the_interval_over_data_sets_is_that_of_independent_means():
    random = np.random.default_rng(0)
    sets = [random.normal(center, 1, 100) for center in (0, 5, 10)]
    found = mean_of_means([[(value, 1.0) for value in values] for values in sets])
    half = 1.96 * np.sqrt(sum(values.var() / 100 for values in sets)) / 3
    assert np.diff(found.interval)[0] / 2 == pytest.approx(half, rel=0.1)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_mean_lies_in_its_interval_and_that_within_the_values(values):
    found = mean_with_interval(values)
    low, high = found.interval
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
