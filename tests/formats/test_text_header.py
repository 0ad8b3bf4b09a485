"""NRRD and MetaImage files: read as ITK reads them, and refused where it crashes, hangs or guesses."""

import bz2
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.formats.header_fields import HeaderFields
from synseg_jax.imaging import volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ITK_FILES = ('.nrrd', '.nhdr', '.mha', '.mhd')


def itk_affine(image):
    """Voxel index -> RAS mm of an image of SimpleITK."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


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
        read, grid = scan_file.read(path), scan_file.grid(path)
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
        for reader in (scan_file.read, scan_file.grid):
            with pytest.raises(InputError, match=f'{name}: .*{message}'):
                reader(tmp_path / name)


def test_numbers_in_digits(tmp_path):
    """Which take fewer bytes than the numbers that they stand for."""
    (tmp_path / 'scan.nrrd').write_text(
        'NRRD0004\ntype: double\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n'
        'space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: ascii\nspace origin: (0,0,0)\n\n'
        + ' '.join(str(i % 10) for i in range(24))
    )
    read = scan_file.read(tmp_path / 'scan.nrrd')
    np.testing.assert_array_equal(read.array.ravel(order='F'), np.arange(24) % 10)


def test_a_flat_image_is_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / 'flat.mha'))
    read = scan_file.read(tmp_path / 'flat.mha')
    assert read.array.shape == scan_file.grid(tmp_path / 'flat.mha').array.shape == (4, 3, 1)
    assert read.spacing_mm == (2, 3, 1) and read.array[3, 2, 0] == 11


VOXELS = np.arange(24, dtype='<i2').tobytes()
SPACE = ('space directions: (1,0.5,0) (0,2,0) (0,0,3)', 'space origin: (10,20,30)')


def nrrd(*lines, body=VOXELS, **fields):
    """A NRRD file of int16 numbers from 0 with more lines in its header, or other fields."""
    given = {'type': 'short', 'dimension': '3', 'sizes': '4 3 2', 'endian': 'little', 'encoding': 'raw', **fields}
    said = [f'{name}: {value}' for name, value in given.items() if value]
    return '\n'.join(['NRRD0004', *said, *lines, '', '']).encode() + body


def meta(*lines, body=VOXELS, **fields):
    """A MetaImage file of the same, its voxels behind the header."""
    given = {'NDims': '3', 'DimSize': '4 3 2', 'ElementType': 'MET_SHORT', **fields}
    said = [f'{name} = {value}' for name, value in given.items() if value]
    return '\n'.join([*said, *lines, 'ElementDataFile = LOCAL', '']).encode() + body


CHANNEL = {'dimension': '4', 'sizes': '1 4 3 2', 'kinds': 'list domain domain domain'}
VARIANTS = {
    '.nrrd': {
        'RAS': nrrd('space: RAS', *SPACE),
        'LAS': nrrd('space: left-anterior-superior', *SPACE),
        'no medical space': nrrd('space: scanner-xyz', *SPACE),
        'a space by its dimension': nrrd('space dimension: 3', *SPACE),
        'no directions': nrrd('space: RAS', 'space origin: (1,2,3)'),
        'spacings': nrrd('spacings: -2 3 4'),
        'borders': nrrd('spacings: 2 3 4', 'axis mins: 5 6 7'),
        'nodes': nrrd('spacings: 2 3 4', 'axis mins: 5 6 7', 'centerings: ??? cell node'),
        'fields of users': nrrd('# a: comment', 'name:=b: c', 'spacings: 2 3 4'),
        'one channel': nrrd('space: RAS', 'space directions: none (1,0,0) (0,2,0) (0,0,1)', **CHANNEL),
        'skipped': nrrd('byte skip: 2', 'line skip: 1', body=b'line\nzz' + VOXELS),
        'at the end': nrrd('byte skip: -1', body=b'more' + VOXELS),
        'hex': nrrd(encoding='hex', body=VOXELS.hex().encode()),
        'big endian': nrrd(endian='big'),
        'lines of Windows': nrrd(body=b'').replace(b'\n', b'\r\n') + VOXELS,
    },
    '.mha': {
        'plain': meta(),
        'negative spacing': meta('ElementSpacing = -2 3 4', 'Offset = 1 2 3', 'TransformMatrix = 1 0.1 0 0 1 0 0 0 1'),
        'other names': meta('ElementSize : 2 3 4', 'Position = 1 2 3', 'Rotation = 0 1 0 1 0 0 0 0 1'),
        'size and spacing': meta('a|b c = d: e', 'ElementSize = 2 3 4', 'ElementSpacing = 1 1 2'),
        'big endian': meta('BinaryDataByteOrderMSB = True'),
        'long': meta(ElementType='MET_LONG', DimSize='2 3 2'),
        'four axes': meta(NDims='4', DimSize='4 3 2 1'),
    },
}


@pytest.mark.parametrize(('suffix', 'name'), [(suffix, name) for suffix in VARIANTS for name in VARIANTS[suffix]])
def test_headers_as_itk_understands_them(tmp_path, suffix, name):
    path = tmp_path / f'scan{suffix}'
    path.write_bytes(VARIANTS[suffix][name])
    read, image = scan_file.read(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(read.array.ravel(order='F'), sitk.GetArrayFromImage(image).ravel())
    for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        there = image.TransformIndexToPhysicalPoint([*index, 0][: image.GetDimension()])
        np.testing.assert_allclose((LPS @ read.affine @ [*index, 1])[:3], there[:3], atol=1e-6)


def test_what_itk_does_not_read(tmp_path):
    """bzip2 and, in MetaImage, numbers in digits behind the header."""
    digits = ' '.join(map(str, range(24))).encode()
    for name, content in {
        'a.nrrd': nrrd(encoding='bzip2', body=bz2.compress(VOXELS)),
        'b.mha': meta('BinaryData = False', body=digits),
    }.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(scan_file.read(tmp_path / name).array.ravel(order='F'), np.arange(24))


HEADERS = {  # what ITK crashes or hangs on, or reads as something else
    '.nrrd': {
        'sizes: 4294967300 3 2': nrrd(sizes='4294967300 3 2'),
        'sizes of 4 axes': nrrd(sizes='4 3 2 1'),
        'sizes: -4 3 2': nrrd(sizes='-4 3 2'),
        'dimension: 99': nrrd(dimension='99'),
        'dimension: 3.0': nrrd(dimension='3.0'),
        'NaN': nrrd('space: LPS', 'space directions: (nan,0,0) (0,1,0) (0,0,1)'),
        'overflow': nrrd('space: LPS', 'space directions: (1e999,0,0) (0,1,0) (0,0,1)'),
        'two directions': nrrd('space: LPS', 'space directions: (1,0,0) (0,1,0)'),
        'no space': nrrd('space directions: (1,0,0) (0,1,0) (0,0,1)'),
        'no endian': nrrd(endian=''),
        'skip beyond': nrrd('byte skip: 99999999'),
        'skip before': nrrd('byte skip: -2'),
        'lines beyond': nrrd('line skip: 99999999999'),
        'twice': nrrd('sizes: 4 3 2'),
        'unknown field': nrrd('spade origin: (0,0,0)'),
        'bare field': nrrd('spacings'),
        'absolute': nrrd('data file: /etc/passwd'),
        'above': nrrd('data file: ../scan.nrrd'),
        'itself above': nrrd('data file: ..'),
        'list': nrrd('data file: LIST 2'),
        'pattern': nrrd('data file: s%03d.raw 1 2 1'),
        'digits': nrrd(encoding='ascii', body=b'1 2 x' + b' 1' * 21),
        'few digits': nrrd(encoding='ascii', body=b'1 ' * 23),
        'large digits': nrrd(encoding='ascii', body=b'99999 ' * 24),
        'cut bzip2': nrrd(encoding='bzip2', body=bz2.compress(VOXELS)[:-9]),
    },
    '.mha': {
        'NDims = -3': meta(NDims='-3'),
        'NDims = 4000000000': meta(NDims='4000000000'),
        'no NDims': meta(NDims=''),
        'DimSize of 2': meta(DimSize='4 3'),
        'DimSize = 4294967300': meta(DimSize='4294967300 3 2'),
        'DimSize = 1e1': meta(DimSize='1e1 3 2'),
        'Offset = nan': meta('Offset = nan 0 0'),
        'TransformMatrix': meta('TransformMatrix = 1 0 0 0 nan 0 0 0 1'),
        'flat': meta('TransformMatrix = 1 0 0 1 0 0 0 0 1'),
        'zero': meta('ElementSpacing = 0 1 1'),
        'HeaderSize': meta('HeaderSize = 2'),
        'HeaderSize < -1': meta('HeaderSize = -2'),
        'two offsets': meta('Offset = 0 0 0', 'Position = 1 0 0'),
        'twice': meta('NDims = 3'),
        'packed and at the end': meta('CompressedData = True', 'HeaderSize = -1'),
        'packed size': meta('CompressedData = True', 'CompressedDataSize = 9999'),
        'junk': meta('CompressedData = Fqlse'),
        'type': meta(ElementType='MET_SHORT_ARRAY'),
        'no line': meta('BinaryData'),
        'tube': meta('ObjectType = Tube'),
        'damaged field': meta('Ofsfet = 1 2 3'),
        'packed by its size': meta('CompressedDataSize = 9999'),
    },
    '.mhd': {
        'absolute': meta(body=b'').replace(b'LOCAL', b'/etc/passwd'),
        'above': meta(body=b'').replace(b'LOCAL', b'../scan.mhd'),
        'list': meta(body=b'').replace(b'LOCAL', b'LIST 2D\na.raw\nb.raw'),
        'pattern': meta(body=b'').replace(b'LOCAL', b's%03d.raw 1 2 1'),
        'no end': meta(body=b'').replace(b'ElementDataFile', b'ElementDataFil'),
        'NULs': meta(body=b'').replace(b'LOCAL', b'a\0b'),
    },
}


@pytest.mark.parametrize(('suffix', 'name'), [(suffix, name) for suffix in HEADERS for name in HEADERS[suffix]])
def test_headers_that_cannot_be_right(tmp_path, suffix, name):
    path = tmp_path / f'scan{suffix}'
    path.write_bytes(HEADERS[suffix][name])
    with pytest.raises(InputError) as error:
        scan_file.read(path)
    assert str(error.value).startswith(f'{path}: ') and '\n' not in str(error.value)


def test_errors_name_the_field():
    fields = HeaderFields(Path('a.nrrd'))
    fields.update({'sizes': '4 3.5', 'space origin': '1e999', 'dimension': '99', 'endian': 'middle'})
    for call, message in (
        (lambda: fields.integers('sizes', 2), "its sizes is '4 3.5', not 2 numbers"),
        (lambda: fields.floats('space origin', 1, '0'), "its space origin is '1e999', not a number"),
        (lambda: fields.axis_count('dimension', 16), 'its dimension is 99'),
        (lambda: fields.choice('endian', {'little': '<'}), "unknown endian 'middle'"),
        (lambda: fields.required('type'), "its header has no 'type'"),
    ):
        with pytest.raises(InputError, match=f'^a.nrrd: {message}'):
            call()
    assert fields.integer('line skip', '0') == 0 and fields.axis_count('dimension', 99) == 99


def test_names_that_are_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b'M\xfcller')
    folder.mkdir()
    for name, content in {'scan.nrrd': nrrd(), 'scan.mha': meta()}.items():
        path = folder / os.fsdecode(b'\xfc' + name.encode())
        path.write_bytes(content)
        np.testing.assert_array_equal(scan_file.read(path).array.ravel(order='F'), np.arange(24))
