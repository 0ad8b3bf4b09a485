"""Measures against independent implementations on random masks, and against known answers on tiny ones."""

import inspect

import numpy as np
import pytest
import SimpleITK as sitk
import surface_distance
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score

from synseg_jax.evaluation import metrics

SHAPES = [(17,), (23, 31), (1, 20, 18), (12, 17, 15), (20, 9, 26)]


def blobs(rng, shape, at_border=False):
    """Two smooth random masks that overlap in part."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    other = noise + 0.6 * noise.std() * ndimage.gaussian_filter(rng.normal(size=shape), 2) / 0.1
    masks = [n > np.quantile(n, rng.uniform(0.6, 0.9)) for n in (noise, other)]
    if at_border:
        for mask in masks:
            mask[: max(1, shape[0] // 2)] = True
    return masks


def scans():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shape = SHAPES[seed % len(SHAPES)]
        yield *blobs(rng, shape, at_border=seed % 3 == 0), tuple(map(float, rng.uniform(0.4, 5.0, len(shape))))


def itk_surface(mask):
    """The inner contour by ITK; a frame of outside makes the borders of the array count as outside."""
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    contour = sitk.BinaryContourImageFilter()
    contour.SetFullyConnected(False)  # a surface voxel has an outside face neighbour
    contour.SetForegroundValue(1)
    contour.SetBackgroundValue(0)
    return contour.Execute(image)


def itk_distances(prediction, reference, spacing):
    surfaces = [itk_surface(prediction), itk_surface(reference)]
    for surface in surfaces:
        surface.SetSpacing([float(s) for s in spacing[::-1]])
    maps = [
        sitk.SignedMaurerDistanceMap(s, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
        for s in surfaces
    ]
    distances = [np.abs(sitk.GetArrayFromImage(m)) for m in maps]
    masks = [sitk.GetArrayFromImage(s) > 0 for s in surfaces]
    return distances[1][masks[0]], distances[0][masks[1]]


def test_dice_is_the_f1_score():
    for prediction, reference, _ in scans():
        assert metrics.dice(prediction, reference) == pytest.approx(f1_score(reference.ravel(), prediction.ravel()))


def test_iou_is_the_jaccard_score():
    for prediction, reference, _ in scans():
        assert metrics.iou(prediction, reference) == pytest.approx(jaccard_score(reference.ravel(), prediction.ravel()))


def test_distances_are_those_of_itk():
    for prediction, reference, spacing in scans():
        if prediction.ndim == 1:
            continue  # ITK begins at two axes
        forward, backward = itk_distances(prediction, reference, spacing)
        ours = metrics.surface_distances(prediction, reference, spacing)
        np.testing.assert_allclose(np.sort(ours[0]), np.sort(forward), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(np.sort(ours[1]), np.sort(backward), rtol=1e-5, atol=1e-4)
        pooled = np.concatenate([forward, backward]).mean()
        assert metrics.average_surface_distance(prediction, reference, spacing) == pytest.approx(
            pooled, rel=1e-5, abs=1e-4
        )
        p95 = max(np.percentile(forward, 95), np.percentile(backward, 95))
        assert metrics.hausdorff_95(prediction, reference, spacing) == pytest.approx(p95, rel=1e-5, abs=1e-4)


def test_the_largest_distance_is_the_hausdorff_distance_of_itk():
    for prediction, reference, spacing in scans():
        if prediction.ndim == 1:
            continue
        surfaces = [itk_surface(prediction), itk_surface(reference)]
        for surface in surfaces:
            surface.SetSpacing([float(s) for s in spacing[::-1]])
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*surfaces)
        largest = np.concatenate(metrics.surface_distances(prediction, reference, spacing)).max()
        assert largest == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)


def test_near_the_area_weighted_measures_of_surface_distance():
    """That package takes surface elements between voxels and weighs them by area: near, within an edge of a voxel."""
    for seed in range(4):
        spacing = tuple(map(float, np.random.default_rng(seed).uniform(0.8, 2.0, 3)))
        edges = np.reshape(spacing, (3, 1, 1, 1))
        grid, centre = np.indices((30, 34, 28)) * edges, 15 * edges
        prediction = ((grid - centre) ** 2).sum(0) < 10**2
        reference = (((grid - centre - 3) / [[[[1.0]]], [[[0.8]]], [[[1.1]]]]) ** 2).sum(0) < 11**2
        theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
        asd = np.mean(surface_distance.compute_average_surface_distance(theirs))
        hd95 = surface_distance.compute_robust_hausdorff(theirs, 95)
        assert metrics.average_surface_distance(prediction, reference, spacing) == pytest.approx(asd, abs=min(spacing))
        assert metrics.hausdorff_95(prediction, reference, spacing) == pytest.approx(hd95, abs=min(spacing))


def test_known_answers():
    prediction, reference = np.zeros((5, 6), bool), np.zeros((5, 6), bool)
    prediction[2, 1] = reference[2, 4] = True
    assert metrics.dice(prediction, reference) == 0
    assert metrics.average_surface_distance(prediction, reference, (7.0, 2.0)) == 6
    reference[2, 1] = True  # distances: prediction 0; reference 0 and 6
    assert metrics.dice(prediction, reference) == pytest.approx(2 / 3)
    assert metrics.iou(prediction, reference) == 1 / 2
    assert metrics.average_surface_distance(prediction, reference, (7.0, 2.0)) == 2
    assert metrics.hausdorff_95(prediction, reference, (7.0, 2.0)) == pytest.approx(0.95 * 6)


def test_a_mask_at_the_border_has_surface_there():
    full, hollow = np.ones((5, 5), bool), np.ones((5, 5), bool)
    hollow[2, 2] = False
    forward, backward = metrics.surface_distances(full, hollow, (1, 1))
    assert forward.size == 16  # the rim of a 5x5 square
    assert backward.size == 16 + 4  # and the four neighbours of the hole
    assert forward.max() == 0
    assert sorted(backward)[-4:] == [1, 1, 1, 1]


def test_equal_masks_are_zero_apart():
    for prediction, _, spacing in scans():
        assert metrics.dice(prediction, prediction) == 1
        assert metrics.average_surface_distance(prediction, prediction, spacing) == 0
        assert metrics.hausdorff_95(prediction, prediction, spacing) == 0


def test_empty_masks():
    empty, one = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert np.isnan(metrics.dice(empty, empty))
    assert metrics.dice(one, empty) == metrics.dice(empty, one) == 0
    assert np.isnan(metrics.iou(empty, empty))
    assert metrics.iou(one, empty) == metrics.iou(empty, one) == 0
    for pair in ((empty, empty), (one, empty), (empty, one)):
        assert np.isnan(metrics.average_surface_distance(*pair, (1, 1)))
        assert np.isnan(metrics.hausdorff_95(*pair, (1, 1)))


def test_case_measures_are_those_of_each_class():
    rng = np.random.default_rng(3)
    first, second = blobs(rng, (14, 15, 16))
    third, fourth = blobs(rng, (14, 15, 16))
    prediction = np.where(first, 1, np.where(third, 2, 0)).astype(np.uint8)
    reference = np.where(second, 1, np.where(fourth, 2, 0)).astype(np.int16)
    prediction[0, 0, 0] = 3
    measures = metrics.case_measures(prediction, reference, ['background', 'x', 'y', 'lost', 'never'], (1, 2, 3))
    assert list(measures) == ['x', 'y', 'lost', 'never']
    for value, name in ((1, 'x'), (2, 'y')):
        masks = prediction == value, reference == value
        assert measures[name] == {
            'dice': metrics.dice(*masks),
            'iou': metrics.iou(*masks),
            'asd_mm': pytest.approx(metrics.average_surface_distance(*masks, (1, 2, 3))),
            'hd95_mm': pytest.approx(metrics.hausdorff_95(*masks, (1, 2, 3))),
            'nsd_2mm': pytest.approx(metrics.normalised_surface_dice(*masks, (1, 2, 3), 2.0)),
        }
    assert measures['lost'] == {'dice': 0, 'iou': 0, 'asd_mm': None, 'hd95_mm': None, 'nsd_2mm': 0}
    assert measures['never'] == dict.fromkeys(metrics.MEASURES)
    empty = np.zeros((4, 4), np.uint8)
    assert metrics.case_measures(empty, empty, ['background', 'x'], (1, 1)) == {'x': dict.fromkeys(metrics.MEASURES)}


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match='prediction has shape'):
        inspect.unwrap(metrics.dice)(np.ones((2, 3), bool), np.ones((3, 2), bool))  # beneath the check of types
    with pytest.raises(ValueError, match='spacings'):
        metrics.surface_distances(np.ones((2, 3), bool), np.ones((2, 3), bool), (1, 1, 1))
