"""Contours enclose exactly the pixel centres of a mask, holes included, by even-odd and by non-zero filling."""

import numpy as np
import pytest
from matplotlib.path import Path
from scipy import ndimage
from skimage.draw import polygon2mask

from synseg_jax.imaging.contours import contours


def filled(polygons, shape):
    """By even-odd (scikit-image) and by winding numbers (matplotlib), each polygon on its own."""
    even_odd, winding = np.zeros(shape, bool), np.zeros(shape, bool)
    centres = np.stack(np.indices(shape), -1).reshape(-1, 2)
    for polygon in polygons:
        even_odd |= polygon2mask(shape, polygon)
        winding |= Path(np.concatenate([polygon, polygon[:1]]), closed=True).contains_points(centres).reshape(shape)
    return even_odd, winding


def masks():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = ndimage.gaussian_filter(rng.normal(size=(37, 29)), 1.2)
        yield noise > np.quantile(noise, (0.3, 0.6, 0.9)[seed % 3])
    for share in (0.2, 0.5, 0.8):  # pieces that touch at corners, and many holes of one pixel
        yield np.random.default_rng(0).random((15, 12)) < share
    yield np.ones((4, 5), bool)  # up to the border
    yield np.eye(5, dtype=bool)


@pytest.mark.parametrize('mask', masks())
def test_the_centres_of_a_mask_lie_inside(mask):
    for found in filled(contours(mask), mask.shape):
        np.testing.assert_array_equal(found, mask)


def test_corners_of_a_square_with_a_hole():
    mask = np.ones((9, 9), bool)
    mask[3:6, 4] = False
    (polygon,) = contours(mask)
    x, y = polygon.T
    signed = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2
    assert signed == pytest.approx(9 * 9 - 4 / 8 - (3 - 4 / 8))  # corners cut, the channel without area
    assert len(polygon) < 8 + 8 + 5  # straight sides have no points of their own


def test_no_mask_no_contours():
    assert contours(np.zeros((4, 5), bool)) == []
