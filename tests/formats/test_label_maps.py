"""Labels by name: values, lists of values and odd ones become the same classes, and what has no name is refused."""

import os
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_series

from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.formats.label_maps import as_tuple

AFFINE = np.diag([-2.0, 2, 3, 1])
SHAPE = (4, 5, 3)


def _save(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def image(tmp_path):
    return _save(tmp_path / 'image.nii.gz', np.arange(60, dtype=np.int16).reshape(SHAPE))


def _labels(*values):
    array = np.zeros(SHAPE)
    for i, value in enumerate(values):
        array[i] = value
    return array


CLASSES = ('background', 'liver', 'kidneys')


@pytest.mark.parametrize(
    ('array', 'values'),
    [
        (_labels(6, 2, 3).astype(np.uint8), {'background': 0, 'kidneys': [2, 3], 'liver': 6}),
        (_labels(500, 200, 600), {'background': 0, 'liver': 500, 'kidneys': (200, 600)}),
        (_labels(1 - 5e-4, 2, 2 + 5e-4), {'background': 0, 'liver': 1, 'kidneys': 2}),
        (_labels(70000, 3, 3).astype(np.int32), {'background': 0, 'liver': 70000, 'kidneys': 3, 'spleen': 9}),
    ],
    ids=['several', 'odd', 'floats', 'large'],
)
def test_values_become_classes(tmp_path, image, array, values):
    found = label_maps.read(_save(tmp_path / 'l.nii.gz', array), image, values, CLASSES)
    assert found.array.dtype == np.uint8
    np.testing.assert_array_equal(found.array, _labels(1, 2, 2))
    np.testing.assert_array_equal(found.affine, nib.load(image).affine)


def test_classes_that_are_not_asked_for_are_background(tmp_path, image):
    path = _save(tmp_path / 'l.nii.gz', _labels(6, 2, 3).astype(np.uint8))
    values = {'background': 0, 'kidneys': [2, 3], 'liver': 6}
    found = label_maps.read(path, image, values, ('background', 'kidneys'))
    np.testing.assert_array_equal(found.array, _labels(0, 1, 1))


def test_unnamed_values_and_other_grids(tmp_path, image):
    values = {'background': 0, 'liver': 6}
    path = _save(tmp_path / 'l.nii.gz', _labels(6, 7, 9).astype(np.uint8))
    with pytest.raises(InputError, match=r'l\.nii\.gz: label values 7, 9 are not named'):
        label_maps.read(path, image, values, CLASSES[:2])
    moved = AFFINE.copy()
    moved[0, 3] = 5e-3
    near = _save(tmp_path / 'near.nii.gz', _labels(6, 6, 0).astype(np.uint8), moved)
    found = label_maps.read(near, image, values, CLASSES[:2])
    assert found.affine[0, 3] == 0  # lies where its image lies
    moved[0, 3] = 2
    far = _save(tmp_path / 'far.nii.gz', _labels(6, 6, 0).astype(np.uint8), moved)
    with pytest.raises(InputError, match=r'far\.nii\.gz: voxels lie up to 2 mm'):
        label_maps.read(far, image, values, CLASSES[:2])


@pytest.mark.parametrize('largest', [300, 2**31 - 1])
def test_many_unnamed_values(tmp_path, image, largest):
    """None of which is waste of memory."""
    array = np.arange(60).reshape(SHAPE)
    array[0, 0, 0] = largest
    path = _save(tmp_path / 'l.nii.gz', array.astype(np.int32))
    tracemalloc.start()
    with pytest.raises(InputError) as error:
        label_maps.read(path, image, {'background': (0, 1), 'liver': 6}, CLASSES[:2])
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert 'label values 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, ... (58 in all) are not named; name' in str(error.value)
    assert str(error.value).endswith('(background:0+2+3+... to leave them out)')


def test_values_that_are_left_out(tmp_path, image):
    path = _save(tmp_path / 'l.nii.gz', _labels(6, 7, 9).astype(np.uint8))
    found = label_maps.read(path, image, {'background': (0, 7, 9), 'liver': 6}, CLASSES[:2])
    np.testing.assert_array_equal(found.array, _labels(1))


def test_a_class_without_a_number(tmp_path, image):
    path = _save(tmp_path / 'l.nii.gz', _labels(6, 7).astype(np.uint8))
    values = {'background': 0, 'liver': 6, 'kidneys': '7-8'}
    with pytest.raises(InputError, match=r"l\.nii\.gz: a label map, but kidneys is given by contours .'7-8'"):
        label_maps.read(path, image, values, CLASSES)
    with pytest.raises(InputError, match='label values 7 are not named'):  # it is not asked for
        label_maps.read(path, image, values, CLASSES[:2])


def test_what_is_held(tmp_path, image):
    path = _save(tmp_path / 'l.nii.gz', _labels(6, 500, 1 - 5e-4))
    assert label_maps.present_values(path, image, scan_file.read(image)) == [1, 6, 500]


def test_pictures_need_a_series(tmp_path, image):
    (tmp_path / 'masks').mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4), np.uint8)), str(tmp_path / 'masks' / '1.png'))
    with pytest.raises(InputError, match='PNG masks need a DICOM series'):
        label_maps.read(tmp_path / 'masks', image, {'background': 0, 'liver': 63}, CLASSES[:2])


def test_several():
    assert as_tuple(3) == (3,) and as_tuple('GTV') == ('GTV',) and as_tuple([1, 2]) == (1, 2)


def test_pictures_whose_names_are_not_utf_8(tmp_path):
    """At which SimpleITK ends the process."""
    write_series(tmp_path / 'ct', np.zeros((5, 4, 2)), np.diag([-1.0, -1.0, 2.0, 1.0]))
    folder = tmp_path / os.fsdecode(b'M\xfcller')
    folder.mkdir()
    for number in range(2):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5), number, np.uint8)), str(tmp_path / 'mask.png'))
        (tmp_path / 'mask.png').rename(folder / f'{number}.png')
    found = label_maps.read(folder, tmp_path / 'ct', {'liver': 1}, CLASSES[:2])
    assert found.array.shape == (5, 4, 2) and found.array.sum() == 20
