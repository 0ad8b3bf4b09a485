"""Oracle selection: the checkpoint with the best Dice on the labelled test scans, as some papers select their epoch.

Without target labels this is impossible, so the result is only reported and never used.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from synseg_jax.devices import processes
from synseg_jax.errors import warn
from synseg_jax.evaluation import metrics, registry, summary
from synseg_jax.inference.predict_scans import predict
from synseg_jax.inference.trained_model import Trained
from synseg_jax.runs.test_set import TestSet

ORACLE = 'oracle'  # the rule that reads test labels
DICE = registry.DICE_ORACLE.name  # metric of a case, next to the Dice of the weights in use


class Oracle(NamedTuple):
    """The checkpoint with the highest mean Dice on a set."""

    step: int
    of: int  # number of checkpoints compared
    cases: Mapping[str, Mapping[str, float | None]]  # {case: {organ: Dice}} with its weights
    choices: Mapping[str, Mapping]  # {rule: {step, dice}} of every rule that needs no such label, and of the oracle


def select(trained: Trained, tested: TestSet, folder: Path) -> Oracle | None:
    """Evaluate all validated checkpoints on a test set and return the best; the earliest in case of ties.

    None, with a warning, unless all checkpoints were kept.
    """
    steps, kept = trained.validated(), trained.kept()
    if missing := [step for step in steps if step not in kept]:
        reason = f'{len(missing)} of {len(steps)} checkpoints were not kept'
        warn('%s: no oracle selection, %s; set oracle before training', trained.run.folder, reason)
        return None
    trained = trained.uncut() if 'by' in tested.entry else trained
    share = replace(tested, segmenter=trained, cases=processes.share(tested.cases))
    by_step = {}
    for step in steps:
        trained.load(step)
        by_step[step] = _dice(share, step, folder)
    means = {step: _mean(by_step[step]) for step in steps}
    best = max(steps, key=means.get)
    chosen = {**trained.choices(), ORACLE: best}
    choices = {rule: {'step': step, 'dice': means[step]} for rule, step in chosen.items() if step in means}
    return Oracle(best, len(by_step), by_step[best], choices)


def _mean(cases) -> float:
    measured = {case: {organ: {'dice': value} for organ, value in organs.items()} for case, organs in cases.items()}
    return summary.statistics(summary.organ_means(measured, 'dice').values())['mean'] or 0.0


def _dice(share, step, folder) -> dict[str, dict[str, float | None]]:
    """{case: {organ: Dice}} with the weights currently loaded, gathered from all processes."""
    dices = {}
    with TemporaryDirectory(dir=folder, prefix='.oracle') as scratch:
        written = predict(share.segmenter, share.paths, Path(scratch), share.entry['domain'], share.scan)
        for case in share.cases:
            predicted, true = share.predicted(written[case['id']]), share.reference(case).array
            values = {name: metrics.dice(predicted == i, true == i) for i, name in enumerate(share.classes) if i}
            dices[case['id']] = {name: None if np.isnan(value) else float(value) for name, value in values.items()}
    parts = processes.all_gather(dices, f'{share.name}.oracle{step}')
    return {case: organs for part in parts for case, organs in part.items()}
