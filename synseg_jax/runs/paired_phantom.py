"""How near synthetic scans come to the truth, where there is any: the phantom scans one person in both modalities.

The pairs serve this measure alone; nothing is trained on them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synseg_jax.datasets.dataset_json import Phantom
from synseg_jax.evaluation import metric, similarity
from synseg_jax.formats import scan_file
from synseg_jax.inference.trained_model import Trained
from synseg_jax.phantom import dataset

MOST = 8  # scans that are measured
NAMED = re.compile(r'_(\d+)(?:_w(\d+))?_0000')  # the phantom's scans: subject and week


def measure(trained: Trained, cases: Sequence[dict], phantom: Phantom | None) -> dict[str, dict[str, float | None]]:
    """{case: {mae, psnr, ssim}} of the scans' translations a -> b against the truth, on intensities in [0, 1].

    `phantom` is what the scans were made of, by the manifest of their records.  Only voxels that the truth shows above
    the lower end of the window count for MAE and PSNR.  Empty where the scans are none of the phantom's or no generator
    makes domain b.
    """
    if not trained.translates or trained.config.label_channel or phantom is None:
        return {}
    found = {}
    for case in cases[:MOST]:
        truth = _truth(Path(case['image']), phantom, trained.run.channels['b'])
        if truth is None:
            return {}
        scan = scan_file.read(case['image'])
        window = trained.normalisation('b')
        fake, real = (window.apply(values.astype(np.float32)) for values in (trained.synthesize(scan, 'a'), truth))
        found[case['id']] = metric.measure(similarity.METRICS, fake, real, real > 0)
    return found


def _truth(image: Path, phantom: Phantom, channel: str) -> np.ndarray | None:
    """The scan of the same person in the other modality, on the same grid; None of a file that was renamed."""
    if not (named := NAMED.search(image.name)):
        return None
    number, week = named.groups(default='0')
    scan = phantom['modality'], channel, phantom['seed'], int(number), phantom['region'], phantom['plane'], int(week)
    return dataset.generate_pair(*scan, phantom.get('cohort', ''))[1]
