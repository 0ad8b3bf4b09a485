"""Tests of means against scipy and by enumeration, Holm's correction by hand, intervals against their definition."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from synseg_jax.evaluation import statistics


def system(values):
    return {f'case {i}': value for i, value in enumerate(values)}


def test_signed_rank_counts_the_signs():
    """Without ties, p is the share of all sign patterns whose rank sum is as far from the middle."""
    rng = np.random.default_rng(0)
    first, second = rng.random(9) + 0.1, rng.random(9)
    ranks = stats.rankdata(np.abs(first - second))
    middle = ranks.sum() / 2
    seen = abs(ranks[first > second].sum() - middle)
    patterns = [abs(ranks[np.array(signs)].sum() - middle) >= seen for signs in product([False, True], repeat=9)]
    test = statistics.signed_rank(system(first), system(second))
    assert test == (pytest.approx(np.mean(patterns)), 9, 0)
    assert test.p == pytest.approx(stats.wilcoxon(first, second).pvalue)


def test_signed_rank_pairs_by_case_and_counts_what_it_leaves_out():
    rng = np.random.default_rng(1)
    values = rng.random(20)
    first, second = system(values), system(values + 0.1 * rng.random(20) - 0.04)
    shuffled = dict(sorted(second.items(), key=lambda item: item[1]))
    shuffled['case 3'], first['case 4'] = None, float('nan')
    del shuffled['case 5']
    first['only here'] = 0.5
    kept = [case for case in second if case not in ('case 3', 'case 4', 'case 5')]
    expected = stats.wilcoxon([first[case] - second[case] for case in kept]).pvalue
    assert statistics.signed_rank(first, shuffled) == (pytest.approx(expected), 17, 4)


def test_too_few_pairs_and_no_difference():
    few = system([0.1, 0.2, 0.3, 0.4])
    assert statistics.signed_rank(few, system([0.5, 0.6, 0.7, 0.9])) == (None, 4, 0)
    assert statistics.signed_rank({}, few) == (None, 0, 4)
    same = system([0.1, 0.2, 0.3, 0.4, 0.5])
    assert statistics.signed_rank(same, same) == (1.0, 5, 0)
    assert statistics.signed_rank(system(range(5)), system([9] * 5)).p == 2 / 2**5  # all signs equal


def test_rank_sum_counts_the_ways_to_deal():
    """Without ties, p is the share of all deals of the values whose rank sum is as far from the middle."""
    rng = np.random.default_rng(3)
    first, second = rng.random(5) + 0.3, rng.random(4)
    ranks = stats.rankdata([*first, *second])
    seen = abs(ranks[:5].sum() - 25)
    deals = [abs(sum(deal) - 25) >= seen for deal in combinations(range(1, 10), 5)]
    test = statistics.rank_sum([*first, None], [float('nan'), *second])
    assert test == (pytest.approx(np.mean(deals)), 5, 4) and 0 < test.p < 1
    assert statistics.rank_sum(second, first).p == pytest.approx(test.p)


def test_rank_sum_of_too_few_and_of_equal_values():
    assert statistics.rank_sum([0.1, 0.2, 0.3], [0.7, 0.8, 0.9, 1.0]) == (None, 3, 4)
    assert statistics.rank_sum([], []) == (None, 0, 0)
    assert statistics.rank_sum([0.5] * 4, [0.5] * 6) == (1.0, 4, 6)
    assert statistics.rank_sum(range(4), range(4, 8)).p == pytest.approx(2 / 70)  # the least that four and four reach


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1 is .04 .06 .06 .04, and no smaller than the one before
    assert statistics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.5, None, 0.6]) == [1, None, 1]
    assert statistics.holm([0.02]) == [0.02]
    assert statistics.holm([]) == []


def test_mean_interval():
    values = np.random.default_rng(2).beta(8, 2, 200)
    low, high = statistics.mean_interval([*values, None, float('nan')])
    half = stats.norm.ppf(0.975) * values.std(ddof=1) / values.size**0.5  # the central limit is near at 200 cases
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert (low, high) == statistics.mean_interval(values)
    assert (low, high) != statistics.mean_interval(values, seed=1)
    narrow = statistics.mean_interval(values, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_interval_leans_to_the_long_tail():
    values = [0.95, 0.94, 0.93, 0.92, 0.91, 0.1]
    low, high = statistics.mean_interval(values)
    assert np.mean(values) - low > 2 * (high - np.mean(values))


def test_interval_of_few_and_of_equal_values():
    assert statistics.mean_interval([0.1, 0.9]) is None
    assert statistics.mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    low, high = statistics.mean_interval([0.0, 0.0, 0.9])
    assert 0 <= low < high <= 0.9
