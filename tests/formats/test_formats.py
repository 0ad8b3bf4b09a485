"""Files as scanners and people wrote them are read as independent libraries read them, or refused by name."""

import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian

from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _places(affine, shape):
    """Where the corners and the middle of a grid lie."""
    index = np.array([[0, 0, 0], [shape[0] - 1, 0, 0], [0, shape[1] - 1, 0], [0, 0, shape[2] - 1], np.array(shape) / 2])
    return index @ affine[:3, :3].T + affine[:3, 3]


def _same_place(one, other, shape):
    np.testing.assert_allclose(_places(one, shape), _places(other, shape), atol=1e-3)


def test_nifti_files_against_nibabel(shared):
    for path in sorted((shared / 'data/formats').rglob('*.nii.gz')):
        image = nib.load(path)
        if image.ndim > 3:
            with pytest.raises(InputError, match=f'{path.name}: has 4 dimensions .*; extract one'):
                scan_file.read(path)
            continue
        read = scan_file.read(path)
        assert np.abs(read.array - np.asarray(image.dataobj, np.float32)).max() < 1e-3
        _same_place(read.affine, image.affine, image.shape)
        np.testing.assert_allclose(read.spacing_mm, image.header.get_zooms(), rtol=1e-3)


def test_nrrd_files_against_itk(shared):
    files = sorted((shared / 'data/formats/nrrd').iterdir())
    assert len(files) == 5
    for path in files:
        image, read = sitk.ReadImage(str(path)), scan_file.read(path)
        np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image).T)
        np.testing.assert_allclose(read.spacing_mm, image.GetSpacing())
        for index in ((0, 0, 0), (5, 9, 11), tuple(length - 1 for length in image.GetSize())):
            place = LPS @ read.affine @ [*index, 1]
            np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-6)


def _stored(file):
    """The rescaled pixels of one file without our code: Pillow for JPEG 2000, pydicom for the rest."""
    read = pydicom.dcmread(file)
    name = read.file_meta.TransferSyntaxUID.name
    if 'JPEG 2000' in name:
        stream = next(pydicom.encaps.generate_frames(read.PixelData, number_of_frames=1))
        (path := file.parent / 'decoded.j2k').write_bytes(stream)
        with Image.open(path) as picture:
            pixels = np.array(picture)
        path.unlink()
    else:
        pixels = read.pixel_array
    return pixels * float(read.get('RescaleSlope', 1)) + float(read.get('RescaleIntercept', 0))


@pytest.mark.parametrize(
    'name',
    [
        'dicom/ge_anatomical_001',
        'dicom/siemens_anatomical_001',
        'dicom/philips_anatomical_001',
        'dicom/generic_anatomical_002_non_isotropic',
        'dicom/generic_compressed_rle_001',
        'dicom/generic_compressed_j2k_001',
        'rtstruct/two_slices',
        'rtstruct/full_rtss',
    ],
)
def test_dicom_series_against_pydicom(shared, tmp_path, name):
    folder = shutil.copytree(shared / 'data/formats' / name, tmp_path / 'series')
    files = {}
    for file in folder.iterdir():
        read = pydicom.dcmread(file, stop_before_pixels=True)
        if 'Rows' in read:
            files[read.InstanceNumber] = (file, read)
    read = scan_file.read(folder)
    assert read.array.shape[2] == len(files)
    inverse = np.linalg.inv(LPS @ read.affine)
    for file, header in files.values():
        origin = np.array(header.ImagePositionPatient, float)
        corner = inverse @ [*origin, 1]  # the first pixel of each slice is a voxel of the volume
        k = round(corner[2])
        np.testing.assert_allclose(corner[:3], [0, 0, k], atol=0.02)
        np.testing.assert_allclose(read.array[:, :, k].T, _stored(file), rtol=1e-6, atol=1e-4)
        right, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        last = (
            origin
            + right * header.PixelSpacing[1] * (header.Columns - 1)
            + down * header.PixelSpacing[0] * (header.Rows - 1)
        )
        np.testing.assert_allclose(inverse @ [*last, 1], [header.Columns - 1, header.Rows - 1, k, 1], atol=0.02)


