"""The choice of a checkpoint from the metrics of all validations, and the guard that ends training gone wrong.

Rules: `source_dice`: the highest validation score; `label_free`: the best mean rank of the scores in SCORES over all
validations so far; `last`.  Ties go to the later checkpoint.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synseg_jax.evaluation.plausibility import VOLUMES, in_range

RULES = ('source_dice', 'label_free', 'last')
SCORES = ('randomised_dice', 'agreement', 'plausible')  # that need no label of the target; higher is better
VOLUME = 'volume/'  # begins metrics of organs: mean predicted volume over that in labelled source scans
WARM_UP = 0.1  # share of training before which volumes are not guarded


class Validation(NamedTuple):
    """The metrics of one validated checkpoint; `left` says why the guard ended training there."""

    step: int
    metrics: Mapping[str, float]
    left: str = ''

    @classmethod
    def of(cls, content: object) -> 'Validation':
        """From its JSON, which is that of a tuple; raises ValueError or TypeError for anything else."""
        step, metrics, left = content
        return cls(int(step), {str(name): float(value) for name, value in dict(metrics).items()}, str(left))


def order(rule: str, validations: Sequence[Validation], scores: Mapping[int, float | None]) -> list[int]:
    """The steps in `scores`, {step: validation score} of the checkpoints on disk, the chosen one first.

    Checkpoints at which the guard ended training come last, and before them those that were not validated.
    """
    if rule == 'label_free':
        keys = {step: -rank for step, rank in mean_ranks(validations).items()}
    else:
        keys = scores if rule == 'source_dice' else {}
    lost = {validation.step for validation in validations if validation.left}
    return sorted(scores, key=lambda step: (step not in lost, _or_lowest(keys.get(step)), step), reverse=True)


def _or_lowest(value: float | None) -> float:
    return -np.inf if value is None else value


def mean_ranks(validations: Sequence[Validation]) -> dict[int, float]:
    """{step: mean over scores of the number of validations with a higher one}; {} without any score."""
    rated, scores = _table(validations)
    if not scores.size:
        return {}
    higher = (scores[None] > scores[:, None]).sum(1)
    return dict(zip(rated.tolist(), higher.mean(1).tolist(), strict=True))


def may_win(validations: Sequence[Validation]) -> set[int]:
    """The steps that may still have the best mean rank, whatever later validations find.

    If another checkpoint is as good in all scores and better in one, or equal and later, it stays ahead for ever.
    """
    steps, scores = _table(validations)
    as_good = (scores[None] >= scores[:, None]).all(2)
    better = (scores[None] > scores[:, None]).any(2)
    ahead = as_good & (better | (steps[None] > steps[:, None]))
    return set(steps[~ahead.any(1)].tolist())


def _table(validations) -> tuple[Int[np.ndarray, ' n'], Float[np.ndarray, 'n k']]:
    """(steps, scores) of validations that count; a missing score or NaN is the lowest, and scores of none are left
    out."""
    kept = [validation for validation in validations if not validation.left]
    names = [name for name in SCORES if any(name in validation.metrics for validation in kept)]
    values = [[validation.metrics.get(name, np.nan) for name in names] for validation in kept]
    scores = np.array(values, float).reshape(len(kept), len(names))
    return np.array([validation.step for validation in kept], int), np.where(np.isnan(scores), -np.inf, scores)


def departed(validations: Sequence[Validation], metrics: Mapping[str, float], first: float) -> str:
    """Which organ's volume has left the plausible range, farthest, and by how much; '' if none has.

    Only of organs that have been inside at a validation after step `first`: what is not yet found is not lost.
    """
    found = {name for step, earlier, _ in validations if step >= first for name in _inside(earlier)}
    lost = {name: metrics[name] for name in metrics if name in found - _inside(metrics)}
    if not lost:
        return ''
    name = max(lost, key=lambda name: abs(np.log(max(lost[name], 1e-9))))
    organ, ratio = name.removeprefix(VOLUME), f'{lost[name]:.2f}'
    return f'{organ} has {ratio} times its mean volume in the source, which may be {VOLUMES[0]} to {VOLUMES[1]}'


def _inside(metrics: Mapping[str, float]) -> set[str]:
    """Metrics of volumes that are in the plausible range."""
    return {name for name, value in metrics.items() if name.startswith(VOLUME) and in_range(value)}
