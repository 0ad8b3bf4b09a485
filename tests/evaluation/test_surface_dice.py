"""Normalised surface Dice by hand, and as the package surface-distance of its authors computes it."""

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from synseg_jax.evaluation.metrics import TOLERANCE_MM, normalised_surface_dice

EDGE, CORNER = np.sqrt(2) / 2, np.sqrt(3) / 8  # areas of the elements of a cube with voxels of 1 mm; of a face: 1


def box(shape, *bounds):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in bounds)] = True
    return mask


def theirs(prediction, reference, spacing_mm, tolerance_mm):
    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    return surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm)


def test_two_shifted_cubes():
    """4 mm wide, 3 mm apart: on each, the face that turns away from the other is out of reach, and no other element."""
    one, other = (box((9, 6, 6), (at, at + 4), (1, 5), (1, 5)) for at in (1, 4))
    lost = 9 + 12 * EDGE + 4 * CORNER
    area = 6 * 9 + 36 * EDGE + 8 * CORNER
    assert normalised_surface_dice(one, other, (1, 1, 1), 2.0) == pytest.approx(1 - lost / area)
    assert normalised_surface_dice(one, other, (1, 1, 1), 3.0) == 1
    shared = 4 * 3 + 16 * EDGE + 4 * CORNER  # the sides, from the end of the other to the own end with its rim
    assert normalised_surface_dice(one, other, (1, 1, 1), 0.5) == pytest.approx(shared / area)


def test_anisotropic_voxels():
    """A cuboid shifted by one thick slice: its end faces are 5 mm apart, but their rim is near the other's sides."""
    one, other = (box((10, 10, 7), (1, 9), (1, 9), (at, at + 4)) for at in (1, 2))
    spacing_mm = (1.0, 1.0, 5.0)
    across, corner = np.hypot(1, 5) / 2, np.linalg.norm([5, 5, 1]) / 8  # elements of the edges and corners of the ends
    ends = 49 + 28 * across + 4 * corner
    sides = 4 * 3 * 7 * 5 + 4 * 3 * np.hypot(1, 1) / 2 * 5
    lost = ends + 9  # of the end inside the other, the 3 x 3 corners of voxels that lie over 2 mm from its sides
    expected = 1 - lost / (2 * ends + sides)
    assert normalised_surface_dice(one, other, spacing_mm) == pytest.approx(expected)
    assert normalised_surface_dice(one, other, spacing_mm, 5.0) == 1
    turned = (np.moveaxis(mask, 2, 0) for mask in (one, other))
    assert normalised_surface_dice(*turned, (5.0, 1.0, 1.0)) == pytest.approx(expected)


def test_a_distance_of_the_tolerance_is_within_it():
    one, other = (box((20,), (at, at + 9)) for at in (1, 4))  # ends 3 voxels apart
    assert normalised_surface_dice(one, other, (TOLERANCE_MM / 3,)) == 1
    assert normalised_surface_dice(one, other, (0.66666675,)) == 1  # as a header rounds 2 / 3
    assert normalised_surface_dice(one, other, (0.6667,)) == 0


def test_masks_at_the_border_and_of_one_voxel():
    corner, whole = box((3, 3, 3), (0, 1), (0, 1), (0, 1)), np.ones((3, 3, 3), bool)
    for mask in (corner, whole):
        framed = np.pad(mask, 2)
        assert normalised_surface_dice(mask, mask, (1, 2, 3)) == 1
        assert normalised_surface_dice(mask, corner, (4, 2, 3)) == pytest.approx(
            normalised_surface_dice(framed, np.pad(corner, 2), (4, 2, 3))
        )
    diagonal = box((3, 3, 3), (1, 2), (1, 2), (1, 2))  # shares one of 8 elements, 3 lie 2 mm away
    assert normalised_surface_dice(corner, diagonal, (2, 2, 2)) == pytest.approx(4 / 8)


@pytest.mark.parametrize('spacing_mm, within', [((1.0, 1.0, 1.0), 1e-9), ((2.0, 2.0), 1e-9), ((0.8, 1.1, 2.5), 2e-3)])
def test_as_the_package_of_its_authors_computes_it(spacing_mm, within, monkeypatch):
    """Rough blobs.  Areas of voxels that are not cubes differ a little, see `surface_elements`."""
    monkeypatch.setattr(np, 'Inf', np.inf, raising=False)  # which the package calls by its former name
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noise, other = (ndimage.gaussian_filter(rng.normal(size=(24, 28, 20)[: len(spacing_mm)]), 2) for _ in range(2))
        prediction, reference = (values > np.quantile(values, 0.7) for values in (noise, noise + 0.4 * other))
        for tolerance_mm in (1.0, 2.0, 4.0):
            masks = prediction, reference, spacing_mm, tolerance_mm
            assert normalised_surface_dice(*masks) == pytest.approx(theirs(*masks), abs=within)
