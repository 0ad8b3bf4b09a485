"""No slice is lost without a word, whatever happened to the header of its file; what is missing there is named."""

import errno
import os

import numpy as np
import pydicom
import pytest
from dicom_files import change, write_series
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    EnhancedUSVolumeStorage,
    MediaStorageDirectoryStorage,
    ParametricMapStorage,
    generate_uid,
)

from synseg_jax.dicom import series as dicom
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])
CSA_NON_IMAGE = '1.3.12.2.1107.5.9.1'  # private, of Siemens


@pytest.fixture
def series(tmp_path):
    """A folder with a series of 3 slices, and its files."""
    array = np.random.default_rng(0).integers(-900, 900, (3, 2, 3))
    return tmp_path / 'ct', write_series(tmp_path / 'ct', array, AFFINE)


def _bare(file):
    """Without preamble and meta information."""
    content = file.read_bytes()
    file.write_bytes(content[132 + 12 + int.from_bytes(content[140:144], 'little') :])


def _without_preamble(file):
    file.write_bytes(file.read_bytes()[132:])


NAMES = {
    'plain': (lambda file: None, '{}.dcm', 1),
    'capital': (lambda file: None, '{}.DCM', 23),
    'without suffix': (lambda file: None, 'IM{}', 7),
    'by uid': (lambda file: None, '1.2.840.{}', 11),
    'without meta information': (_bare, 'IM{}', 5),
    'without preamble': (_without_preamble, 'IM{}', 13),
}


@pytest.mark.parametrize('kind', NAMES)
def test_a_file_cut_at_any_byte(series, kind):
    """Every slice is there, or the series is refused in one line."""
    change_, name, step = NAMES[kind]
    folder, files = series
    for number, file in enumerate(files):
        change_(file)
        files[number] = file.rename(folder / name.format(number))
    expected, content = scan_file.read(folder).array, files[-1].read_bytes()
    for kept in range(0, len(content), step):
        files[-1].unlink()
        files[-1].write_bytes(content[:kept])
        with pytest.raises(InputError) as error:
            scan_file.read(folder)
        assert str(files[-1]) in str(error.value) and '\n' not in str(error.value)
    files[-1].write_bytes(content)
    np.testing.assert_array_equal(scan_file.read(folder).array, expected)


@pytest.mark.parametrize('missing', ['Rows', 'Columns'])
@pytest.mark.parametrize('name', ['3.dcm', 'IM3'])
def test_a_slice_without_its_size(series, missing, name):
    folder, files = series
    change(files[-1], **{missing: None})
    files[-1].rename(folder / name)
    for read in (scan_file.read, scan_file.grid):
        with pytest.raises(InputError, match=f'{name}: {missing} missing, an image cut short'):
            read(folder)
    assert scan_file.list_scans(folder.parent) == {'ct': folder}  # so that it is refused, not forgotten


OTHERS = {  # by SOP class or modality, and whether an image should be there
    'report': ({'SOPClassUID': EncapsulatedPDFStorage}, False),
    'mesh, by its modality': ({'SOPClassUID': '1.2.840.10008.5.1.4.1.1.9999', 'Modality': 'SEG'}, False),
    'private': ({'SOPClassUID': CSA_NON_IMAGE, 'BitsAllocated': None}, False),
    'private, of pixels': ({'SOPClassUID': CSA_NON_IMAGE}, True),
    'damaged': ({'SOPClassUID': '1.2.84?.10008.5.1.4.1.1.2', 'BitsAllocated': None}, True),
    'radiograph': ({'SOPClassUID': DigitalXRayImageStorageForPresentation}, True),
    'ultrasound': ({'SOPClassUID': EnhancedUSVolumeStorage}, True),
    'map': ({'SOPClassUID': ParametricMapStorage}, True),
    'unknown': ({'SOPClassUID': '1.2.840.10008.5.1.4.1.1.9999'}, True),
    'nothing said': ({'SOPClassUID': None}, True),
}


