"""Systems trained from several seeds: is one better than another, given that cases and trainings both vary?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from synseg_jax.evaluation.statistics import MIN_PAIRS
from synseg_jax.evaluation.summary import is_number

Values = Mapping[int, Mapping[str, float | None]]  # {seed: {case: value}}


class CrossedTest(NamedTuple):
    """A test paired by case and seed: two-sided p, the cases and seeds that it saw, and the cases that it left out."""

    p: float | None
    pairs: int
    left_out: int
    seeds: int


def crossed_test(first: Values, second: Values) -> CrossedTest:
    """Analysis of variance of the differences of two systems, with cases and seeds as crossed random factors.

    A case that lacks a value for any of the common seeds, on either side, is left out and counted.  Fewer than
    `MIN_PAIRS` cases or two seeds have no p (None).
    """
    seeds = [seed for seed in first if seed in second]
    sides = [side[seed] for seed in seeds for side in (first, second)]
    everywhere = [case for case in (sides[0] if sides else ()) if all(is_number(side.get(case)) for side in sides)]
    left_out = len({case for side in sides for case in side}) - len(everywhere)
    if len(seeds) < 2 or len(everywhere) < MIN_PAIRS:
        return CrossedTest(None, len(everywhere), left_out, len(seeds))
    difference = [[first[seed][case] - second[seed][case] for seed in seeds] for case in everywhere]
    return CrossedTest(p_of_mean(np.array(difference, np.float64)), len(everywhere), left_out, len(seeds))


def p_of_mean(difference: Float[np.ndarray, 'cases seeds']) -> float:
    """Two-sided p that the mean over cases and seeds is 0, by a t test with Satterthwaite's degrees of freedom.

    The variance of the mean is (MS_cases + MS_seeds - MS_residual) / (cases * seeds), as in multi-reader multi-case
    studies (Hillis, Statistics in Medicine 2007), seeds being readers; no factor varies less than the residual.
    Where only one of the two varies it is the one-sample t test over it.  By simulation of 6 to 20 cases and 3 to 5
    seeds without a true difference, 0.3 to 6 % have p < 0.05, whichever varies; of Wilcoxon's test on the means over
    seeds up to 87 % do where seeds vary.  A mixed model's Wald test (statsmodels) knows no degrees of freedom: 10 %
    where seeds alone vary, and one fit in four does not converge.
    """
    cases, seeds = difference.shape
    mean, by_case, by_seed = difference.mean(), difference.mean(1, keepdims=True), difference.mean(0, keepdims=True)
    residual = np.sum((difference - by_case - by_seed + mean) ** 2) / ((cases - 1) * (seeds - 1))
    of_cases, of_seeds = seeds * np.var(by_case, ddof=1), cases * np.var(by_seed, ddof=1)
    variance = max(of_cases, residual) + max(of_seeds, residual) - residual
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    spread = of_cases**2 / (cases - 1) + of_seeds**2 / (seeds - 1) + residual**2 / ((cases - 1) * (seeds - 1))
    return float(2 * stats.t.sf(abs(mean) / np.sqrt(variance / difference.size), max(1.0, variance**2 / spread)))
