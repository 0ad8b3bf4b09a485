"""NRRD and MetaImage files come back with the same voxels at the same places."""

import numpy as np
import pytest
import SimpleITK as sitk

from synseg_jax.data import volume
from synseg_jax.errors import InputError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ITK_FILES = ('.nrrd', '.nhdr', '.mha', '.mhd')


def oblique(rng, shape, dtype):
    """An image of SimpleITK with any orientation."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    image = sitk.GetImageFromArray(rng.integers(0, 200, shape[::-1]).astype(dtype))
    image.SetDirection(q.ravel().tolist())
    image.SetSpacing(rng.uniform(0.5, 5, 3).tolist())
    image.SetOrigin(rng.uniform(-300, 300, 3).tolist())
    return image


@pytest.mark.parametrize('suffix', ITK_FILES)
@pytest.mark.parametrize('packed', [False, True])
def test_itk_files_of_any_orientation(tmp_path, suffix, packed):
    rng = np.random.default_rng(len(suffix) + packed)
    for number, dtype in enumerate((np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)):
        path = tmp_path / f'{number}{suffix}'
        image = oblique(rng, (5, 4, 3), dtype)
        sitk.WriteImage(image, str(path), packed)
        read, grid = volume.read(path), volume.grid(path)
        assert grid.array.shape == (5, 4, 3)
        np.testing.assert_array_equal(read.affine, grid.affine)
        for index in np.ndindex(5, 4, 3):
            assert read.array[index] == image[index]
            place = LPS @ read.affine @ [*index, 1]
            np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-3)
        upright = volume.canonical(read)
        corner = np.unravel_index(upright.array.argmax(), upright.array.shape)
        other = np.unravel_index(read.array.argmax(), read.array.shape)
        if (read.array == read.array.max()).sum() == 1:
            np.testing.assert_allclose(upright.affine @ [*corner, 1], read.affine @ [*other, 1], atol=1e-6)


def _itk_refusals(tmp_path):
    """{why: (file, message)}"""
    plane = np.arange(12, dtype=np.int16).reshape(3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True), str(tmp_path / 'rgb.nrrd'))
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 2, 3, 4), np.int16), isVector=False), str(tmp_path / 'four.mha')
    )
    sitk.WriteImage(sitk.GetImageFromArray(plane[None]), str(tmp_path / 'part.mhd'))
    (tmp_path / 'part.raw').unlink()
    sitk.WriteImage(sitk.GetImageFromArray(np.repeat(plane[None], 9, 0)), str(tmp_path / 'bomb.nrrd'), True)
    text = (tmp_path / 'bomb.nrrd').read_bytes()
    (tmp_path / 'bomb.nrrd').write_bytes(text.replace(b'sizes: 4 3 9', b'sizes: 999 999 999'))
    return {
        'rgb.nrrd': '3 numbers per voxel',
        'four.mha': '4 dimensions',
        'part.mhd': "voxels are in 'part.raw', which is no file beside it",
        'bomb.nrrd': 'truncated, its header promises 1994005998 bytes',
    }


def test_itk_files_that_are_refused(tmp_path):
    for name, message in _itk_refusals(tmp_path).items():
        for reader in (volume.read, volume.grid):
            with pytest.raises(InputError, match=f'{name}: .*{message}'):
                reader(tmp_path / name)


def test_numbers_in_digits(tmp_path):
    """Which take fewer bytes than the numbers that they stand for."""
    (tmp_path / 'scan.nrrd').write_text(
        'NRRD0004\ntype: double\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n'
        'space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: ascii\nspace origin: (0,0,0)\n\n'
        + ' '.join(str(i % 10) for i in range(24))
    )
    read = volume.read(tmp_path / 'scan.nrrd')
    np.testing.assert_array_equal(read.array.ravel(order='F'), np.arange(24) % 10)


def test_a_flat_image_is_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / 'flat.mha'))
    read = volume.read(tmp_path / 'flat.mha')
    assert read.array.shape == volume.grid(tmp_path / 'flat.mha').array.shape == (4, 3, 1)
    assert read.spacing_mm == (2, 3, 1) and read.array[3, 2, 0] == 11
