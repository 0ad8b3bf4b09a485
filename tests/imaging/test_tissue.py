"""What is darker or brighter than any organ: smoothed in millimetres, on the scan's own grid, whatever its axes."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synseg_jax.imaging.intensity import window
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.tissue import SIGMA_MM, beyond
from synseg_jax.imaging.volume import Volume

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('pixel_mm', [(0.7, 0.7), (1.5, 3.0), (2.0, 1.0, 3.0)])
def test_smoothing_is_a_gaussian_in_mm(pixel_mm):
    """Against SciPy, within slices alone."""
    stack = RNG.uniform(size=(3, *(20,) * len(pixel_mm))).astype(np.float32)
    wanted = gaussian_filter(stack, (0, *(SIGMA_MM / mm for mm in pixel_mm)), mode='nearest', truncate=3)
    for level in (0.3, 0.5, 0.6):
        for found, right in ((beyond(stack, pixel_mm, level, 1.0), wanted < level),
                             (beyond(stack, pixel_mm, 0.0, level), wanted > level)):  # fmt: skip
            assert not (found != right)[abs(wanted - level) > 1e-3].any()


def test_noise_makes_no_holes_in_an_organ():
    organ = np.full((4, 32, 32), 0.5, np.float32) + RNG.normal(0, 0.12, (4, 32, 32)).astype(np.float32)
    assert (organ < 0.3).mean() > 0.02 and not beyond(organ, (1.0, 1.0), 0.3, 0.7).any()


@pytest.mark.parametrize('resample', ['nearest', 'linear'])
@pytest.mark.parametrize('axes', ['RAS', 'LPI', 'SAR'])
def test_labels_leave_out_fat(axes, resample):
    """Of a scan half of which is fat, whatever the order of its axes; with 0 nothing is left out."""
    array = np.full((24, 24, 6), 80.0, np.float32)
    array[:12] = -100.0  # left half in RAS
    upright = nib.Nifti1Image(array, np.diag([1.5, 1.5, 5.0, 1.0]))
    stored = upright.as_reoriented(
        nib.io_orientation(nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (24, 24, 6)))
    )
    scan = Volume(np.asarray(stored.dataobj, np.float32), stored.affine)
    frame = NetworkGrid.from_scan(scan, [window(-125, 275)], 'axial', (12, 12))
    probabilities = np.zeros((6, 12, 12, 2), np.float32)
    probabilities[..., 1] = 1
    np.testing.assert_array_equal(frame.labels(probabilities, resample), 1)
    fat = scan.array < 0
    for part, organs in ((fat, (0.3, 1.0)), (~fat, (0.0, 0.4))):
        found = frame.labels(probabilities, resample, *organs)
        assert found[~part].mean() > 0.9 and found[part].mean() < 0.1
