"""How slices and frames make a volume where their places alone do not tell, and what is no volume."""

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import change, group, join, write_series
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from test_text_header import itk_affine

from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])


def _scan(slices=4):
    return np.random.default_rng(0).integers(0, 900, (6, 5, slices))


@pytest.mark.parametrize('modality', ['CT', 'MR'])
@pytest.mark.parametrize(('between', 'thickness', 'expected'), [(3.3, 5, 3.3), (4.4, None, 4.4), (-3.3, 5, 3.3)])
def test_a_single_slice_is_as_thick_as_its_spacing(tmp_path, modality, between, thickness, expected):
    """As SimpleITK has it."""
    (file,) = write_series(tmp_path / 'one', _scan(1), AFFINE, modality)
    change(file, SpacingBetweenSlices=between, SliceThickness=thickness)
    found = scan_file.read(tmp_path / 'one')
    assert found.spacing_mm == pytest.approx((1.5, 1.25, expected))
    if between > 0:
        np.testing.assert_allclose(found.affine, itk_affine(sitk.ReadImage(str(file))), atol=1e-5)


@pytest.mark.parametrize(('thickness', 'expected', 'told'), [(2.5, 2.5, 0), (None, 1, 1), ([1, 2], 1, 1)])
def test_a_single_slice_without_spacing_has_its_thickness(tmp_path, caplog, thickness, expected, told):
    (file,) = write_series(tmp_path / 'one', _scan(1), AFFINE)
    change(file, SliceThickness=thickness)
    with caplog.at_level('WARNING', logger='absl'):
        assert scan_file.grid(tmp_path / 'one').spacing_mm[2] == expected
    assert caplog.text.count('one: no SpacingBetweenSlices or SliceThickness; assuming 1 mm') == told


def _enhanced(folder, places, **changed):
    """A multi-frame file whose frames lie at some heights, and its frames."""
    frames = _scan(len(places))
    packed = [frames[:, :, k].T.astype(np.uint16).tobytes() for k in range(len(places))]
    file = join(
        write_series(folder, frames, AFFINE, 'MR'),
        packed,
        ExplicitVRLittleEndian,
        [group((-40, -30, place)) for place in places],
    )
    change(file, **changed)
    return frames


def test_one_frame_with_its_measures(tmp_path):
    """Spacing between slices is among those that all frames share."""
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SpacingBetweenSlices, measures.SliceThickness = [1.25, 1.5], 3.3, 5
    shared.PixelMeasuresSequence = [measures]
    _enhanced(tmp_path / 'one', [0], SharedFunctionalGroupsSequence=[shared], PixelSpacing=None, SliceThickness=None)
    assert scan_file.grid(tmp_path / 'one').spacing_mm == pytest.approx((1.5, 1.25, 3.3))


def test_frames_in_any_order(tmp_path):
    frames = _enhanced(tmp_path / 'mr', [4, 0, 12, 8])
    np.testing.assert_array_equal(scan_file.read(tmp_path / 'mr').array, frames[:, :, [1, 0, 3, 2]])


VOLUMES = {
    'echoes in turn': [0, 0, 4, 4, 8, 8],
    'phases one after another': [0, 4, 8, 0, 4, 8],
    'one slice at many times': [0, 0, 0],
    'two stacks, interleaved': [0, 4, 8, 1.5, 5.5, 9.5],
    'two stacks, apart': [0, 4, 8, 100, 104, 108],
}


@pytest.mark.parametrize('kind', VOLUMES)
@pytest.mark.parametrize('enhanced', [False, True])
def test_several_volumes_in_one_series(tmp_path, kind, enhanced):
    places = VOLUMES[kind]
    if enhanced:
        _enhanced(tmp_path / 'mr', places)
        frames = r'0001.dcm frame \d (and|to) 0001.dcm frame \d'
    else:
        for file, place in zip(write_series(tmp_path / 'mr', _scan(len(places)), AFFINE), places, strict=True):
            change(file, ImagePositionPatient=[-40, -30, place])
        frames = r'000\d.dcm (and|to) 000\d.dcm'
    with pytest.raises(InputError, match=f'{frames}') as error:
        scan_file.grid(tmp_path / 'mr')
    same = 'lie at the same place' in str(error.value) and 'several volumes in one series (echoes' in str(error.value)
    assert same or 'slices missing or uneven' in str(error.value)


def test_copies_that_share_their_uid(tmp_path):
    """UIDs do not tell slices apart: copies are refused, slices that were named alike are read."""
    files = write_series(tmp_path / 'ct', _scan(), AFFINE, SOPInstanceUID='1.2.3')
    np.testing.assert_array_equal(scan_file.read(tmp_path / 'ct').array, _scan())
    (tmp_path / 'ct' / 'copy.dcm').write_bytes(files[0].read_bytes())
    with pytest.raises(InputError, match='0001.dcm and copy.dcm lie at the same place'):
        scan_file.read(tmp_path / 'ct')


REFUSED = {
    'a mosaic': (
        {'ImageType': ['ORIGINAL', 'PRIMARY', 'M', 'ND', 'MOSAIC']},
        'a Siemens mosaic, slices tiled into one plane; convert it to NIfTI with dcm2niix',
    ),
    'a table of values': ({'ModalityLUTSequence': [Dataset()]}, 'has a ModalityLUTSequence instead of RescaleSlope'),
    'a mixture': ({'PhotometricInterpretation': 'MONOCHROME1'}, 'another photometric interpretation than 0001.dcm'),
    'a localizer': ({'ImageOrientationPatient': [1, 0, 0, 0, 0, -1]}, 'another orientation than 0001.dcm'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_slices_that_make_no_volume(tmp_path, kind):
    tags, told = REFUSED[kind]
    files = write_series(tmp_path / 'mr', _scan(), AFFINE, 'MR')
    change(files[2], **tags)
    for read in (scan_file.read, scan_file.grid):
        with pytest.raises(InputError, match=f'0003.dcm: {told}'):
            read(tmp_path / 'mr')


@pytest.mark.parametrize('kind', ['descending', 'feet first', 'no suffix', 'slope', 'tilt'])
def test_series_as_archives_deliver_them(tmp_path, kind):
    """Their voxels lie where SimpleITK has them."""
    files = write_series(tmp_path / 'ct', _scan(), AFFINE)
    for k, file in enumerate(files):
        tags = {
            'descending': {'ImagePositionPatient': [-40, -30, 4 * -k]},
            'feet first': {'ImageOrientationPatient': [-1, 0, 0, 0, 1, 0], 'PatientPosition': 'FFS'},
            'slope': {'RescaleSlope': 1 + k},
            'tilt': {'ImagePositionPatient': [-40, 0.9 * k, 4 * k]},
        }
        change(file, **tags.get(kind, {}))
        file.rename(file.with_suffix('') if kind == 'no suffix' else file)
    found = scan_file.read(tmp_path / 'ct')
    expected = sitk.ReadImage([str(file) for file in series.files(tmp_path / 'ct')])
    np.testing.assert_array_equal(found.array, sitk.GetArrayFromImage(expected).T)
    if kind != 'tilt':  # which SimpleITK strips of its shear
        np.testing.assert_allclose(found.affine, itk_affine(expected), atol=1e-5)
