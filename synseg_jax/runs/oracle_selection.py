"""Oracle selection: of all checkpoints of a training the one that is best by the labels of the scans it is tested on.

Papers choose their epoch so.  Where nobody has labelled the target there is no such choice, so this only measures.
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

DICE = registry.DICE_ORACLE.name  # the measure of a case, beside that of the weights in use


class Oracle(NamedTuple):
    """The step whose weights have the highest mean Dice on a set, of how many, and every case's Dice with them."""

    step: int
    of: int
    cases: Mapping[str, Mapping[str, float | None]]


def select(trained: Trained, tested: TestSet, folder: Path) -> Oracle | None:
    """Every validated checkpoint, tried on the labelled scans of a set; of equals the first.

    None, which is said, unless all of them were kept.
    """
    steps, kept = trained.validated(), trained.kept()
    if missing := [step for step in steps if step not in kept]:
        told = f'{len(missing)} of {len(steps)} checkpoints were not kept'
        warn('%s: no oracle selection, %s; set oracle before training', trained.run.folder, told)
        return None
    trained = trained.uncut() if 'by' in tested.entry else trained
    share = replace(tested, segmenter=trained, cases=processes.share(tested.cases))
    found = {}
    for step in steps:
        trained.load(step)
        found[step] = _dice(share, step, folder)
    best = max(steps, key=lambda step: _mean(found[step]))
    return Oracle(best, len(found), found[best])


def _mean(cases) -> float:
    measured = {case: {organ: {'dice': value} for organ, value in of.items()} for case, of in cases.items()}
    return summary.statistics(summary.organ_means(measured, 'dice').values())['mean'] or 0.0


def _dice(share, step, folder) -> dict[str, dict[str, float | None]]:
    """{case: {organ: Dice}} of all processes with the weights of the moment."""
    own = {}
    with TemporaryDirectory(dir=folder, prefix='.oracle') as scratch:
        written = predict(share.segmenter, share.paths, Path(scratch), share.entry['domain'], share.scan)
        for case in share.cases:
            found, true = share.predicted(written[case['id']]), share.reference(case).array
            values = {name: metrics.dice(found == i, true == i) for i, name in enumerate(share.classes) if i}
            own[case['id']] = {name: None if np.isnan(value) else float(value) for name, value in values.items()}
    parts = processes.all_gather(own, f'{share.name}.oracle{step}')
    return {case: of for part in parts for case, of in part.items()}
