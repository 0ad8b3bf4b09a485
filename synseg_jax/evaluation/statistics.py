"""Tests between systems on the same or on different cases, Holm's correction, and confidence intervals of means."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from synseg_jax.evaluation.summary import is_number

MIN_PAIRS = 5  # of a paired test; p < 0.05 needs six
MIN_SIDE = 4  # values on each side of an unpaired test; p < 0.05 needs as many
MIN_VALUES = 3  # of a confidence interval
RESAMPLES = 9999


class SignedRank(NamedTuple):
    """Result of a paired test: two-sided p, number of pairs, cases left out."""

    p: float | None
    pairs: int
    left_out: int


def signed_rank(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> SignedRank:
    """Wilcoxon signed-rank test between two systems' values `{case: value}`, paired by case.

    Cases without a number on both sides are left out and counted.  p is None for fewer than `MIN_PAIRS` pairs, 1 if no
    pair differs, else that of `scipy.stats.wilcoxon`, which drops ties and is exact for few pairs.
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
    """Result of an unpaired test: two-sided p, and the number of values on each side."""

    p: float | None
    first: int
    second: int


def rank_sum(first: Iterable[float | None], second: Iterable[float | None]) -> RankSum:
    """Mann-Whitney U test (Wilcoxon rank-sum test) of values from different cases, such as two sets of scans.

    None and NaN are left out.  p is None for fewer than `MIN_SIDE` values on either side, 1 if all values are equal,
    else that of `scipy.stats.mannwhitneyu`, which is exact for few values without ties.
    """
    sides = [np.array([value for value in values if is_number(value)], np.float64) for values in (first, second)]
    sizes = [side.size for side in sides]
    if min(sizes) < MIN_SIDE:
        return RankSum(None, *sizes)
    p = float(stats.mannwhitneyu(*sides).pvalue) if np.ptp(np.concatenate(sides)) else 1.0
    return RankSum(p, *sizes)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values of a family of tests, adjusted by Holm's step-down method (1979); None stays None and is not counted.

    The i-th smallest of m is multiplied by m - i + 1, made monotone, and clipped to 1.
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

    Bias-corrected and accelerated (Efron 1987), with `RESAMPLES` resamples of the cases; deterministic given `seed`.
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
