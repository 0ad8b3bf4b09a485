"""Lesions are counted as one would by hand, and histograms compared as SciPy does."""

import inspect

import numpy as np
import pytest
from scipy import stats

from synseg_jax.evaluation.lesions import Lesions, divergence, histogram, lesions


def test_lesions_by_hand():
    reference = np.zeros((6, 8), bool)
    reference[0, 0], reference[1, 1] = True, True  # one lesion, joined by a corner
    reference[4, 2:7] = True
    prediction = np.zeros_like(reference)
    assert lesions(prediction, reference) == Lesions(0, 2, 0)
    prediction[1, 1] = True
    prediction[2, 6] = True  # beside everything
    assert lesions(prediction, reference) == Lesions(1, 2, 1)
    prediction[4, 6:] = True  # 1 of 5 voxels, and one outside that hangs together with it
    assert lesions(prediction, reference) == Lesions(2, 2, 1)
    assert lesions(prediction, reference, touched=0.3) == Lesions(1, 2, 1)
    assert lesions(prediction, np.zeros_like(reference)) == Lesions(0, 0, 3)


def test_lesions_in_3d_against_flood_filling():
    random = np.random.default_rng(0)
    reference, prediction = (random.random((7, 8, 9)) > 0.9 for _ in range(2))

    def parts(mask):
        left, found = {tuple(i) for i in np.argwhere(mask)}, []
        while left:
            queue, part = [left.pop()], set()
            while queue:
                here = queue.pop()
                part.add(here)
                near = {at for at in left if max(abs(a - b) for a, b in zip(at, here, strict=True)) == 1}
                left -= near
                queue += near
            found.append(part)
        return found

    whole = parts(reference)
    found = sum(np.mean([prediction[i] for i in part]) >= 0.1 for part in whole)
    false = sum(not any(reference[i] for i in part) for part in parts(prediction))
    assert lesions(prediction, reference) == Lesions(found, len(whole), false)
    assert 0 < found < len(whole) and false > 0


def test_masks_of_different_shapes():
    with pytest.raises(ValueError, match='prediction has shape'):
        inspect.unwrap(lesions)(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


def test_histogram_divergence():
    random = np.random.default_rng(0)
    real, synthetic = random.beta(4, 2, 5000), random.beta(2, 4, 3000)
    counts = [np.histogram(values, 16, (0, 1))[0] + 0.5 for values in (real, synthetic)]
    found = divergence(histogram(synthetic, 16), histogram(real, 16))
    assert found == pytest.approx(stats.entropy(*counts), rel=1e-12)

    def between(one, other):
        return divergence(histogram(one), histogram(other))

    assert between(synthetic, real) > 1 > 0.05 > between(real[:2500], real[2500:])
    assert between(real, real) == 0
    assert between(np.array([-3.0, 2.0]), np.array([0.0, 1.0])) == 0
    assert np.isnan(between(np.zeros(0), real)) and np.isnan(between(real, np.zeros(0)))
