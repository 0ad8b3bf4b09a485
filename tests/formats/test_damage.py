"""Damaged files of every format: refused in a line, told of, or as good as whole; never a hang or a traceback."""

import re
import struct
import time
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from damage import KINDS, LENGTH, damaged, replace
from dicom_files import write_rtstruct, write_series
from pydicom.uid import RLELossless
from test_text_header import oblique

from synseg_jax.errors import InputError
from synseg_jax.formats import label_maps, scan_file

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


def _write(folder, name):
    """A tiny scan, named by its suffix and whether it is packed."""
    rng, (suffix, _, packed) = np.random.default_rng(0), name.partition(' ')
    array = rng.integers(-900, 900, (12, 10, 6)).astype(np.int16)
    if suffix == '.dcm':
        (path,) = write_series(folder, array[..., :1], AFFINE)
        if packed:
            read = pydicom.dcmread(path)
            read.compress(RLELossless)
            read.save_as(path)
        return path
    path = folder / f'scan{suffix}'
    if suffix.startswith('.nii'):
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    else:
        sitk.WriteImage(oblique(rng, (12, 10, 6), np.int16), str(path), bool(packed))
    return path


DAMAGED = {  # whether a checksum guards the voxels
    '.nii': False,
    '.nii.gz': True,
    '.nrrd': False,
    '.nrrd packed': True,
    '.mha': False,
    '.mha packed': True,
    '.nhdr': False,
    '.mhd packed': True,
    '.dcm': False,
    '.dcm packed': False,
}


@pytest.mark.parametrize('name', DAMAGED)
def test_damaged_files(tmp_path, name, caplog):
    """Refused in one line that names the file, told of, or as good as whole; never a hang, never a traceback."""
    path, rng = _write(tmp_path, name), np.random.default_rng(3)
    good, files = scan_file.read(path), sorted(tmp_path.iterdir())
    refused = 0
    for number in range(200):
        kind, file = KINDS[number % len(KINDS)], files[number % len(files)]
        content = file.read_bytes()
        replace(file, damaged(content, kind, rng))
        caplog.clear()
        start = time.monotonic()
        try:
            read = scan_file.read(path)
            told = bool(caplog.records)
            assert told or read.array.shape == good.array.shape, kind
            if DAMAGED[name] or kind in LENGTH:
                assert told or np.array_equal(read.array, good.array), kind
        except InputError as error:
            assert str(error).startswith(str(path)) and '\n' not in str(error)
            refused += 1
        assert time.monotonic() - start < 5, kind
        replace(file, content)
    assert refused > 40


@pytest.mark.parametrize('suffix', ['.dcm', ''])
def test_a_damaged_slice_is_never_left_out(tmp_path, suffix):
    """Also where it is the last one, which leaves no gap."""
    array = np.random.default_rng(0).integers(-900, 900, (6, 5, 2))
    files = [file.rename(file.with_suffix(suffix)) for file in write_series(tmp_path / 'ct', array, AFFINE)]
    rng, refused, content = np.random.default_rng(5), 0, files[1].read_bytes()
    for number in range(350):
        replace(files[1], damaged(content, KINDS[number % len(KINDS)], rng))
        try:
            assert scan_file.read(tmp_path / 'ct').array.shape == (6, 5, 2)
        except InputError as error:
            assert str(error).startswith(str(tmp_path / 'ct')) and '\n' not in str(error)
            refused += 1
    assert refused > 200


SIZES = {
    '.nii': (b'\x0c\x00\x0a\x00\x06\x00', '<3h'),
    '.nrrd': (b'sizes: 12 10 6', 'sizes: {} {} {}'),
    '.nrrd packed': (b'sizes: 12 10 6', 'sizes: {} {} {}'),
    '.mha': (b'DimSize = 12 10 6', 'DimSize = {} {} {}'),
    '.mha packed': (b'DimSize = 12 10 6', 'DimSize = {} {} {}'),
    '.dcm': (b'\x0a\x00', '<H'),
}


