"""What networks find in slices or in a volume comes back to the scan's own voxels."""

import numpy as np
import pytest

from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.whole_scan import in_batches

# voxels of 2 x 3 x 4 mm, stored so that x runs back, y up and z left
AFFINE = np.array([[0, 0, -4.0, 30], [-2.0, 0, 0, 20], [0, 3.0, 0, -10], [0, 0, 0, 1]])
SHAPE = (20, 12, 9)
TURN = np.deg2rad(20)
ROTATED = np.array(
    [[np.cos(TURN), -np.sin(TURN), 0, 0], [np.sin(TURN), np.cos(TURN), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
)


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
        frame = NetworkGrid(scan, NetworkGrid.from_scan(scan, [Normalisation(0, 100)], 'axial', (20, 9)).stacks,
                      (slice(0, 20), slice(0, 9)), 'axial', size)  # fmt: skip
    else:
        frame = NetworkGrid.from_scan(scan, [Normalisation(0, 100)], 'axial', size, spacing_mm=spacing_mm)
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
    frame = NetworkGrid.from_scan(scan, [Normalisation(0, 100)], 'axial', (10, 4), share=0.5)
    assert frame.images().shape == (12, 10, 4, 1)
    found = frame.place(frame.values(np.full((12, 10, 4), 7.0, np.float32)), outside=-1)
    assert found.shape == SHAPE and set(np.unique(found)) == {-1, 7}
    assert (found == 7).sum() == 12 * 10 * 4 and (found[5:15, :, 2:6] == 7).all()


def test_neighbours_are_channels_of_slices(scan):
    frame = NetworkGrid.from_scan(scan, [Normalisation(0, 100)], 'axial', (20, 9))
    images = frame.images(1)
    assert images.shape == (12, 20, 9, 3)
    np.testing.assert_array_equal(images[3, ..., 0], frame.images()[2, ..., 0])
    apart = frame.images(1, context_mm=6.0)  # slices are 3 mm thick
    np.testing.assert_array_equal(apart[6, ..., 2], frame.images()[8, ..., 0])


@pytest.mark.parametrize('resample', ['nearest', 'linear'])
@pytest.mark.parametrize('size', [(48, 64), (16, 16), (40, 48, 64), (16, 16, 16)])
@pytest.mark.parametrize('affine', [AFFINE, AFFINE[[1, 0, 2, 3]], ROTATED @ AFFINE, np.diag([2.0, 3, 4, 1])])
def test_labels_come_back_from_the_window_about_the_body(affine, size, resample):
    """A body aside of the middle: in a window that reaches beyond the scan, and one that it reaches beyond."""
    array = np.zeros((40, 34, 20), np.float32)
    array[4:30, 8:30, 4:20], array[12:20, 12:20, 6:12] = 50, 100
    scan = Volume(array, affine)
    frame = NetworkGrid.from_scan(scan, [Normalisation(0, 100)], 'axial', size, spacing_mm=2.0, body_of='MR')
    centre, wide = frame.window
    assert frame.images().shape[1:-1] == wide and all(n >= least for n, least in zip(wide, size, strict=True))
    assert wide == size or max(size) == 16
    found = frame.labels(votes(frame), resample)
    expected = (array / 50).astype(np.uint8)
    assert found.shape == array.shape and np.mean(found != expected) < 0.04
    np.testing.assert_array_equal(frame.nearest(expected), votes(frame).argmax(-1))
    placed = frame.place(frame.values(frame.images()[..., 0]))
    assert abs(placed * 2 - expected)[expected > 0].mean() < 0.1


def test_the_body_is_in_the_middle_of_the_window():
    array = np.zeros((70, 64, 20), np.float32)
    array[4:24, 44:64] = 1
    frame = NetworkGrid.from_scan(
        Volume(array, np.diag([-3.0, -3, 3, 1])), [Normalisation(0, 1)], 'axial', (48, 48), spacing_mm=3.0, body_of='MR'
    )
    assert frame.images().shape == (20, 48, 48, 1)
    for axis in (1, 2):
        shown = np.flatnonzero(frame.images()[0, ..., 0].any(2 - axis))
        assert shown[0] + shown[-1] + 1 == 48
    assert frame.images().sum() == array.sum()  # nothing of it is lost
    seen = []
    in_batches(lambda tiles: seen.append(tiles.shape) or tiles, frame.images(), (48, 48), batch=20)
    assert seen == [(20, 48, 48, 1)]  # a body that fits costs one pass


def test_without_a_body_all_of_the_scan_is_seen():
    scan = Volume(np.full((40, 34, 20), -1000.0, np.float32), np.diag([3.0, 3, 3, 1]))
    frame = NetworkGrid.from_scan(scan, [Normalisation(-1000, 0)], 'axial', (16, 16), spacing_mm=3.0, body_of='CT')
    assert frame.images().shape == (20, 34, 40, 1)
