"""Is one system better than another: paired tests on the same cases, unpaired ones, correction, intervals of means."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from synseg_jax.evaluation.summary import is_number

MIN_PAIRS = 5  # of a test; six is the least that can reach p < 0.05
MIN_SIDE = 4  # values on either side of an unpaired test, the least that can reach p < 0.05
MIN_VALUES = 3  # of an interval
RESAMPLES = 9999


class SignedRank(NamedTuple):
    """A paired test: two-sided p, the number of pairs it saw, and the cases that it left out."""

    p: float | None
    pairs: int
    left_out: int


def signed_rank(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> SignedRank:
    """Wilcoxon signed-rank test of two systems' values `{case: value}`, paired by case.

    A case that one side lacks, or where either value is None or NaN, is left out and counted.  Fewer than `MIN_PAIRS`
    pairs have no p (None); if no pair differs p is 1.  Otherwise it is that of `scipy.stats.wilcoxon`, which drops
    pairs without difference and is exact for few pairs.
    """
    known = [{case for case, value in values.items() if is_number(value)} for values in (first, second)]
    cases = [case for case in first if case in known[0] & known[1]]
    left_out = len(first.keys() | second.keys()) - len(cases)
    difference = np.array([first[case] - second[case] for case in cases], np.float64)
    if difference.size < MIN_PAIRS:
        return SignedRank(None, difference.size, left_out)
    p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return SignedRank(p, difference.size, left_out)


class RankSum(NamedTuple):
    """An unpaired test: two-sided p, and the number of values on either side."""

    p: float | None
    first: int
    second: int


def rank_sum(first: Iterable[float | None], second: Iterable[float | None]) -> RankSum:
    """Mann-Whitney U test (Wilcoxon rank-sum test) of values from different cases, such as two sets of scans.

    None and NaN are left out.  Fewer than `MIN_SIDE` values on either side have no p (None); if all values are the same
    p is 1.  Otherwise it is that of `scipy.stats.mannwhitneyu`, which is exact for few values without ties.
    """
    sides = [np.array([value for value in values if is_number(value)], np.float64) for values in (first, second)]
    sizes = [side.size for side in sides]
    if min(sizes) < MIN_SIDE:
        return RankSum(None, *sizes)
    p = float(stats.mannwhitneyu(*sides).pvalue) if np.ptp(np.concatenate(sides)) else 1.0
    return RankSum(p, *sizes)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values of a family of tests after Holm's step-down correction (1979); None stays and does not count.

    The i-th smallest of m is multiplied by m - i + 1, is no less than the one before it, and at most 1.
    """
    tested = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, at) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        corrected[at] = largest
    return corrected


def mean_interval(
    values: Iterable[float | None], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Bootstrap confidence interval (low, high) of the mean over cases; None below `MIN_VALUES` numbers.

    Bias-corrected and accelerated (Efron 1987), `RESAMPLES` resamples of cases, the same for the same seed.
    """
    numbers = np.array([value for value in values if is_number(value)], np.float64)
    if numbers.size < MIN_VALUES:
        return None
    if np.ptp(numbers) == 0:
        return float(numbers[0]), float(numbers[0])
    found = stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method='BCa',
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
