"""Scans come back where they were: every orientation, every header, and a clear line for what is not a scan."""

import errno
import gzip
import itertools
import os
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series
from nibabel.orientations import aff2axcodes, inv_ornt_aff

from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging import memory_limit, volume

SHAPE = (3, 4, 5)
ORIENTATIONS = [
    np.array([*zip(order, flips, strict=True)], float)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def _rotation(degrees):
    turns = np.deg2rad(degrees)
    result = np.eye(3)
    for axis, angle in enumerate(turns):
        plane = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        result = result @ turn
    return result


def _affine(orientation, degrees):
    affine = np.eye(4)
    affine[:3, :3] = _rotation(degrees) @ np.diag([1.1, 0.9, 3.3])
    affine[:3, 3] = [-40.5, 20.25, 7.125]
    return affine @ inv_ornt_aff(orientation, SHAPE)


def _save(path, array, affine=None, **header):
    image = nib.Nifti1Image(array, np.diag([-2.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.header.set_data_dtype(array.dtype)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def _raw(shape=SHAPE, dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize('degrees', [(0, 0, 0), (12, -7, 20)], ids=['straight', 'oblique'])
@pytest.mark.parametrize(
    'orientation', ORIENTATIONS, ids=lambda o: ''.join(f'{int(a)}{"+" if f > 0 else "-"}' for a, f in o)
)
def test_round_trip(tmp_path, orientation, degrees):
    stored = scan_file.read(_save(tmp_path / 'scan.nii', _raw(), _affine(orientation, degrees)))
    upright = volume.canonical(stored)
    assert aff2axcodes(upright.affine) == ('L', 'P', 'S')
    # each voxel keeps its place in the patient
    index = np.array([2, 1, 2])
    value = upright.array[tuple(index)]
    origin = np.argwhere(stored.array == value)[0]
    np.testing.assert_allclose(upright.affine @ [*index, 1], stored.affine @ [*origin, 1], atol=1e-9)
    back = volume.restore(upright.array.astype(np.uint8), stored)
    scan_file.write(tmp_path / 'out.nii.gz', back, stored)
    written = nib.load(tmp_path / 'out.nii.gz')
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), _raw())
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / 'scan.nii').affine)


def test_restore_keeps_channels():
    like = volume.Volume(_raw(), _affine(ORIENTATIONS[17], (0, 0, 0)))
    channels = np.stack([volume.canonical(like).array, -volume.canonical(like).array], -1)
    restored = volume.restore(channels, like)
    np.testing.assert_array_equal(restored, np.stack([_raw(), -_raw()], -1))
    with pytest.raises(ValueError, match='does not restore'):
        volume.restore(np.zeros((7, 4, 5)), like)


def test_write_keeps_the_grid_and_drops_names(tmp_path):
    image = nib.Nifti1Image(_raw(), _affine(ORIENTATIONS[5], (3, 4, 5)))
    image.header.set_xyzt_units('mm', 'sec')
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=4)
    image.header['descrip'] = b'Jane Doe'
    image.header.set_slope_inter(2, -1)
    image.header.extensions.append(nib.nifti1.Nifti1Extension('comment', b'Jane Doe'))
    nib.save(image, tmp_path / 'scan.nii.gz')
    like = scan_file.read(tmp_path / 'scan.nii.gz')
    scan_file.write(tmp_path / 'out.nii', np.full(SHAPE, 0.25, np.float32), like, intent='label')
    out = nib.load(tmp_path / 'out.nii')
    for name in ('qform_code', 'sform_code', 'xyzt_units', 'quatern_b', 'srow_x', 'pixdim'):
        np.testing.assert_array_equal(out.header[name], like.header[name])
    assert out.get_data_dtype() == np.float32 and out.header.get_intent()[0] == 'label'
    assert out.get_fdata().max() == 0.25  # no old slope
    assert b'Jane' not in (tmp_path / 'out.nii').read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out.nii', 'scan.nii.gz']