@pytest.mark.parametrize('kind', OTHERS)
def test_what_lies_beside_a_series_is_refused_where_it_may_be_a_slice(series, kind):
    folder, files = series
    expected, (tags, image) = scan_file.read(folder).array, OTHERS[kind]
    other = folder / 'other.dcm'
    other.write_bytes(files[0].read_bytes())
    change(other, Rows=None, PixelData=None, SeriesInstanceUID=generate_uid(), PatientState='well', **tags)
    if image:
        with pytest.raises(InputError, match='other.dcm: Rows missing'):
            scan_file.read(folder)
    else:
        np.testing.assert_array_equal(scan_file.read(folder).array, expected)


def test_a_private_object_cut_before_its_size(series):
    """Which may have been an image."""
    folder, files = series
    content = files[-1].read_bytes()
    content = content[: content.index(b'\x28\x00\x02\x00US')].replace(
        b'1.2.840.10008.5.1.4.1.1.2', b'1.3.46.6.7058.5.1.4.1.1.2'
    )
    files[-1].write_bytes(content)
    with pytest.raises(InputError, match='0003.dcm: Rows and Columns missing'):
        scan_file.read(folder)


def test_a_directory_by_another_name(series):
    folder, files = series
    read = pydicom.dcmread(files[0])
    for tag in ('SOPClassUID', 'Rows', 'Columns', 'PixelData'):
        delattr(read, tag)
    read.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    read.save_as(folder / 'dicomdir.dcm')
    assert scan_file.read(folder).array.shape == (3, 2, 3)


@pytest.mark.parametrize('kind', ['magic', 'shifted', 'zeros'])
def test_a_file_without_suffix_that_is_no_longer_known(series, kind):
    """Which would be left out without a word."""
    folder, files = series
    for number, file in enumerate(files):
        files[number] = file.rename(folder / f'IM{number}')
    (folder / 'README').write_text('Three slices')
    assert scan_file.read(folder).array.shape == (3, 2, 3)
    content = files[2].read_bytes()
    damaged = {
        'magic': content.replace(b'DICM', b'DJCM'),
        'shifted': content[3:],
        'zeros': bytes(200) + content[200:],
    }
    files[2].write_bytes(damaged[kind])
    with pytest.raises(InputError, match='IM2: no DICOM, though named as the files beside it; replace it, or remove'):
        scan_file.read(folder)


def test_empty_files_that_are_no_slices(series):
    folder, files = series
    for name in ('readme.txt', 'Thumbs.db', 'DONE', '.hidden'):
        (folder / name).touch()
    assert scan_file.read(folder).array.shape == (3, 2, 3)
    (folder / '7.dcm').touch()
    with pytest.raises(InputError, match='7.dcm: truncated or no DICOM'):
        scan_file.read(folder)


def test_links_that_lead_nowhere_are_told(series, caplog):
    folder, files = series
    (folder / 'gone').symlink_to('/nowhere')
    with caplog.at_level('WARNING', logger='absl'):
        assert scan_file.grid(folder).array.shape == scan_file.read(folder).array.shape == (3, 2, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f'{folder}/gone: a link to a file that does not exist; passed over'
    ]
    assert len(scan_file.stamp(folder)) == 6


def test_what_is_no_file_is_told(series, caplog):
    """The last slice may have been one of them."""
    folder, files = series
    (folder / '9.dcm').mkdir()
    os.mkfifo(folder / 'pipe')
    (folder / 'zero.dcm').symlink_to('/dev/zero')
    (folder / 'notes').mkdir()
    with caplog.at_level('WARNING', logger='absl'):
        assert scan_file.read(folder).array.shape == (3, 2, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f'{folder}/9.dcm: a folder, though named as a slice; passed over',
        f'{folder}/pipe: a pipe or device; passed over',
        f'{folder}/zero.dcm: a pipe or device; passed over',
    ]


