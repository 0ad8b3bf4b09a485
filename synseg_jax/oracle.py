"""Oracle selection: of all checkpoints of a training the one that is best by the labels of the scans it is tested on.

Papers choose their epoch so.  Where nobody has labelled the target there is no such choice, so this only measures.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from synseg_jax.evaluation import metrics, summary
from synseg_jax.measuring import Tested
from synseg_jax.predict import predict
from synseg_jax.scans import Trained
from synseg_jax.training import processes

DICE = 'dice_oracle'  # the measure of a case, beside that of the weights in use


class Oracle(NamedTuple):
    """The step whose weights have the highest mean Dice on a set, of how many, and every case's Dice with them."""

    step: int
    of: int
    cases: Mapping[str, Mapping[str, float | None]]


def select(tested: Tested, folder: Path) -> Oracle:
    """Every checkpoint that was kept, tried on the labelled scans of a set; of equals the first."""
    found = {step: _dice(replace(tested, segmenter=trained), folder) for step, trained in tested.segmenter.kept()}
    best = max(sorted(found), key=lambda step: _mean(found[step]))
    return Oracle(best, len(found), found[best])


def _mean(cases) -> float:
    measured = {case: {organ: {'dice': value} for organ, value in of.items()} for case, of in cases.items()}
    return summary.statistics(summary.organ_means(measured, 'dice').values())['mean'] or 0.0


def _dice(tested, folder) -> dict[str, dict[str, float | None]]:
    """{case: {organ: Dice}} with one segmenter."""
    assert isinstance(tested.segmenter, Trained)
    segmenter = tested.segmenter.uncut() if 'by' in tested.entry else tested.segmenter
    share = replace(tested, segmenter=segmenter, cases=processes.share(tested.cases))
    own = {}
    with TemporaryDirectory(dir=folder, prefix='.oracle') as scratch:
        written = predict(segmenter, share.paths, Path(scratch), share.entry['domain'], share.scan)
        for case in share.cases:
            found, true = share.predicted(written[case['id']]), share.reference(case).array
            values = {name: metrics.dice(found == i, true == i) for i, name in enumerate(share.classes) if i}
            own[case['id']] = {name: None if np.isnan(value) else float(value) for name, value in values.items()}
    return {case: of for part in processes.gathered(own, folder, f'{tested.name}.oracle') for case, of in part.items()}
