"""What networks find in slices or in a volume comes back to the scan's own voxels."""

import numpy as np
import pytest

from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume

# voxels of 2 x 3 x 4 mm, stored so that x runs back, y up and z left
AFFINE = np.array([[0, 0, -4.0, 30], [-2.0, 0, 0, 20], [0, 3.0, 0, -10], [0, 0, 0, 1]])
SHAPE = (20, 12, 9)


@pytest.fixture
def scan():
    """A dark scan with two bright blocks, one brighter."""
    array = np.zeros(SHAPE, np.float32)
    array[4:12, 2:8, 1:5] = 50
    array[14:18, 4:10, 5:8] = 100
    return Volume(array, AFFINE)


def votes(frame):
    """Classes by brightness: dark, bright, brighter."""
    images = frame.images()[..., 0]
    return np.stack([np.maximum(0, 1 - 4 * abs(images - level)) for level in (0, 0.5, 1)], -1).astype(np.float32)


@pytest.mark.parametrize('resample', ['nearest', 'linear'])
@pytest.mark.parametrize('size, spacing_mm', [
    ((20, 9), 0.0), ((12, 20, 9), 0.0), ((40, 27), 0.0), ((1, 1, 1), 1.0), ((1, 1), 1.0)])  # fmt: skip
def test_labels_come_back_to_their_voxels(scan, size, spacing_mm, resample):
    """Rows run from front to back and columns from right to left, here 20 and 9 voxels; slices upwards, 12."""
    if len(size) == 3 and not spacing_mm:
        frame = NetworkGrid(scan, NetworkGrid.from_scan(scan, Normalisation(0, 100), 'axial', (20, 9)).stack,
                      (slice(0, 20), slice(0, 9)), 'axial', size)  # fmt: skip
    else:
        frame = NetworkGrid.from_scan(scan, Normalisation(0, 100), 'axial', size, spacing_mm=spacing_mm)
    assert frame.whole == (len(size) == 3)
    expected = (scan.array / 50).astype(np.uint8)
    found = frame.labels(votes(frame), resample)
    assert found.shape == SHAPE and found.dtype == np.uint8
    if spacing_mm:
        assert frame.size == (36, 40, 36)[-len(size) :] and np.mean(found != expected) < 0.1
    elif size == (40, 27):  # where a border falls between two of four pixels, the nearest one may be of either side
        assert np.mean(found != expected) < 0.01
    else:
        np.testing.assert_array_equal(found, expected)


def test_values_and_what_nobody_looked_at(scan):
    frame = NetworkGrid.from_scan(scan, Normalisation(0, 100), 'axial', (10, 4), share=0.5)
    assert frame.images().shape == (12, 10, 4, 1)
    found = frame.place(frame.values(np.full((12, 10, 4), 7.0, np.float32)), outside=-1)
    assert found.shape == SHAPE and set(np.unique(found)) == {-1, 7}
    assert (found == 7).sum() == 12 * 10 * 4 and (found[5:15, :, 2:6] == 7).all()


def test_neighbours_are_channels_of_slices(scan):
    frame = NetworkGrid.from_scan(scan, Normalisation(0, 100), 'axial', (20, 9))
    images = frame.images(1)
    assert images.shape == (12, 20, 9, 3)
    np.testing.assert_array_equal(images[3, ..., 0], frame.images()[2, ..., 0])
    apart = frame.images(1, context_mm=6.0)  # slices are 3 mm thick
    np.testing.assert_array_equal(apart[6, ..., 2], frame.images()[8, ..., 0])