MISSING = {
    'PixelSpacing': {'PixelSpacing': None},
    r'PixelSpacing is missing \(its ImagerPixelSpacing is that of the detector\)': {
        'PixelSpacing': None,
        'ImagerPixelSpacing': [1, 1],
    },
    'ImageOrientationPatient': {'ImageOrientationPatient': None},
    'ImagePositionPatient': {'ImagePositionPatient': ''},
    r'PixelSpacing is \[1.0, 2.0, 3.0\], not 2 finite numbers': {'PixelSpacing': [1, 2, 3]},
    'ImagePositionPatient is .*nan.*, not 3 finite numbers': {'ImagePositionPatient': [0, 'nan', 0]},
    r'RescaleSlope is \[1.0, 2.0\], not 1 finite numbers': {'RescaleSlope': [1, 2]},
}


@pytest.mark.parametrize('said', MISSING)
def test_what_is_missing_is_named(series, said):
    folder, files = series
    change(files[1], **MISSING[said])
    with pytest.raises(InputError, match=f'0002.dcm: {said if " " in said else f"{said} is missing"}.*; repair the'):
        scan_file.grid(folder)


def test_numbers_that_are_none(series):
    """Of what is needed they are named, of what is not they are passed over."""
    folder, files = series
    content = files[0].read_bytes()
    for element, odd in ((b'\x20\x00\x11\x00IS', b'A1'), (b'\x20\x00\x13\x00IS', b'.5')):
        at = content.index(element)
        content = content[: at + 6] + b'\x02\0' + odd + content[at + 10 :]
    files[0].write_bytes(content)
    assert scan_file.read(folder).array.shape == (3, 2, 3)
    at = content.index(b'\x28\x00\x30\x00DS') + 8
    files[0].write_bytes(content[:at] + b'wide' + content[at + 4 :])
    with pytest.raises(InputError, match='0001.dcm: PixelSpacing is .*wide.*, not 2 finite numbers; repair'):
        scan_file.read(folder)


def _two_series(folder, **tags_of):
    """Series in one folder, by the tags of each."""
    folder.mkdir()
    for name, tags in tags_of.items():
        values = np.full((3, 2, 2), len(name))
        for file in write_series(folder.parent / f'{folder.name}{name}', values, AFFINE, SeriesDescription=name):
            change(file, **tags)
            file.rename(folder / f'{name}{file.name}')
        (folder.parent / f'{folder.name}{name}').rmdir()


def test_series_of_odd_names(tmp_path):
    """Their numbers or UIDs in characters that file names can hold, each another."""
    odd = {
        'a': {'SeriesNumber': None, 'SeriesInstanceUID': '../1/2'},
        'bb': {'SeriesNumber': None, 'SeriesInstanceUID': '.._1/2'},
        'ccc': {'SeriesNumber': '', 'SeriesDescription': 'ccc\nc', 'SeriesInstanceUID': 'C:a b#7'},
        'dddd': {'SeriesNumber': 7, 'SeriesInstanceUID': '1' * 64},
        'eeeee': {'SeriesNumber': 8, 'SeriesInstanceUID': None},
    }
    _two_series(tmp_path / 'both', **odd)
    found = scan_file.list_scans(tmp_path)
    assert set(found) == {'both_.._1_2+0', 'both_.._1_2+1', 'both_C_a_b_7', 'both_7', 'both_8'}
    assert {path.parent for path in found.values()} == {tmp_path}
    values = {name: scan_file.read(path).array.max() for name, path in found.items()}
    assert sorted(values.values()) == [1, 2, 3, 4, 5]
    assert values['both_7'] == 4 and values['both_C_a_b_7'] == 3
    with pytest.raises(InputError, match=r'holds 5 series \(.*#C_a_b_7: 2 files, ccc c;'):
        scan_file.read(tmp_path / 'both')


def test_an_error_of_the_disk_is_no_damage(series, monkeypatch):
    folder, files = series

    def fails(*_, **__):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(pydicom, 'dcmread', fails)
    with pytest.raises(InputError, match=r'0001.dcm: cannot be read \(Input/output error\); check the disk'):
        dicom.read(folder)
