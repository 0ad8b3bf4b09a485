"""What a NIfTI header may leave out or say in its own way."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from test_text_header import itk_affine

from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.volume import Volume

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


@pytest.mark.parametrize(('unit', 'mm'), [('meter', 1000.0), ('mm', 1.0), ('micron', 0.001), ('unknown', 1.0)])
def test_units_of_a_header(tmp_path, unit, mm):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / 'scan.nii')
    stored = scan_file.read(tmp_path / 'scan.nii')
    np.testing.assert_allclose(stored.affine[:3], AFFINE[:3] * mm)
    scan_file.write(tmp_path / 'again.nii', stored.array, stored)  # in its own unit, and at the same place
    np.testing.assert_allclose(scan_file.read(tmp_path / 'again.nii').affine, stored.affine)


def test_a_scan_that_says_not_how_it_lies(tmp_path, caplog):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    nib.save(image, tmp_path / 'scan.nii')
    with caplog.at_level('WARNING', logger='absl'):
        scan_file.grid(tmp_path / 'scan.nii')
    assert 'scan.nii: has neither sform nor qform, so left and right are a guess' in caplog.text


SHEARED = np.array([[-1.0, 0, 0, 30], [0, -1, 0.9, 40], [0, 0, 2, -50], [0, 0, 0, 1]])
ARRAY = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def _saved(path, kind=nib.Nifti1Image, affine=AFFINE, qform=1, sform=1, **fields):
    """A scan with both forms, or those whose codes are not 0, and with other fields in its header."""
    image = kind(ARRAY, None)
    image.header.set_sform(affine, code=sform)
    image.header.set_qform(affine, code=qform, strip_shears=True)
    content = bytearray(kind(ARRAY, None, image.header).to_bytes())
    for name, value in fields.items():
        dtype, at = image.header.template_dtype.fields[name][:2]
        stored = np.resize(np.asarray(value, dtype.base), dtype.shape).tobytes()
        content[at : at + len(stored)] = stored
    path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)
    return path


HEADERS = {
    'at minus infinity': ({'vox_offset': -np.inf}, 'byte -inf'),
    'at no number': ({'vox_offset': np.nan}, 'byte nan'),
    'at infinity': ({'vox_offset': np.inf}, 'byte inf'),
    'far away': ({'vox_offset': 3e9}, 'byte 3000000000.0'),
    'no axes': ({'dim': [0, 3, 4, 5, 1, 1, 1, 1]}, 'claims 0 dimensions'),
    'many axes': ({'dim': [99, 3, 4, 5, 1, 1, 1, 1]}, 'claims 99 dimensions'),
    'large axes': ({'dim': [7] + [32767] * 7}, '7 dimensions|voxels'),
    'no type': ({'datatype': 77}, 'damaged'),
    'intercept': ({'scl_slope': 1, 'scl_inter': np.inf}, 'damaged'),
    'sform': ({'srow_x': np.nan}, 'its affine is'),
    'far sform': ({'srow_x': [-1.5, 0, 0, 1e30]}, 'its affine is'),
}


@pytest.mark.parametrize('name', HEADERS)
@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
def test_headers_that_cannot_be_right(tmp_path, name, suffix):
    fields, message = HEADERS[name]
    path = _saved(tmp_path / f'scan{suffix}', **fields)
    with pytest.raises(InputError, match=message) as error:
        scan_file.read(path)
    assert str(error.value).startswith(f'{path}: ') and '\n' not in str(error.value)


@pytest.mark.parametrize('length', [0, 3, 100, 347, 348, 400, 539, 541])
@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
def test_cut_short(tmp_path, kind, length):
    path = _saved(tmp_path / 'scan.nii', kind)
    path.write_bytes(path.read_bytes()[: length if kind is nib.Nifti2Image else min(length, 411)])
    with pytest.raises(InputError, match='empty|not a NIfTI|truncated'):
        scan_file.read(path)


def test_labels_too_large_for_labels(tmp_path):
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), 1e20, np.float32), AFFINE), tmp_path / 'labels.nii')
    with pytest.raises(InputError, match=r'labels up to 1e\+20'):
        scan_file.read_labels(tmp_path / 'labels.nii')


def test_a_qform_that_is_no_rotation(tmp_path, caplog):
    """The sform places the scan, and what is written on its grid has a qform again; without one it is refused."""
    path = _saved(tmp_path / 'scan.nii', quatern_b=3.0)
    with caplog.at_level('WARNING', logger='absl'):
        scan = scan_file.read(path)
    assert 'its qform is not a rotation; the sform is used' in caplog.text
    np.testing.assert_allclose(scan.affine, AFFINE)
    caplog.clear()
    scan_file.write(tmp_path / 'labels.nii', ARRAY, scan)
    np.testing.assert_allclose(scan_file.read(tmp_path / 'labels.nii').affine, AFFINE)
    np.testing.assert_allclose(nib.load(tmp_path / 'labels.nii').get_qform(), AFFINE, atol=1e-5)
    assert not caplog.records
    with pytest.raises(InputError, match='its qform is not a rotation, and it has no sform'):
        scan_file.read(_saved(path, quatern_b=3.0, sform=0))


@pytest.mark.parametrize('source', ['array', 'both forms', 'sform'])
def test_a_sheared_grid_has_no_qform(tmp_path, source, caplog):
    """Which would put it elsewhere: programs on ITK refuse the file instead.  It is said once, and not of our file."""
    like = Volume(ARRAY, SHEARED)
    if source != 'array':
        like = scan_file.read(_saved(tmp_path / 'scan.nii', affine=SHEARED, qform=source == 'both forms'))
    scan_file._warn_shear.cache_clear()
    caplog.clear()
    for name in ('a.nii.gz', 'b.nii.gz'):
        scan_file.write(tmp_path / name, ARRAY, like, 'label')
    assert caplog.text.count('the grid of a scan is sheared') == 1
    caplog.clear()
    np.testing.assert_allclose(scan_file.read(tmp_path / 'b.nii.gz').affine, SHEARED, atol=1e-5)
    written = nib.load(tmp_path / 'b.nii.gz')
    assert written.header['qform_code'] == 0 and written.header['sform_code'] == 1 and not caplog.records
    np.testing.assert_allclose(written.affine, SHEARED, atol=1e-5)
    with pytest.raises(RuntimeError, match='orthonormal'):
        sitk.ReadImage(tmp_path / 'b.nii.gz')


def test_a_shear_of_rounding_keeps_its_qform(tmp_path, caplog):
    """Positions of slices in whole tenths of a millimetre: programs on ITK would refuse the grid without."""
    affine = AFFINE.copy()
    affine[0, 2] = 0.02
    scan_file.write(tmp_path / 'a.nii', ARRAY, Volume(ARRAY, affine))
    assert not caplog.records and nib.load(tmp_path / 'a.nii').header['qform_code'] == 1
    np.testing.assert_allclose(itk_affine(sitk.ReadImage(tmp_path / 'a.nii')), affine, atol=0.02)


@pytest.mark.parametrize('forms', [(1, 0), (0, 1), (1, 1), (1, 2), (2, 4)])
def test_itk_sees_labels_where_the_scan_is(tmp_path, forms):
    turn = np.eye(4)
    turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    path = _saved(tmp_path / 'scan.nii', affine=turn @ AFFINE, qform=forms[0], sform=forms[1])
    scan_file.write(tmp_path / 'labels.nii', ARRAY, scan_file.read(path), 'label')
    np.testing.assert_allclose(itk_affine(sitk.ReadImage(tmp_path / 'labels.nii')), turn @ AFFINE, atol=1e-4)
    np.testing.assert_array_equal(itk_affine(sitk.ReadImage(tmp_path / 'labels.nii')), itk_affine(sitk.ReadImage(path)))


def test_axes_too_long_for_nifti_1(tmp_path):
    array = np.zeros((40000, 2, 1), np.uint8)
    scan_file.write(tmp_path / 'long.nii.gz', array, Volume(array, AFFINE))
    assert scan_file.grid(tmp_path / 'long.nii.gz').array.shape == array.shape
