"""The body is found without labels: whatever the modality, without the table, arms and ghosts."""

import numpy as np
import pytest

from synseg_jax.imaging import body

SHAPE, SPACING = (12, 80, 100), (5.0, 3.0, 3.0)
ROWS, COLUMNS = (20, 60), (15, 75)  # of the body


def _ellipse(shrunk=0.0):
    """A body of 120 x 180 mm, aside of the middle; `shrunk` by so many pixels."""
    r, c = np.mgrid[: SHAPE[1], : SHAPE[2]] + 0.5
    middle, radii = (np.mean(ROWS), np.mean(COLUMNS)), (np.ptp(ROWS) / 2 - shrunk, np.ptp(COLUMNS) / 2 - shrunk)
    return ((r - middle[0]) / radii[0]) ** 2 + ((c - middle[1]) / radii[1]) ** 2 < 1


def _scan(air, fat, inside, table, noise):
    """Slices of a body under a layer of fat, lying on a table of 6 mm, beside an arm of 36 mm."""
    slice_ = np.where(_ellipse(), fat, air).astype(np.float32)
    slice_[_ellipse(4)] = inside
    slice_[58:60, 5:90][~_ellipse()[58:60, 5:90]] = table
    slice_[35:47, 84:96] = inside
    slice_ = np.broadcast_to(slice_, SHAPE).copy()
    slice_[:, 38:44, 40:50] = air  # bowel
    return slice_ + np.random.default_rng(0).normal(0, noise, SHAPE).astype(np.float32)


def _check(found):
    for (low, high), expected, length in zip(found[1:], (ROWS, COLUMNS), SHAPE[1:], strict=True):
        assert abs(low * length - expected[0]) <= 2 and abs(high * length - expected[1]) <= 2
    assert found[0] == (0.0, 1.0)


@pytest.mark.parametrize('limits', [(-3000, 3000), (-1000, 1000), (-200, 300), (-125, 275)])
def test_the_body_of_a_ct_however_its_values_are_clipped(limits):
    scan = _scan(-1000, -100, 50, 0, 15)
    scan[:, :3] = -3000  # beyond the circle of reconstruction
    _check(body.bounds(scan.clip(*limits), SPACING, 'CT_portal'))


@pytest.mark.parametrize('fat, inside', [(900, 300), (900, 40), (120, 400)])
def test_the_body_of_an_mr_whether_fat_or_organs_are_dark(fat, inside):
    scan = _scan(0, fat, inside, 0, 10)
    scan[:, 30:34, 30:60] = 3000  # vessels, far brighter than all else
    _check(body.bounds(abs(scan), SPACING, 'MR'))


def test_what_few_slices_show_does_not_count():
    scan = np.repeat(_scan(0, 300, 400, 0, 0), 6, 0)  # 72 slices
    scan[20:27, 55:80, 30:60] = 400
    _check(body.bounds(scan, SPACING, 'MR'))


def test_both_halves_of_a_body_that_is_divided():
    scan = _scan(-1000, -100, 50, -1000, 0)
    scan[:, :, 40:44] = -1000
    _check(body.bounds(scan, SPACING, 'CT'))


@pytest.mark.parametrize('step', [1, 2, 4])
def test_pixels_of_any_size(step):
    scan = np.repeat(np.repeat(_scan(-1000, -100, 50, -1000, 0), step, 1), step, 2)
    _check(body.bounds(scan, (5.0, 3.0 / step, 3.0 / step), 'CT'))


def test_a_field_of_view_within_the_body():
    scan = np.random.default_rng(0).normal(0, 20, (3, 40, 40)).astype(np.float32)
    assert body.bounds(scan, SPACING, 'CT') == ((0.0, 1.0),) * 3


@pytest.mark.parametrize('value', [-1000.0, 0.0])
@pytest.mark.parametrize('channel', ['CT', 'MR'])
def test_where_there_is_no_body(channel, value):
    assert body.bounds(np.full(SHAPE, value, np.float32), SPACING, channel) is None


@pytest.mark.parametrize('found, centre, size', [
    (((0.25, 0.75), (0.0, 0.5)), (20, 15), (32, 32)),  # less than the window
    (((0.0, 1.0), (0.2, 0.8)), (20, 30), (40, 36)),  # more
    (None, (20, 30), (40, 60)),
])  # fmt: skip
def test_the_window_about_the_body(found, centre, size):
    assert body.window(found, (32, 32), (40, 60)) == (centre, size)