def test_write_without_a_header(tmp_path):
    like = volume.Volume(_raw(), _affine(ORIENTATIONS[0], (12, -7, 20)))
    scan_file.write(tmp_path / 'a.nii.gz', _raw(), like)
    np.testing.assert_allclose(scan_file.read(tmp_path / 'a.nii.gz').affine, like.affine, atol=1e-5)
    assert (tmp_path / 'a.nii.gz').read_bytes()[4:8] == bytes(4)  # no time of day: same scan, same bytes


@pytest.mark.parametrize('dtype', ['>i2', '<u1', '>f4', '<f8', '<i8'])
@pytest.mark.parametrize('cls', [nib.Nifti1Image, nib.Nifti2Image])
def test_dtypes_and_byte_orders(tmp_path, dtype, cls):
    header = cls.header_class(endianness=dtype[0])
    header.set_data_dtype(dtype)
    nib.save(cls(_raw().astype(dtype), np.diag([-2.0, 2, 3, 1]), header), tmp_path / 'scan.nii')
    read = scan_file.read(tmp_path / 'scan.nii')
    assert read.array.dtype == np.float32 and read.spacing_mm == (2, 2, 3)
    np.testing.assert_array_equal(read.array, _raw())


def test_scaled_int16(tmp_path):
    path = _save(tmp_path / 'scan.nii.gz', _raw())
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:120] = struct.pack('<ff', 1.5, -1024)
    path.write_bytes(gzip.compress(content))
    np.testing.assert_allclose(scan_file.read(path).array, _raw() * 1.5 - 1024)


def test_trailing_singleton_and_flat_scans(tmp_path):
    assert scan_file.read(_save(tmp_path / 'a.nii', _raw((*SHAPE, 1)))).array.shape == SHAPE
    assert scan_file.read(_save(tmp_path / 'b.nii', _raw((3, 4)))).array.shape == (3, 4, 1)


def test_labels_snap(tmp_path):
    labels = scan_file.read_labels(_save(tmp_path / 'l.nii', _raw(dtype=np.float64) * 10 + 1e-4))
    np.testing.assert_array_equal(labels.array, _raw() * 10)
    assert labels.array.dtype == np.uint16


@pytest.mark.parametrize('value, message', [(1.5, 'whole numbers'), (-1.0, 'negative'), (np.nan, 'NaN')])
def test_labels_refused(tmp_path, value, message):
    array = _raw(dtype=np.float32)
    array[1, 1, 1] = value
    with pytest.raises(InputError, match=message):
        scan_file.read_labels(_save(tmp_path / 'l.nii.gz', array))


def _rgb(path):
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]), np.eye(4)), path)


def _truncated(path):
    _save(path, np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:5000])


def _flipped_bit(path):
    _save(path, np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)


def _huge(path):
    content = bytearray(_save(path.with_name('small.nii'), _raw()).read_bytes())
    content[42:48] = struct.pack('<hhh', 32767, 32767, 32767)
    path.write_bytes(gzip.compress(content))


def _over_promised(path):
    content = bytearray(_save(path.with_name('small.nii'), _raw()).read_bytes())
    content[42:48] = struct.pack('<hhh', 1000, 1000, 1000)
    path.write_bytes(gzip.compress(content))


def _singular(path):
    content = bytearray(_save(path.with_name('small.nii'), _raw()).read_bytes())
    content[252:256] = struct.pack('<hh', 0, 1)
    content[280:296] = bytes(16)
    path.write_bytes(gzip.compress(content))


def _nan(path):
    array = _raw(dtype=np.float32)
    array[0, 0, :2] = np.nan, np.inf
    _save(path, array)


