"""Lesion-wise detection, and how close the intensities of synthetic lesions are to real ones."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from synseg_jax.evaluation.metric import Metric
from synseg_jax.evaluation.metrics import check_shapes

TOUCHED = 0.1  # fraction of a lesion's voxels that a prediction must cover to detect it
BINS = 64


class Lesions(NamedTuple):
    """Lesions of one scan: detected ones of the reference, all of the reference, false positives of the prediction."""

    found: int
    total: int
    false: int


def lesions(
    prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space'], touched: float = TOUCHED
) -> Lesions:
    """Lesion counts; a lesion is a connected component by faces, edges or corners.

    A lesion of the reference is detected if at least the fraction `touched` of its voxels is predicted; a component of
    the prediction without a voxel of the reference is a false positive.
    """
    check_shapes(prediction, reference)
    connected = np.ones((3,) * reference.ndim, bool)
    whole, total = ndimage.label(reference, connected)
    predicted, count = ndimage.label(prediction, connected)
    covered = ndimage.mean(prediction.astype(float), whole, np.arange(1, total + 1)) if total else np.zeros(0)
    touching = np.unique(predicted[reference & prediction])
    return Lesions(int((np.asarray(covered) >= touched).sum()), total, count - len(touching))


def histogram(values: Float[np.ndarray, ' n'], bins: int = BINS) -> Integer[np.ndarray, ' bins']:
    """Histogram of intensities with `bins` equal bins on [0, 1]; values outside are clipped."""
    return np.histogram(np.clip(values, 0, 1), bins, (0, 1))[0]


def divergence(synthetic: Integer[np.ndarray, ' bins'], real: Integer[np.ndarray, ' bins']) -> float:
    """Kullback-Leibler divergence D(real || synthetic) in nats between two intensity histograms.

    Half a count is added to each bin so that none is empty; 0 for equal histograms, nan if either has no voxel.
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
