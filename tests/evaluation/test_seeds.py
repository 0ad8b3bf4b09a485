"""The test over cases and seeds: against scipy where one of both varies, and by simulation where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from synseg_jax.evaluation.seeds import crossed_test, p_of_mean


def _differences(rng, case, seed, residual, mean=0.0, cases=12, seeds=3):
    """Standard deviations over cases, over seeds and of each single value."""
    return (
        mean
        + case * rng.normal(size=(cases, 1))
        + seed * rng.normal(size=(1, seeds))
        + residual * rng.normal(size=(cases, seeds))
    )


def _significant(count=400, **how):
    rng = np.random.default_rng(0)
    return np.mean([p_of_mean(_differences(rng, **how)) < 0.05 for _ in range(count)])


def test_it_is_a_t_test_where_one_of_both_varies():
    rng = np.random.default_rng(1)
    only_cases = _differences(rng, 1.0, 0.0, 0.0, 0.5)
    assert p_of_mean(only_cases) == pytest.approx(stats.ttest_1samp(only_cases[:, 0], 0).pvalue)
    only_seeds = _differences(rng, 0.0, 1.0, 0.0, 2.0)
    assert p_of_mean(only_seeds) == pytest.approx(stats.ttest_1samp(only_seeds[0], 0).pvalue)
    assert p_of_mean(np.zeros((6, 3))) == 1.0 and p_of_mean(np.ones((6, 3))) < 1e-12


def test_mean_squares_of_another_library():
    """Those of statsmodels 0.15, anova_lm(ols('d ~ C(case) + C(seed)'))."""
    d = np.random.default_rng(8).normal(size=(6, 3)) + np.arange(6)[:, None] + [0.0, 0.9, 1.8]
    of_cases, of_seeds, residual = 22.589337323, 5.170912382, 0.983433072
    variance = of_cases + of_seeds - residual
    freedom = variance**2 / (of_cases**2 / 5 + of_seeds**2 / 2 + residual**2 / 10)
    expected = 2 * stats.t.sf(abs(d.mean()) / np.sqrt(variance / d.size), freedom)
    assert p_of_mean(d) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    'how',
    [
        {'case': 0.0, 'seed': 1.0, 'residual': 1.0},
        {'case': 0.0, 'seed': 3.0, 'residual': 0.5},
        {'case': 1.0, 'seed': 0.0, 'residual': 1.0},
        {'case': 1.0, 'seed': 0.5, 'residual': 1.0},
    ],
)
def test_noise_is_rarely_called_a_difference(how):
    assert _significant(**how) < 0.09  # .05 and three standard errors


def test_wilcoxon_would_call_the_noise_of_seeds_a_difference():
    rng = np.random.default_rng(0)
    drawn = [_differences(rng, 0.0, 1.0, 1.0) for _ in range(100)]
    assert np.mean([stats.wilcoxon(d.mean(1)).pvalue < 0.05 for d in drawn]) > 0.3


def test_a_real_difference_is_found():
    assert _significant(case=0.7, seed=0.1, residual=0.3, mean=1.0) > 0.9


def test_pairs_by_case_and_seed():
    """What any seed lacks is left out, however the cases are ordered."""
    d = _differences(np.random.default_rng(2), 1.0, 0.5, 1.0, 0.8, cases=9)
    second = {seed: {f'c{i}': 0.5 for i in reversed(range(9))} for seed in range(4)}
    first = {seed: {f'c{i}': 0.5 + d[i, seed] for i in range(9)} for seed in range(3)}
    assert crossed_test(first, second) == (pytest.approx(p_of_mean(d)), 9, 0, 3)
    first[1]['c2'], second[2]['c5'] = None, float('nan')
    kept = [i for i in range(9) if i not in (2, 5)]
    assert crossed_test(first, second) == (pytest.approx(p_of_mean(d[kept])), 7, 2, 3)


def test_too_few_cases_and_seeds():
    values = {f'c{i}': i / 10 for i in range(5)}
    assert crossed_test({0: values}, {0: values, 1: values}) == (None, 5, 0, 1)
    assert crossed_test({}, {0: values}) == (None, 0, 0, 0)
    few = {case: values[case] for case in ('c0', 'c1', 'c2', 'c3')}
    assert crossed_test({0: few, 1: few}, {0: values, 1: values}) == (None, 4, 1, 2)
    assert crossed_test({0: values, 1: values}, {0: values, 1: values}).p == 1.0