BAD = {
    'truncated': (_truncated, 'truncated|damaged'),
    'checksum': (_flipped_bit, 'damaged'),
    'empty': (lambda path: path.write_bytes(b''), 'empty'),
    'not gzip': (lambda path: path.write_bytes(b'hello' * 200), 'not gzip'),
    'not nifti': (lambda path: path.write_bytes(gzip.compress(b'hello' * 200)), 'not a NIfTI'),
    'short header': (lambda path: path.write_bytes(gzip.compress(struct.pack('<i', 348) + bytes(90))), 'not a NIfTI'),
    'no magic': (
        lambda path: path.write_bytes(gzip.compress(struct.pack('<i', 348) + bytes(900))),
        'damaged|dimensions',
    ),
    'nan': (_nan, '2 voxels are NaN'),
    'rgb': (_rgb, 'RGB'),
    'complex': (lambda path: _save(path, _raw(dtype=np.complex64)), 'complex'),
    '4-D': (lambda path: _save(path, _raw((3, 4, 5, 2))), '4 dimensions'),
    'huge': (_huge, '32767 x 32767 x 32767'),
    'over-promised': (_over_promised, 'its header promises 2000000000 bytes'),
    'singular': (_singular, 'singular'),
    'missing': (lambda path: None, 'no such file'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_files_give_one_line_naming_them(tmp_path, kind):
    make, message = BAD[kind]
    make(tmp_path / 'scan.nii.gz')
    with pytest.raises(InputError, match=message) as error:
        scan_file.read(tmp_path / 'scan.nii.gz')
    assert 'scan.nii.gz' in str(error.value) and '\n' not in str(error.value)


def test_what_follows_the_voxels_is_never_unpacked(tmp_path):
    path = _save(tmp_path / 'bomb.nii', _raw())
    bomb = gzip.compress(path.read_bytes() + bytes(50_000_000))
    (tmp_path / 'bomb.nii.gz').write_bytes(bomb)
    (tmp_path / 'garbage.nii.gz').write_bytes(gzip.compress(path.read_bytes()) + b'garbage')
    tracemalloc.start()
    for name in ('bomb.nii.gz', 'garbage.nii.gz'):
        np.testing.assert_array_equal(scan_file.read(tmp_path / name).array, _raw())
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_disagreeing_forms_are_said(tmp_path, caplog):
    image = nib.Nifti1Image(_raw(), np.diag([-2.0, 2.0, 3.0, 1.0]))
    image.set_qform(np.diag([2.0, 2.0, 3.0, 1.0]), code=1)
    image.set_sform(image.affine, code=1)
    nib.save(image, tmp_path / 'scan.nii')
    with caplog.at_level('WARNING', logger='absl'):
        assert scan_file.read(tmp_path / 'scan.nii').affine[0, 0] == -2
    assert 'disagree by up to 8 mm' in caplog.text


def test_files_as_users_have_them(shared):
    folder = shared / 'data/formats'
    for name in ('example4d', 'example_nifti2'):
        with pytest.raises(InputError, match='4 dimensions'):
            scan_file.read(folder / f'nifti/{name}.nii.gz')
    for name in ('CT_AVM', 'MR_Gd', 'chris_PD'):
        stored = scan_file.read(folder / f'nifti/{name}.nii.gz')
        upright = volume.canonical(stored)
        assert aff2axcodes(upright.affine) == ('L', 'P', 'S')
        np.testing.assert_array_equal(volume.restore(upright.array, stored), stored.array)
    assert scan_file.read(folder / 'nifti/CT_AVM.nii.gz').array.max() == pytest.approx(
        563.2, abs=0.1
    )  # uint8 with slope
    assert set(np.unique(scan_file.read_labels(folder / 'raw_labels/cardiac_label_1.nii.gz').array)) == {
        0,
        200,
        500,
        600,
    }
    assert scan_file.read_labels(folder / 'raw_labels/btcv_label_3.nii.gz').array.max() == 13


@pytest.mark.parametrize('number', [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOTCONN])
def test_what_keeps_a_file_from_being_read_is_no_damage(tmp_path, monkeypatch, number):
    path = _save(tmp_path / 'scan.nii.gz', _raw())

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(gzip.GzipFile, 'read', fail)
    for reader in (scan_file.read, scan_file.grid, scan_file.read_labels):
        with pytest.raises(InputError, match=f'^{path}: cannot be read: {os.strerror(number)}; ') as error:
            reader(path)
        assert 'damaged' not in str(error.value) and 'replace' not in str(error.value)


@pytest.mark.parametrize('suffix', ['.nii.gz', '.nrrd', '.mha'])
def test_scans_that_memory_does_not_hold(tmp_path, monkeypatch, suffix):
    """1 GiB of zeros in a few kilobytes, more than is free or more than is allowed."""
    path = tmp_path / f'scan{suffix}'
    if suffix == '.nii.gz':
        content = bytearray(_save(tmp_path / 'small.nii', _raw()).read_bytes())[:352]
        content[42:48] = struct.pack('<hhh', 1024, 1024, 512)
        path.write_bytes(gzip.compress(bytes(content)) + os.urandom(2**20))
    elif suffix == '.nrrd':
        head = b'NRRD0004\ntype: short\ndimension: 3\nsizes: 1024 1024 512\nendian: little\nencoding: gz\n\n'
        path.write_bytes(head + os.urandom(2**20))
    else:
        head = b'NDims = 3\nDimSize = 1024 1024 512\nElementType = MET_SHORT\nCompressedData = True\n'
        path.write_bytes(head + b'CompressedDataSize = 1048576\nElementDataFile = LOCAL\n' + os.urandom(2**20))
    assert scan_file.grid(path).array.shape == (1024, 1024, 512)
    monkeypatch.setattr(memory_limit, 'available', lambda: 1.5 * 2**30)
    with pytest.raises(InputError, match=f'^{path}: reading it takes 3.00 GiB of memory, 1.50 GiB are free; .*_GIB=N'):
        scan_file.read(path)
    monkeypatch.setenv('SYNSEG_MAX_SCAN_GIB', '2')
    with pytest.raises(InputError, match=f'^{path}: reading it takes .*, SYNSEG_MAX_SCAN_GIB allows 2;'):
        scan_file.read(path)
    monkeypatch.setenv('SYNSEG_MAX_SCAN_GIB', 'much')
    with pytest.raises(InputError, match='SYNSEG_MAX_SCAN_GIB=much: give a number of GiB'):
        scan_file.read(path)


def test_a_series_that_memory_does_not_hold(tmp_path, monkeypatch):
    write_series(tmp_path / 'ct', np.zeros((24, 20, 4)), np.diag([-1.0, -1.0, 2.0, 1.0]))
    monkeypatch.setattr(memory_limit, 'available', lambda: 1e3)
    with pytest.raises(InputError, match='ct: reading it takes 0.00 GiB of memory'):
        scan_file.read(tmp_path / 'ct')


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch):
    path = _save(tmp_path / 'scan.nii', _raw())

    def fail(*_, **__):
        raise MemoryError('Unable to allocate 9 GiB')

    monkeypatch.setattr(scan_file, '_require_finite', fail)
    with pytest.raises(InputError, match=f'^{path}: too large for the free memory .*9 GiB'):
        scan_file.read(path)


def test_no_link_is_followed_in_writing(tmp_path):
    (tmp_path / 'precious').write_text('kept')
    for name in ('out.nii.gz', '.out.nii.gz.partial'):
        (tmp_path / name).symlink_to(tmp_path / 'precious')
    scan_file.write(tmp_path / 'out.nii.gz', _raw(), volume.Volume(_raw(), np.eye(4)))
    assert (tmp_path / 'precious').read_text() == 'kept' and not (tmp_path / 'out.nii.gz').is_symlink()


def test_names_that_are_not_utf_8(tmp_path):
    path = _save(tmp_path / 'scan.nii.gz', _raw())
    odd = path.rename(tmp_path / os.fsdecode(b'M\xfcller.nii.gz'))
    np.testing.assert_array_equal(scan_file.read(odd).array, _raw())


@pytest.mark.parametrize('suffix', ['.nii.gz', '.nrrd', '.mha', '.dcm'])
@pytest.mark.parametrize('kind', ['pipe', 'device'])
def test_pipes_and_devices_are_no_scans(tmp_path, suffix, kind):
    """They would be waited for, or never end."""
    path = tmp_path / f'scan{suffix}'
    os.mkfifo(path) if kind == 'pipe' else path.symlink_to('/dev/zero')
    for reader in (scan_file.read, scan_file.grid):
        with pytest.raises(InputError, match=f'scan{suffix}: no such file'):
            reader(path)
