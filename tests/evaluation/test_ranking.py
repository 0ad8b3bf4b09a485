"""ROC curves and their area against scikit-learn, ties and single classes included."""

import inspect

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from synseg_jax.evaluation import roc


def scores():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        reference = rng.random((13, 17)) < 0.2
        probability = np.clip(0.3 * reference + rng.random(reference.shape), 0, 1)
        if seed % 2:
            probability = np.round(probability, 1)  # many ties
        yield probability.astype(np.float32), reference


def test_area_is_that_of_scikit_learn():
    for probability, reference in scores():
        expected = roc_auc_score(reference.ravel(), probability.ravel())
        assert roc.auc(probability, reference) == pytest.approx(expected)


def test_area_counts_pairs_and_half_of_ties():
    for probability, reference in scores():
        inside, outside = probability[reference][:, None], probability[~reference][None]
        wins = np.mean((inside > outside) + 0.5 * (inside == outside))
        assert roc.auc(probability, reference) == pytest.approx(wins)


def test_curve_is_that_of_scikit_learn():
    for probability, reference in scores():
        fpr, tpr, thresholds = roc.roc_curve(probability, reference)
        full = sklearn_curve(reference.ravel(), probability.ravel(), drop_intermediate=False)
        along = fpr + tpr  # grows at every point
        np.testing.assert_allclose(np.interp(full[0] + full[1], along, tpr), full[1], atol=1e-12)
        assert set(thresholds) <= set(full[2]) and thresholds[0] == np.inf
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        assert fpr.size < full[0].size
        for threshold, false, true in zip(thresholds, fpr, tpr, strict=True):
            positive = probability >= threshold
            assert (positive[~reference].mean(), positive[reference].mean()) == pytest.approx((false, true))


def test_by_hand():
    fpr, tpr, thresholds = roc.roc_curve(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert (fpr.tolist(), tpr.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])
    assert thresholds.tolist() == [np.inf, 0.9, 0.5, 0.1]
    assert roc.auc(np.full(5, 0.5), np.array([True, False, False, True, True])) == 0.5


def test_a_single_class_has_no_area():
    probability = np.linspace(0, 1, 6)
    for reference in (np.zeros(6, bool), np.ones(6, bool)):
        assert np.isnan(roc.auc(probability, reference))
    fpr, tpr, _ = roc.roc_curve(probability, np.zeros(6, bool))
    assert fpr.tolist() == [0, 1] and np.isnan(tpr).all()
    assert np.isnan(roc.auc(np.empty(0), np.empty(0, bool)))


def test_what_is_refused():
    with pytest.raises(ValueError, match='NaN'):
        roc.auc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match='probability has shape'):
        inspect.unwrap(roc.roc_curve)(np.zeros(3), np.zeros(4, bool))
