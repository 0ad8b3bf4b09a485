"""DICOM series become volumes where the scanner was, whatever their files are called, or are refused."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import change, write_rtstruct, write_series
from pydicom.uid import SegmentationStorage, generate_uid

from synseg_jax.dicom import series as dicom
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


def _scan(seed=0, shape=(6, 5, 4)):
    return np.random.default_rng(seed).integers(-900, 900, shape)


@pytest.fixture
def series(tmp_path):
    """A folder with a series of 4 slices, its files in order, and its voxels."""
    return tmp_path / 'ct', write_series(tmp_path / 'ct', _scan(), AFFINE), _scan()


def _check(folder, array, affine=AFFINE):
    """The series comes back, as far as the order of slices allows."""
    read = scan_file.read(folder)
    upright, expected = volume.canonical(read), volume.canonical(volume.Volume(array.astype(np.float32), affine))
    np.testing.assert_array_equal(upright.array, expected.array)
    np.testing.assert_allclose(upright.affine, expected.affine, atol=1e-5)
    grid = scan_file.grid(folder)
    assert grid.array.shape == read.array.shape
    np.testing.assert_array_equal(grid.affine, read.affine)
    return read


def test_names_and_numbers_of_files_do_not_matter(series):
    folder, files, array = series
    for number, name in enumerate(('zz.dcm', 'IM0001', 'a.ima', '10.dcm')):
        change(files[number], InstanceNumber=7 - number if number else 2)
        files[number].rename(folder / name)
    _check(folder, array)


@pytest.mark.parametrize('turn', ['axial', 'coronal', 'sagittal', 'oblique', 'upwards'])
def test_orientations(tmp_path, turn):
    c, s = np.cos(0.3), np.sin(0.3)
    turns = {
        'axial': np.eye(3),
        'coronal': [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        'sagittal': [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        'oblique': [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        'upwards': np.diag([1, 1, -1]),
    }
    affine = AFFINE.copy()
    affine[:3, :3] = np.array(turns[turn]) @ AFFINE[:3, :3]
    write_series(tmp_path / 'mr', _scan() + 1000, affine, 'MR')
    _check(tmp_path / 'mr', _scan() + 1000, affine)


def test_modality_of_a_scan(series, tmp_path):
    folder, files, array = series
    write_series(tmp_path / 'mr', _scan() + 1000, AFFINE, 'MR', SeriesNumber=4)
    assert dicom.modality(folder) == dicom.modality(files[0]) == 'CT'
    assert dicom.modality(tmp_path / 'mr') == dicom.modality(tmp_path / 'mr#4') == 'MR'
    scan_file.write(tmp_path / 'scan.nii.gz', array.astype(np.int16), volume.Volume(array, AFFINE))
    assert dicom.modality(tmp_path / 'scan.nii.gz') == dicom.modality(tmp_path) == ''
    change(files[0], Modality=None)
    files[1].write_bytes(b'damaged')
    assert dicom.modality(files[0]) == dicom.modality(folder) == dicom.modality(tmp_path / 'gone') == ''


def test_a_folder_that_is_not_there_holds_no_series(tmp_path):
    assert dicom.series_in(tmp_path / 'gone') == {} and dicom.listed(tmp_path / 'gone') == []


def test_each_slice_has_its_own_scale(series):
    folder, files, array = series
    for number, file in enumerate(files):
        change(file, RescaleSlope=number + 0.5, RescaleIntercept=-number)
    expected = (array + 1024) * (np.arange(4) + 0.5) - np.arange(4)
    _check(folder, expected)


def test_a_file_without_meta_information(series):
    folder, files, array = series
    for file in files:
        content = file.read_bytes()
        meta = 132 + 12 + int.from_bytes(content[140:144], 'little')
        file.write_bytes(content[meta:])
    _check(folder, array)


def test_two_series_in_a_folder(tmp_path):
    folder = tmp_path / 'both'
    for number, name in ((3, 'ct'), (7, 'mr')):
        for file in write_series(tmp_path / name, _scan(number), AFFINE, SeriesNumber=number):
            folder.mkdir(exist_ok=True)
            file.rename(folder / f'{name}{file.name}')
    with pytest.raises(
        InputError, match=r'both: holds 2 series \(#3: 4 files, CT; #7: 4 files, CT\); name one as both#'
    ):
        scan_file.read(folder)
    assert scan_file.list_scans(tmp_path) == {'both_3': tmp_path / 'both#3', 'both_7': tmp_path / 'both#7'}
    assert scan_file.suffix(tmp_path / 'both#7') == '/' and scan_file.exists(tmp_path / 'both#7')
    for number in (3, 7):
        _check(tmp_path / f'both#{number}', _scan(number))
    with pytest.raises(InputError, match='both#5: no DICOM images with series number 5 in it; it has #3, #7'):
        scan_file.read(tmp_path / 'both#5')


def test_two_series_of_one_number_go_by_their_uid(tmp_path):
    folder = tmp_path / 'both'
    uids = {name: generate_uid(entropy_srcs=[name]) for name in ('one', 'two')}
    for seed, (name, uid) in enumerate(uids.items()):
        for file in write_series(tmp_path / name, _scan(seed), AFFINE, SeriesInstanceUID=uid):
            folder.mkdir(exist_ok=True)
            file.rename(folder / f'{name}{file.name}')
        (tmp_path / name).rmdir()
    assert set(scan_file.list_scans(tmp_path)) == {f'both_{uid}' for uid in uids.values()}
    for seed, uid in enumerate(uids.values()):
        _check(tmp_path / f'both#{uid}', _scan(seed))


def test_what_lies_beside_a_series_does_no_harm(series):
    folder, files, array = series
    write_rtstruct(folder / 'rt.dcm', files, {'liver': [(1, np.array([[0, 0], [3, 0], [3, 3]]))]})
    mask = pydicom.dcmread(files[0])
    mask.Modality, mask.SOPClassUID, mask.SeriesInstanceUID = 'SEG', SegmentationStorage, generate_uid()
    mask.save_as(folder / 'seg.dcm')
    (folder / 'notes.txt').write_text('no DICOM')
    (folder / 'DICOMDIR').write_bytes(files[0].read_bytes())
    _check(folder, array)
    assert scan_file.list_scans(folder.parent) == {'ct': folder}


def test_a_tilted_gantry_is_said_and_placed(tmp_path, caplog):
    sheared = AFFINE.copy()
    sheared[1, 2] = 1.0
    write_series(tmp_path / 'ct', _scan(), sheared)
    with caplog.at_level('WARNING', logger='absl'):
        _check(tmp_path / 'ct', _scan(), sheared)
    assert 'tilted by 14.0 degrees' in caplog.text


def test_places_rounded_to_a_tenth_of_a_millimetre(tmp_path, caplog):
    affine = AFFINE.copy()
    affine[2, 2] = 1.25
    files = write_series(tmp_path / 'ct', _scan(shape=(6, 5, 8)), affine)
    for k, file in enumerate(files):
        change(file, ImagePositionPatient=[-40, -30, round(-20 + 1.25 * k + 1e-9, 1)])
    assert scan_file.read(tmp_path / 'ct').spacing_mm[2] == pytest.approx(1.25, abs=0.01)
    files[3].unlink()
    with pytest.raises(InputError, match='slices missing or uneven: 2.[45]0 mm'):
        scan_file.grid(tmp_path / 'ct')


def test_every_second_slice_left_out_is_said(tmp_path, caplog):
    for file in write_series(tmp_path / 'ct', _scan(shape=(6, 5, 8)), AFFINE)[1::2]:
        file.unlink()
    with caplog.at_level('WARNING', logger='absl'):
        scan_file.grid(tmp_path / 'ct')
    assert '4 slices of 4.00 mm lie 8.00 mm apart and are numbered 1 to 7; were some left out?' in caplog.text


def _double(folder, files):
    shutil.copy(files[1], folder / 'again.dcm')


def _turned(folder, files):
    change(files[2], ImageOrientationPatient=[0, 1, 0, 1, 0, 0])


def _colour(folder, files):
    for file in files:
        pixels = np.zeros((5, 6, 3), np.uint8).tobytes()
        change(file, SamplesPerPixel=3, PhotometricInterpretation='RGB', PlanarConfiguration=0, PixelData=pixels)
        change(file, BitsAllocated=8, BitsStored=8, HighBit=7)


BAD_SERIES = {
    'missing': (lambda folder, files: files[1].unlink(), 'ct: slices missing or uneven: 8.00 mm from 0001.dcm to 0003'),
    'doubled': (_double, 'ct: .* lie at the same place'),
    'another orientation': (_turned, '0003.dcm: another orientation than 0001.dcm'),
    'another size': (lambda folder, files: change(files[2], Rows=4), '0003.dcm: another number of rows'),
    'another spacing': (lambda folder, files: change(files[3], PixelSpacing=[2, 2]), '0004.dcm: another spacing'),
    'colour': (_colour, '0001.dcm: holds colour'),
    'palette': (
        lambda folder, files: change(files[0], PhotometricInterpretation='PALETTE COLOR'),
        '0001.dcm: holds colour',
    ),
    'no place': (
        lambda folder, files: change(files[1], ImagePositionPatient=None),
        '0002.dcm: ImagePositionPatient is missing; repair',
    ),
    'no spacing': (lambda folder, files: change(files[1], PixelSpacing=[0, 1]), '0002.dcm: PixelSpacing of 0 x 1 mm'),
    'slope of 0': (lambda folder, files: change(files[1], RescaleSlope=0), '0002.dcm: RescaleSlope is 0; repair'),
    'frames without places': (
        lambda folder, files: change(files[0], NumberOfFrames=2),
        '0001.dcm: no positions of its 2 frames; convert',
    ),
    'no images': (
        lambda folder, files: [change(file, Modality='SR', Rows=None) for file in files],
        'ct: no DICOM images in it; give the folder',
    ),
}


@pytest.mark.parametrize('kind', BAD_SERIES)
def test_series_that_are_refused(series, kind):
    folder, files, _ = series
    make, message = BAD_SERIES[kind]
    make(folder, files)
    for reader in (scan_file.read, scan_file.grid):
        with pytest.raises(InputError, match=message) as error:
            reader(folder)
        assert '\n' not in str(error.value)


def test_a_slice_without_pixels_has_a_grid_and_no_voxels(series):
    folder, files, array = series
    change(files[2], PixelData=None)
    assert scan_file.grid(folder).array.shape == array.shape
    with pytest.raises(InputError, match='0003.dcm: damaged or no DICOM'):
        scan_file.read(folder)
