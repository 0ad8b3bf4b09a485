"""The JSON that orbax stores beside a checkpoint, its score and all validations so far, and what it preserves by it."""

import json
import math
from collections.abc import Mapping, Sequence

from orbax.checkpoint import checkpoint_managers as managers

from synseg_jax.training import selection
from synseg_jax.training.selection import Validation

VALIDATIONS = 'validations'


def stored(score: float | None, validations: Sequence[Validation]) -> dict | None:
    """What is stored beside a checkpoint; None if there is nothing."""
    metrics = {} if score is None else {'score': score}
    metrics |= {VALIDATIONS: [tuple(validation) for validation in validations]} if validations else {}
    return metrics or None


def validations(metrics: Mapping | None) -> tuple[Validation, ...]:
    """The validations up to a checkpoint; none in files of earlier versions."""
    return tuple(map(Validation.of, (metrics or {}).get(VALIDATIONS, ())))


def score(metrics: Mapping) -> float:
    """The score that orbax sorts by."""
    return metrics.get('score', -math.inf)


def is_valid(content: bytes) -> bool:
    """Whether the content of a file is what is stored beside a checkpoint."""
    try:
        metrics = dict(json.loads(content))
        float(metrics.get('score', 0))
        return bool(validations(metrics)) or 'score' in metrics
    except (ValueError, TypeError, RecursionError):
        return False


def preservation(latest: int, rule: str) -> managers.AnyPreservationPolicy:
    """Preserves the latest checkpoints and those that may be chosen by a rule of `selection.RULES`."""
    highest = managers.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
    best = {'source_dice': [highest], 'label_free': [MayWin()], 'last': []}[rule]
    return managers.AnyPreservationPolicy([managers.LatestN(max(1, latest)), *best])


class MayWin(managers.PreservationPolicy):
    """Preserves the checkpoints that may still be chosen by `label_free`."""

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """For each checkpoint, in order of steps, whether it is preserved."""
        found = next(filter(None, (validations(info.metrics) for info in reversed(checkpoints))), ())
        kept = selection.may_win(found)
        return [info.step in kept for info in checkpoints]
