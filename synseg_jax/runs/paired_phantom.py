"""Image similarity of synthetic scans to the true ones, on the phantom, which has each subject in both modalities.

Nothing is trained on these pairs.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synseg_jax.datasets.dataset_json import Phantom
from synseg_jax.evaluation import metric, similarity
from synseg_jax.formats import scan_channels
from synseg_jax.inference.trained_model import Trained
from synseg_jax.phantom import dataset

MOST = 8  # number of scans measured at most
NAMED = re.compile(r'_(\d+)(?:_w(\d+))?_0000')  # subject and week in the file names of the phantom


def measure(trained: Trained, cases: Sequence[dict], phantom: Phantom | None) -> dict[str, dict[str, float | None]]:
    """{case: {mae, psnr, ssim}} of scans translated from a to b against the true scans, on intensities in [0, 1].

    `phantom` has the phantom's settings, from the manifest.  MAE and PSNR are computed over voxels whose true value is
    above the lower end of the intensity window.  Empty for scans that are not of the phantom, and without a generator
    a to b.
    """
    if not trained.translates or trained.config.label_channel or phantom is None:
        return {}
    measures = {}
    for case in cases[:MOST]:
        truth = _truth(Path(case['image']), phantom, trained.run.channels['b'])
        if truth is None:
            return {}
        scan = scan_channels.read(Path(case['image']), len(trained.run.named('a')))
        window = trained.normalisation('b')
        fake, real = (window.apply(values.astype(np.float32)) for values in (trained.synthesize(scan, 'a'), truth))
        measures[case['id']] = metric.measure(similarity.METRICS, fake, real, real > 0)
    return measures


def _truth(image: Path, phantom: Phantom, channel: str) -> np.ndarray | None:
    """The scan of the same subject in the other modality, on the same grid; None if the file was renamed."""
    if not (match := NAMED.search(image.name)):
        return None
    number, week = match.groups(default='0')
    scan = phantom['modality'], channel, phantom['seed'], int(number), phantom['region'], phantom['plane'], int(week)
    return dataset.generate_pair(*scan, phantom.get('cohort', ''))[1]
