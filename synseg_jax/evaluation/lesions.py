"""Whether tumours survive translation: are they found one by one, and do they look as real ones do."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from synseg_jax.evaluation.metric import Metric
from synseg_jax.evaluation.metrics import check_shapes

TOUCHED = 0.1  # share of a lesion's voxels that a prediction must cover to have found it
BINS = 64


class Lesions(NamedTuple):
    """Lesions of one scan: how many of the reference's are found, how many it has, how many are found beside them."""

    found: int
    total: int
    false: int


def lesions(
    prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space'], touched: float = TOUCHED
) -> Lesions:
    """Counts lesion by lesion; a lesion is what hangs together by faces, edges or corners.

    One of the reference is found if at least the share `touched` of its voxels is predicted; one of the prediction
    that touches no voxel of the reference is false.
    """
    check_shapes(prediction, reference)
    connected = np.ones((3,) * reference.ndim, bool)
    whole, total = ndimage.label(reference, connected)
    predicted, count = ndimage.label(prediction, connected)
    covered = ndimage.mean(prediction.astype(float), whole, np.arange(1, total + 1)) if total else np.zeros(0)
    touching = np.unique(predicted[reference & prediction])
    return Lesions(int((np.asarray(covered) >= touched).sum()), total, count - len(touching))


def histogram(values: Float[np.ndarray, ' n'], bins: int = BINS) -> Integer[np.ndarray, ' bins']:
    """Counts of intensities in `bins` equal bins of [0, 1]; values outside count in the outermost bins."""
    return np.histogram(np.clip(values, 0, 1), bins, (0, 1))[0]


def divergence(synthetic: Integer[np.ndarray, ' bins'], real: Integer[np.ndarray, ' bins']) -> float:
    """Kullback-Leibler divergence in nats of a histogram of synthetic voxels from one of real voxels.

    D(real || synthetic), half a voxel added to each bin so that none is empty; 0 for equal distributions.  nan where
    there is no voxel.
    """
    if not synthetic.any() or not real.any():
        return float('nan')
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (real, synthetic))
    return float(np.sum(p * np.log(p / q)))


METRICS = (  # of the counts of one scan
    Metric(
        'lesions',
        'lesions found',
        lambda counts: counts.found / counts.total if counts.total else math.nan,
        limits=(0, 1),
    ),
    Metric('false_lesions', 'false lesions', lambda counts: counts.false, lower_is_better=True, limits=(0, math.inf)),
)
# Of the histograms of synthetic and of real voxels: of each scan, and of all scans together.
KL = Metric('kl', 'KL divergence, per scan', divergence, lower_is_better=True, limits=(0, math.inf))
KL_POOLED = Metric('kl_pooled', 'KL divergence, pooled', divergence, lower_is_better=True, limits=(0, math.inf))
