"""How well probabilities rank the voxels of a mask above the others: the ROC curve and the area under it."""

import numpy as np
from jaxtyping import Bool, Float

from synseg_jax.evaluation.metric import Metric


def roc_curve(
    probability: Float[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space']
) -> tuple[Float[np.ndarray, 'n'], Float[np.ndarray, 'n'], Float[np.ndarray, 'n']]:
    """False positive rates, true positive rates and thresholds, from (0, 0) at inf to (1, 1) at the lowest value.

    A voxel is positive where its probability is at least the threshold; equal values enter together.  Points on a
    straight line between others are left out, so the curve and its area are exact.  Without a negative voxel the
    false positive rates are nan, without a positive one the true positive rates.  NaN in `probability` is a ValueError.
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
    """Area under the ROC curve: the chance that a voxel of the mask has a larger probability than one outside it.

    Equal probabilities count half.  nan where only one of the two classes is present.
    """
    fpr, tpr, _ = roc_curve(probability, reference)
    return area(fpr, tpr)


METRICS = (Metric('auc', 'AUC', auc, limits=(0, 1)),)  # of the probability of every voxel and the reference
