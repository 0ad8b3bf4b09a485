"""ROC curve of voxelwise probabilities against a reference mask, and the area under it."""

import numpy as np
from jaxtyping import Bool, Float

from synseg_jax.evaluation.metric import Metric


def roc_curve(
    probability: Float[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space']
) -> tuple[Float[np.ndarray, 'n'], Float[np.ndarray, 'n'], Float[np.ndarray, 'n']]:
    """False positive rates, true positive rates and thresholds, from (0, 0) at inf to (1, 1) at the lowest value.

    A voxel is positive if its probability is at least the threshold.  Collinear points are dropped, which leaves the
    curve and its area exact.  False positive rates are nan without a negative voxel, true positive rates without a
    positive one.  ValueError for NaN in `probability`.
    """
    if probability.shape != reference.shape:
        raise ValueError(f'probability has shape {probability.shape}, reference {reference.shape}')
    if np.isnan(probability).any():
        raise ValueError('NaN among the probabilities')
    values, hits = probability.ravel(), reference.ravel()
    order = np.argsort(values)[::-1]
    values, hits = values[order], hits[order]
    last = np.append(np.flatnonzero(np.diff(values)), values.size - 1) if values.size else np.empty(0, int)
    true = np.concatenate([[0], np.cumsum(hits)[last]])
    false = np.concatenate([[0], 1 + last]) - true
    thresholds = np.concatenate([[np.inf], values[last]])
    corner = np.ones(true.size, bool)
    corner[1:-1] = np.diff(true)[1:] * np.diff(false)[:-1] != np.diff(true)[:-1] * np.diff(false)[1:]
    rates = (count[corner] / count[-1] if count[-1] else np.full(corner.sum(), np.nan) for count in (false, true))
    return *rates, thresholds[corner]


def area(fpr: Float[np.ndarray, 'n'], tpr: Float[np.ndarray, 'n']) -> float:
    """Area under a curve of `roc_curve`, in [0, 1]; nan if one of the rates is."""
    return float(np.trapezoid(tpr, fpr)) if fpr.size > 1 else float('nan')


def auc(probability: Float[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space']) -> float:
    """Area under the ROC curve: the probability that a voxel of the mask ranks above a voxel outside it.

    Ties count half.  nan if only one of the two classes is present.
    """
    fpr, tpr, _ = roc_curve(probability, reference)
    return area(fpr, tpr)


METRICS = (Metric('auc', 'AUC', auc, limits=(0, 1)),)  # of the probability of every voxel and the reference