@pytest.mark.parametrize('name', SIZES)
def test_wrong_sizes_in_a_header(tmp_path, name, caplog):
    """More than there is gets refused; less is told."""
    path = _write(tmp_path, name)
    content, (said, form) = path.read_bytes(), SIZES[name]
    if name == '.dcm':
        said = content[content.index(b'\x28\x00\x10\x00US') :][:10]  # the element of rows
    for size in ((12, 10, 7), (12, 11, 6), (3000, 3000, 3000), (12, 9, 6), (1, 1, 1), (0, 10, 6), (-1, 10, 6)):
        if name == '.dcm':
            wrong = said[:8] + struct.pack(form, max(size[1], 0))
        else:
            wrong = struct.pack(form, *size) if name == '.nii' else form.format(*size).encode()
        changed = content.replace(said, wrong, 1)
        if changed == content:
            continue
        path.write_bytes(changed)
        caplog.clear()
        try:
            assert scan_file.read(path).array.size < 720
            assert 'more follows the' in caplog.text and str(path) in caplog.text
        except InputError as error:
            assert str(error).startswith(str(path))
            caplog.clear()


@pytest.mark.parametrize('suffix', ['.nrrd', '.mha'])
def test_a_bomb_is_not_unpacked(tmp_path, suffix, caplog):
    """A stream that would unpack to a thousand times what its header promises."""
    path = _write(tmp_path, f'{suffix} packed')
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if suffix == '.nrrd' else 15)
    bomb = b''.join([*(pack.compress(bytes(2**20)) for _ in range(30)), pack.flush()])
    head = path.read_bytes()
    end = head.index(b'\n\n') + 2 if suffix == '.nrrd' else head.index(b'LOCAL\n') + 6
    head = re.sub(rb'CompressedDataSize = \d+', b'CompressedDataSize = %d' % len(bomb), head[:end])
    path.write_bytes(head + bomb)
    tracemalloc.start()
    read = scan_file.read(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert not read.array.any() and 'more follows the 1440 bytes' in caplog.text


def test_damaged_contours(tmp_path):
    files = write_series(tmp_path / 'ct', np.zeros((24, 20, 4)), AFFINE)
    square = np.array([[2.2, 3.3], [9.1, 3.3], [9.1, 12.2], [2.2, 12.2]])
    path = write_rtstruct(tmp_path / 'rt.dcm', files, {'liver': [(1, square), (2, square)], 'spleen': [(0, square)]})
    scan, content = scan_file.read(tmp_path / 'ct'), path.read_bytes()
    classes, rng, refused = ('background', 'liver', 'spleen'), np.random.default_rng(0), 0
    values = {name: name for name in classes}
    good = label_maps.read(path, tmp_path / 'ct', values, classes, scan).array
    for number in range(200):
        kind = KINDS[number % len(KINDS)]
        replace(path, damaged(content, kind, rng), 1 + number)
        try:
            found = label_maps.read(path, tmp_path / 'ct', values, classes, scan).array
            assert found.shape == good.shape and (kind != 'truncated' or np.array_equal(found, good))
        except InputError as error:
            assert str(path) in str(error) and '\n' not in str(error)
            refused += 1
    assert refused > 40


def test_damaged_pictures(tmp_path):
    write_series(tmp_path / 'ct', np.zeros((24, 20, 2)), AFFINE)
    (tmp_path / 'masks').mkdir()
    masks = np.random.default_rng(0).integers(0, 2, (2, 20, 24)).astype(np.uint8)
    for k in range(2):
        sitk.WriteImage(sitk.GetImageFromArray(masks[k]), str(tmp_path / f'masks/{k}.png'))
    scan, path, rng, refused = scan_file.read(tmp_path / 'ct'), tmp_path / 'masks/1.png', np.random.default_rng(0), 0
    content = path.read_bytes()
    for number in range(200):
        replace(path, damaged(content, KINDS[number % len(KINDS)], rng))
        try:
            found = label_maps.read(path.parent, tmp_path / 'ct', {'liver': 1}, ('background', 'liver'), scan)
            np.testing.assert_array_equal(found.array, masks.transpose(2, 1, 0))
        except InputError as error:
            assert str(path.parent) in str(error) and '\n' not in str(error)
            refused += 1
    assert refused > 100
    sitk.WriteImage(sitk.GetImageFromArray(masks[1, :, :7]), str(path))
    with pytest.raises(InputError, match=r'1.png: mask has \(7, 20\) pixels, its slice \(24, 20\)'):
        label_maps.read(path.parent, tmp_path / 'ct', {'liver': 1}, ('background', 'liver'), scan)
