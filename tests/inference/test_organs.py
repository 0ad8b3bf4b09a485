"""Volumes, largest pieces and holes of organs, against counts by hand, another library, and slow searches."""

import numpy as np
import pytest
from skimage import measure

from synseg_jax.imaging.volume import volumes_ml
from synseg_jax.inference.postprocess import axial_axis, filled, largest_components, processed

CLASSES = ('background', 'liver', 'spleen', 'tumour')


def _labels(seed=0, shape=(14, 12, 9), share=0.75):
    """Crumbs and a few larger pieces of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, shape, p=[share, *[(1 - share) / 3] * 3]).astype(np.uint8)
    labels[2:6, 3:7, 2:5] = 1
    return labels


def test_volumes_by_hand():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5, :4, :3], labels[9, 9, 9] = 1, 3
    affine = np.diag([2.0, -2.5, 4.0, 1.0])
    assert volumes_ml(labels, affine, CLASSES) == pytest.approx({'liver': 1.2, 'spleen': 0.0, 'tumour': 0.02})


def test_volumes_do_not_depend_on_how_the_scan_lies():
    """Turned, the spacing tells the volume; sheared by a tilted gantry, the distance of the slices is shorter."""
    labels, (turn, _) = _labels(), np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    straight, oblique, sheared = np.eye(4), np.eye(4), np.eye(4)
    straight[:3, :3] = np.diag([0.7, 0.7, 5.0])
    oblique[:3, :3] = turn @ straight[:3, :3]
    sheared[:3, :3] = oblique[:3, :3] @ np.array([[1, 0, 0.0], [0, 1, 2.5], [0, 0, 1]])
    expected = {name: (labels == value).sum() * 0.7 * 0.7 * 5 / 1000 for value, name in enumerate(CLASSES) if value}
    for affine in (straight, oblique, sheared):
        assert volumes_ml(labels, affine, CLASSES) == pytest.approx(expected)


@pytest.mark.parametrize('seed', range(4))
def test_largest_components_against_another_library(seed):
    labels = _labels(seed)
    expected = np.zeros_like(labels)
    for value in (1, 2, 3):
        regions = measure.regionprops(measure.label(labels == value, connectivity=3))
        best = max(regions, key=lambda region: region.area)
        expected[tuple(best.coords.T)] = value
    before = labels.copy()
    np.testing.assert_array_equal(largest_components(labels), expected)
    np.testing.assert_array_equal(labels, before)


def test_corners_connect_and_the_first_of_equals_stays():
    labels = np.zeros((5, 5, 2), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1  # by a corner
    labels[4, 4] = 1  # as large, and later
    kept = largest_components(labels)
    assert np.argwhere(kept).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_spared_classes_keep_their_crumbs():
    labels = _labels()
    kept = largest_components(labels, keep=(3,))
    np.testing.assert_array_equal(kept == 3, labels == 3)
    assert (kept == 1).sum() < (labels == 1).sum()


def test_nothing_labelled():
    empty = np.zeros((3, 4, 5), np.uint8)
    np.testing.assert_array_equal(largest_components(empty), empty)
    assert volumes_ml(empty, np.eye(4), CLASSES) == {'liver': 0.0, 'spleen': 0.0, 'tumour': 0.0}


def _holed():
    """A liver with a hole in 3-D, one that is open in slices alone, a spleen and a tumour inside, and a cup."""
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3, 3, 3] = 0  # enclosed
    labels[5, 5, 4:8] = 0  # a shaft to the surface along the last axis: enclosed in slices across it
    labels[2, 5, 2:4], labels[2, 5, 5] = 2, 3
    labels[9:12, 2:7, 2] = 2  # a frame at the border of the scan, open there
    labels[10:, 3:6, 2] = 0
    return labels


def test_holes_are_filled_and_neighbours_stay():
    labels = _holed()
    expected = labels.copy()
    expected[3, 3, 3] = 1
    np.testing.assert_array_equal(filled(labels), expected)
    np.testing.assert_array_equal(labels, _holed())


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_holes_in_axial_slices_whatever_the_axes(order):
    labels = _holed()
    expected = labels.copy()
    expected[3, 3, 3] = expected[5, 5, 4:8] = 1
    affine = np.eye(4)
    affine[:3, :3] = np.diag([2.0, -2.0, 5.0])[:, order]
    turned = [array.transpose(order) for array in (labels, expected)]
    assert axial_axis(affine) == order.index(2)
    np.testing.assert_array_equal(processed(turned[0], affine, CLASSES, (), holes='slices'), turned[1])


def test_holes_of_lesions_stay_and_the_inner_class_of_two_is_filled():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8], labels[2:7, 2:7, 2:7], labels[3:6, 3:6, 3:6] = 1, 2, 0
    np.testing.assert_array_equal(filled(labels) == 2, (labels == 2) | (np.indices(labels.shape) // 3 == 1).all(0))
    as_lesion = filled(labels, keep=(2,))
    assert (as_lesion[3:6, 3:6, 3:6] == 1).all() and ((as_lesion == 2) == (labels == 2)).all()
    np.testing.assert_array_equal(filled(labels, keep=(1, 2)), labels)


def test_a_crumb_in_a_hole_is_filled():
    """Components first: what is not the largest piece of its class is background, which holes take in."""
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:6, 1:6, 1:6], labels[3, 3, 3], labels[7:, 7:, 7:] = 1, 2, 2
    found = processed(labels, np.eye(4), CLASSES, (), 'largest', 'fill')
    assert (found[1:6, 1:6, 1:6] == 1).all() and (found == 2).sum() == 8
    np.testing.assert_array_equal(processed(labels, np.eye(4), CLASSES, ('liver', 'spleen'), 'largest', 'fill'), labels)
