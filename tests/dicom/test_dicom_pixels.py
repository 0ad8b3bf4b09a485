"""Stored values are the same whatever packs them, and nothing but the bits that count; damaged pixels are refused."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import CODECS, change, group, join, jpeg_2000, pack, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless

from synseg_jax.dicom import pixels, series
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])
EIGHT_BITS = {'BitsAllocated': 8, 'BitsStored': 8, 'HighBit': 7}
TWELVE_BITS = {'BitsStored': 12, 'HighBit': 11}
NATIVE = ''
LOSSY = 'lossy compressed (JPEG Baseline (Process 1)): its values are not those that were measured'


def _scan(shape=(30, 24, 2), seed=0):
    """What every codec can pack: smooth, from 0 to 900."""
    x, y, z = np.indices(shape)
    return 20 * x + 10 * y + 5 * z + np.random.default_rng(seed).integers(0, 10, shape)


def _series(folder, stored, codec, **tags):
    """An MR series of stored values, 16 bits of which are packed, whatever the tags then say of them."""
    for file, plane in zip(write_series(folder, stored, AFFINE, 'MR'), np.moveaxis(stored, 2, 0), strict=True):
        if stored.dtype == np.uint8:
            change(file, PixelData=plane.T.tobytes(), **EIGHT_BITS)
        if codec:
            pack(file, codec)
        change(file, **tags)
    return folder


def _read(folder):
    return scan_file.read(folder).array


@pytest.mark.parametrize('codec', [NATIVE, *CODECS])
def test_monochrome1_is_read_as_it_is_stored(tmp_path, caplog, codec):
    """One answer whatever packs it, and one warning that it is meant to be shown inverted."""
    stored = _scan() if codec != 'JPEG' else (_scan() // 4).astype(np.uint8)
    with caplog.at_level('WARNING', logger='absl'):
        expected = _read(_series(tmp_path / 'two', stored, codec))
        lossy = caplog.messages
        assert lossy == ([f'{tmp_path}/two: {LOSSY}'] if codec == 'JPEG' else [])
        caplog.clear()
        found = _read(_series(tmp_path / 'one', stored, codec, PhotometricInterpretation='MONOCHROME1'))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, stored, atol=12 if codec == 'JPEG' else 0)
    assert caplog.messages == [line.replace('two', 'one') for line in lossy] + [
        f'{tmp_path}/one: MONOCHROME1, meant to be shown inverted; its values are read as they are stored'
    ]


@pytest.mark.parametrize('codec', [NATIVE, *CODECS][:-1])
def test_bits_above_those_stored_do_not_count(tmp_path, codec):
    """Overlays may lie there, or what an unsigned codec leaves of a sign."""
    noise = np.random.default_rng(1).integers(0, 16, (30, 24, 2)) << 12
    found = _read(_series(tmp_path / 'unsigned', _scan() + noise, codec, **TWELVE_BITS))
    np.testing.assert_array_equal(found, _scan())
    for name, above in (('without sign', 0), ('noise', noise)):
        stored = (_scan() - 500 & 0xFFF) + above
        found = _read(_series(tmp_path / name, stored, codec, PixelRepresentation=1, **TWELVE_BITS))
        np.testing.assert_array_equal(found, _scan() - 500)


def test_values_that_were_packed_with_loss_before_are_told(tmp_path, caplog):
    with caplog.at_level('WARNING', logger='absl'):
        _read(_series(tmp_path / 'mr', _scan(), 'JPEG 2000', LossyImageCompression='01'))
    (line,) = caplog.messages
    assert line.startswith(f'{tmp_path}/mr: lossy compressed (JPEG 2000')


def test_a_codec_that_is_not_known_here(tmp_path):
    folder = _series(tmp_path / 'mr', _scan(), 'JPEG 2000')
    for file in folder.iterdir():
        read = pydicom.dcmread(file)
        read.file_meta.TransferSyntaxUID = HTJ2KLossless
        read.save_as(file)
    with pytest.raises(InputError, match='0001.dcm: its pixels are packed as High-Throughput .*gdcmconv --raw'):
        _read(folder)


def test_a_high_bit_that_does_not_fit_is_told_once(tmp_path, caplog):
    folder = _series(tmp_path / 'mr', _scan(), NATIVE, BitsStored=12, HighBit=15)
    with caplog.at_level('WARNING', logger='absl'):
        np.testing.assert_array_equal(_read(folder), _scan())
    assert 'mr: HighBit 15 does not fit BitsStored 12; the lowest 12 bits are read' in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize('codec', [NATIVE, *CODECS][:-1])
@pytest.mark.parametrize('bits', [0, 17])
def test_bits_that_cannot_be(tmp_path, codec, bits):
    folder = _series(tmp_path / 'mr', _scan(), codec, BitsStored=bits, HighBit=max(bits - 1, 0))
    with pytest.raises(InputError, match='0001.dcm: damaged or no DICOM'):
        _read(folder)


@pytest.mark.parametrize('codec', [NATIVE, *CODECS][:-1])
def test_voxels_as_simpleitk_reads_them(tmp_path, codec):
    folder = _series(tmp_path / 'ct', _scan(), codec, RescaleSlope=2, RescaleIntercept=-1000)
    expected = sitk.GetArrayFromImage(sitk.ReadImage([str(file) for file in series.files(folder)]))
    np.testing.assert_array_equal(_read(folder), expected.T)


@pytest.mark.parametrize('kept', [0, 1, 2, 719, 1438, 1439])
def test_plain_pixels_cut_short(tmp_path, kept):
    """In the file, and in what the header says of their length."""
    *_, file = write_series(tmp_path / 'mr', _scan(), AFFINE, 'MR')
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - 1440 + kept])
    with pytest.raises(InputError, match='0002.dcm: damaged or no DICOM') as error:
        _read(tmp_path / 'mr')
    assert '\n' not in str(error.value)
    file.write_bytes(content)
    change(file, PixelData=content[-1440:][: kept // 2 * 2])
    with pytest.raises(InputError, match='0002.dcm: damaged or no DICOM'):
        _read(tmp_path / 'mr')


def _packed(folder):
    """A series of one slice in run lengths, bright in its left half; its file."""
    array = np.full((40, 30, 1), 100)
    array[:10] = 700
    (file,) = write_series(folder, array, AFFINE)
    pack(file, 'RLE')
    np.testing.assert_array_equal(scan_file.read(folder).array, array)
    return file


def test_packed_frames_of_one_file(tmp_path):
    """JPEG 2000 by Pillow, every frame with its own slope."""
    array = _scan((30, 40, 3))
    files = write_series(tmp_path / 'mr', array, AFFINE, 'MR')
    packed = [jpeg_2000(array[:, :, k].T.astype(np.uint16)) for k in range(3)]
    join(files, packed, JPEG2000Lossless, [group((-40, -30, -20 + 4 * k), 0.5 + k, -7 * k) for k in range(3)])
    expected = array * (np.arange(3) + 0.5) - 7 * np.arange(3)
    np.testing.assert_array_equal(scan_file.read(tmp_path / 'mr').array, expected)


@pytest.mark.parametrize('bare', [False, True])
def test_bytes_that_came_into_plain_pixels_are_told(tmp_path, caplog, bare):
    *_, file = write_series(tmp_path / 'mr', _scan(), AFFINE, 'MR')
    content = file.read_bytes()
    begin = 132 + 12 + int.from_bytes(content[140:144], 'little') if bare else 0  # behind the meta information
    file.write_bytes(content[begin:-500] + bytes(4) + content[-500:])
    with caplog.at_level('WARNING', logger='absl'):
        _read(tmp_path / 'mr')
    assert caplog.messages == [f'{file}: more follows the 1440 bytes of pixels that its header promises; is it right?']


@pytest.mark.parametrize('change', ['lost', 'more'])
def test_bytes_lost_in_packed_pixels(tmp_path, change):
    """Which need not show when what is left is decoded."""
    file = _packed(tmp_path / 'ct')
    content = file.read_bytes()
    at = content.rindex(bytes.fromhex('feffdde0')) - 60  # amid the pixels
    file.write_bytes(content[:at] + (content[at + 8 :] if change == 'lost' else bytes(8) + content[at:]))
    with pytest.raises(InputError, match='0001.dcm: damaged, fragments of its compressed pixels do not fit; replace'):
        scan_file.read(tmp_path / 'ct')


def test_run_lengths_that_do_not_fill_the_slice(tmp_path, caplog):
    file = _packed(tmp_path / 'ct')
    content = file.read_bytes()
    run = content.rindex(bytes.fromhex('feffdde0')) - 2  # the last run: 257 less its length, and its value
    with caplog.at_level('WARNING', logger='absl'):
        file.write_bytes(content[:run] + bytes([content[run] - 1]) + content[run + 1 :])
        scan_file.read(tmp_path / 'ct')
    assert re.search('0001.dcm: The decoded RLE .* 1201 vs. 1200 bytes expected; are its pixels right?', caplog.text)
    file.write_bytes(content[:run] + bytes([content[run] + 1]) + content[run + 1 :])
    with pytest.raises(InputError, match=r'0001.dcm: damaged or no DICOM \(pydicom: .* \(1199 vs.') as error:
        scan_file.read(tmp_path / 'ct')
    assert '\n' not in str(error.value)


def _deflated(folder):
    """The file of a deflated series of one slice."""
    (file,) = write_series(folder, _scan((30, 24, 1)), AFFINE)
    read = pydicom.dcmread(file)
    read.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    read.save_as(file)
    return file


def test_deflated_data_end_with_their_file(tmp_path, caplog):
    """They have no checksum: what came in between shows at the end alone."""
    file = _deflated(tmp_path / 'ct')
    np.testing.assert_array_equal(_read(tmp_path / 'ct'), _scan((30, 24, 1)))
    content = file.read_bytes()
    for damaged in (content + b'abc', content[:-3]):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match='0001.dcm: damaged'):
            _read(tmp_path / 'ct')
    assert not caplog.records
    file.write_bytes(content)
    change(file, Rows=1)
    with caplog.at_level('WARNING', logger='absl'):
        assert _read(tmp_path / 'ct').shape == (30, 1, 1)
    assert f'{file}: more follows the 60 bytes of pixels' in caplog.text


def _without_syntax(content):
    """An element of meta information lost, its length with it."""
    at = content.index(b'\x02\x00\x10\x00UI')
    length = 8 + int.from_bytes(content[at + 6 : at + 8], 'little')
    return content[:at] + content[at + length :]


@pytest.mark.parametrize('codec', [NATIVE, 'RLE'])
@pytest.mark.parametrize('lost', [_without_syntax, lambda content: content[:128] + content[144:]])
def test_pixels_of_an_unknown_syntax(tmp_path, codec, lost):
    """They are not taken for what bare data sets hold; packed noise is longer than the pixels."""
    noise = np.random.default_rng(0).integers(0, 2**15, (30, 24, 2))
    folder = _series(tmp_path / 'mr', noise, codec)
    file = sorted(folder.iterdir())[0]
    file.write_bytes(lost(file.read_bytes()))
    try:
        found = _read(folder)
    except InputError as error:
        assert str(file) in str(error)
    else:
        assert not codec
        np.testing.assert_array_equal(found, noise)


def test_what_pydicom_quotes_is_shortened():
    """It shows all the bytes that it met."""
    assert len(pixels.reason(ValueError(f'Expected an even number of bytes, received {bytes(500)!r}'))) <= 200
