"""Surface elements against the areas of known surfaces, and those of the package surface-distance."""

import numpy as np
import pytest
from surface_distance import lookup_tables

from synseg_jax.evaluation.surface_elements import CORNERS, element_areas


def test_faces_edges_and_corners_of_a_cuboid():
    mask = np.zeros((6, 7, 5), bool)
    mask[1:4, 2:6, 1:3] = True  # 3 x 4 x 2 voxels
    areas = element_areas(mask, (2.0, 1.0, 3.0))
    assert areas.shape == (7, 8, 6) and np.count_nonzero(areas) == 4 * 5 * 3 - 2 * 3 * 1  # corners on its surface
    assert areas[1, 4, 2] == pytest.approx(1 * 3)  # in a face at right angles to the first axis
    assert areas[1, 2, 2] == pytest.approx(np.hypot(2, 1) / 2 * 3)  # an edge along the last axis
    assert areas[1, 2, 1] == pytest.approx(np.linalg.norm([1 * 3, 2 * 3, 2 * 1]) / 8)  # a corner, cut off


def test_contours_have_lengths_and_ends_of_lines_count_one():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 1:5] = True
    around = 2 * 2 * 2.0 + 2 * 3 * 0.5 + 4 * np.hypot(2, 0.5) / 2  # straight pieces, and corners cut off
    assert element_areas(mask, (2.0, 0.5)).sum() == pytest.approx(around)
    assert element_areas(np.array([0, 1, 1, 0, 1], bool), (3.0,)).tolist() == [0, 1, 0, 1, 1, 1]


def test_a_mask_at_the_border_has_surface_there():
    inner = np.pad(np.ones((3, 3, 3), bool), 1)
    bare, framed = (element_areas(mask, (1, 2, 3)) for mask in (inner[1:-1, 1:-1, 1:-1], inner))
    np.testing.assert_array_equal(bare, framed[1:-1, 1:-1, 1:-1])


@pytest.mark.parametrize('spacing_mm, differ', [((1.0, 1.0, 1.0), 0), ((1.0, 0.7, 3.0), 32)])
def test_areas_are_those_of_surface_distance(spacing_mm, differ):
    """All 256 cells of cubic voxels have its area; of other voxels, 32 whose patches are not flat differ."""
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    found = []
    for code in range(256):
        cell = np.zeros((2, 2, 2), bool)
        for bit, corner in enumerate(CORNERS):
            cell[corner] = code >> bit & 1
        weights = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
        found.append((element_areas(cell, spacing_mm)[1, 1, 1], theirs[int((cell * weights).sum())]))
    ours, theirs = np.array(found).T
    assert np.count_nonzero(~np.isclose(ours, theirs)) == differ
    np.testing.assert_allclose(ours, theirs, rtol=0.25)


def test_the_area_of_a_ball():
    grid = np.indices((44, 44, 44)) - 21.5
    area = element_areas((grid**2).sum(0) < 18**2, (1, 1, 1)).sum()
    assert area == pytest.approx(4 * np.pi * 18**2, rel=0.1)
