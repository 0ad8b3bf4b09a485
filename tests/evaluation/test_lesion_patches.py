"""Measures in patches about lesions, on masks whose patches can be told by hand."""

import numpy as np
import pytest

from synseg_jax.evaluation.metrics import dice, hausdorff_95
from synseg_jax.evaluation.patches import patch_measures, patches

SPACING_MM = (5.0, 2.0, 1.0)  # of slices, rows, columns


def _masks():
    """A lesion of 2 slices and one at a border; a prediction that finds half of the first, and much beside it."""
    true, found = np.zeros((6, 30, 40), bool), np.zeros((6, 30, 40), bool)
    true[1:3, 10:14, 20:24] = True
    true[4, 0:2, 36:40] = True
    found[1:3, 10:12, 20:24] = True
    return true, found


def test_patches_are_squares_in_mm_in_the_slices_of_each_lesion():
    true, _ = _masks()
    inside = patches(true, SPACING_MM, 12.0)
    assert inside[1:3].sum() == 2 * 6 * 12 and inside[1, 9:15, 16:28].all()
    assert inside[4].sum() == 4 * 8 and inside[4, :4, 32:].all()  # cut at the border of the scan
    assert not inside[[0, 3, 5]].any()


def test_only_what_is_found_in_patches_counts():
    true, found = _masks()
    elsewhere = found.copy()
    elsewhere[1, 25, 5] = elsewhere[3, 11, 21] = elsewhere[2, 11, 38] = True
    measured = patch_measures(elsewhere, true, SPACING_MM, 12.0)
    assert measured == {
        'patch_dice': dice(found, true),
        'patch_hd95_mm': hausdorff_95(found, true, SPACING_MM),
    }
    assert measured['patch_dice'] == pytest.approx(2 * 16 / (16 + 40)) and dice(elsewhere, true) < 0.55
    near = found.copy()
    near[2, 14, 27] = True
    assert patch_measures(near, true, SPACING_MM, 12.0)['patch_dice'] == dice(near, true)


def test_patches_follow_the_rule_of_empty_masks():
    true, found = _masks()
    nothing = np.zeros_like(true)
    assert patch_measures(found, nothing, SPACING_MM, 12.0) == {'patch_dice': None, 'patch_hd95_mm': None}
    assert patch_measures(nothing, true, SPACING_MM, 12.0) == {'patch_dice': 0.0, 'patch_hd95_mm': None}
