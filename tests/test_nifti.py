"""What a NIfTI header may leave out or say in its own way."""

import nibabel as nib
import numpy as np
import pytest

from synseg_jax.data import volume

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


@pytest.mark.parametrize(('unit', 'mm'), [('meter', 1000.0), ('mm', 1.0), ('micron', 0.001), ('unknown', 1.0)])
def test_units_of_a_header(tmp_path, unit, mm):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / 'scan.nii')
    stored = volume.read(tmp_path / 'scan.nii')
    np.testing.assert_allclose(stored.affine[:3], AFFINE[:3] * mm)
    volume.write(tmp_path / 'again.nii', stored.array, stored)  # in its own unit, and at the same place
    np.testing.assert_allclose(volume.read(tmp_path / 'again.nii').affine, stored.affine)


def test_a_scan_that_says_not_how_it_lies(tmp_path, caplog):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    nib.save(image, tmp_path / 'scan.nii')
    with caplog.at_level('WARNING', logger='absl'):
        volume.grid(tmp_path / 'scan.nii')
    assert 'scan.nii: has neither sform nor qform, so left and right are a guess' in caplog.text
