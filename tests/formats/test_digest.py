"""The digest of a scan tells whether any of its files has changed, and nothing of where they lie."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_series

from synseg_jax.formats import scan_file


@pytest.mark.parametrize('name', ['x.nii.gz', 'x.mha', 'x.mhd', 'x.nhdr', 'series'])
def test_it_follows_the_content(tmp_path, name):
    folder, voxels = tmp_path / 'one', np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    folder.mkdir()

    def write(voxels):
        if name == 'series':
            write_series(folder / name, voxels, np.eye(4))
        else:
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / name))

    write(voxels)
    first = scan_file.digest(folder / name)
    shutil.copytree(folder, tmp_path / 'copy')
    assert len(first) == 16 and scan_file.digest(tmp_path / 'copy' / name) == first
    if name == 'series':
        shutil.rmtree(folder / name)
    write(voxels + 1)
    assert scan_file.digest(folder / name) != first