def test_lossless_codecs_agree(shared):
    """One scan, packed in three ways, of which two are read independently above."""
    folder = shared / 'data/formats/dicom'
    one, *others = (scan_file.read(folder / f'generic_compressed_{codec}_001') for codec in ('rle', 'j2k', 'jpegls'))
    for other in others:
        np.testing.assert_array_equal(one.array, other.array)
        np.testing.assert_array_equal(one.affine, other.affine)


def test_a_multi_frame_file(shared):
    """Each frame at its own place, with its own slope."""
    path = shared / 'data/formats/dicom/philips_enhanced_anatomical_001'
    header = pydicom.dcmread(next(path.iterdir()))
    read, pixels = scan_file.read(path), header.pixel_array
    inverse, seen = np.linalg.inv(LPS @ read.affine), set()
    for frame, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        place = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
        corner = inverse @ [*place, 1]
        np.testing.assert_allclose(corner[:3], [0, 0, round(corner[2])], atol=0.02)
        scale = own.PixelValueTransformationSequence[0]
        expected = pixels[frame] * float(scale.RescaleSlope) + float(scale.RescaleIntercept)
        np.testing.assert_allclose(read.array[:, :, round(corner[2])].T, expected, rtol=1e-6)
        seen.add(round(corner[2]))
    assert seen == set(range(header.NumberOfFrames))


def test_single_dicom_files(shared, tmp_path):
    folder = shared / 'data/formats/dicom/small'
    one, big, packed = (scan_file.read(folder / f'MR_small{word}.dcm') for word in ('', '_bigendian', '_jp2klossless'))
    assert pydicom.dcmread(folder / 'MR_small_bigendian.dcm').file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    for other in (big, packed):
        np.testing.assert_array_equal(one.array, other.array)
        np.testing.assert_array_equal(one.affine, other.affine)
    read = pydicom.dcmread(folder / 'MR_small_jp2klossless.dcm')
    for slope, intercept in ((2, -1024), (0.37, 1.5), (1, -300)):
        read.RescaleSlope, read.RescaleIntercept = slope, intercept
        read.save_as(tmp_path / 'scaled.dcm')
        scaled = scan_file.read(tmp_path / 'scaled.dcm').array
        np.testing.assert_allclose(scaled, one.array * slope + intercept, atol=1e-3)
    ct = pydicom.dcmread(folder / 'CT_small.dcm')
    np.testing.assert_array_equal(scan_file.read(folder / 'CT_small.dcm').array[..., 0].T, ct.pixel_array - 1024)


@pytest.mark.parametrize(
    'name, message',
    [
        ('dicom/generic_rgb_001', '0001.dcm: holds colour'),
        ('dicom/small/no_meta.dcm', 'no_meta.dcm: truncated or no DICOM'),  # it begins with a stray byte
        ('dicom/small/rtstruct.dcm', 'rtstruct.dcm: no DICOM images in it'),
        ('png/images/image_CHAOST2_2_slice010.png', 'unknown format; known: .nii'),
        ('tfrecord/sifa_ct_01.tfrecords', 'unknown format'),
    ],
)
def test_files_that_are_refused(shared, name, message):
    for reader in (scan_file.read, scan_file.grid):
        with pytest.raises(InputError, match=message):
            reader(shared / 'data/formats' / name)


def test_every_grid_is_that_of_the_scan(shared):
    folder = shared / 'data/formats'
    scans = [*(folder / 'nifti').iterdir(), *(folder / 'nrrd').iterdir(), *(folder / 'dicom').iterdir()]
    for path in scans:
        try:
            read = scan_file.read(path)
        except InputError as error:
            with pytest.raises(InputError) as other:
                scan_file.grid(path)
            assert str(other.value) == str(error)
            continue
        grid = scan_file.grid(path)
        assert grid.array.shape == read.array.shape
        np.testing.assert_array_equal(grid.affine, read.affine)
