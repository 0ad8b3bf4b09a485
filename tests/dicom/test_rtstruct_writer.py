"""RT Structure Sets give back the labels they were made from, refer to their slices, and hold all that an IOD needs."""

import shutil
import subprocess
import warnings

import dicom_files
import numpy as np
import pydicom
import pytest
import tiny
import untrained
from test_dicom_seg import PATIENT, PRIVATE, STUDY, write_series

from synseg_jax.dicom import rtstruct, rtstruct_writer, series
from synseg_jax.errors import InputError
from synseg_jax.evaluation.metrics import dice
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging import volume
from synseg_jax.imaging.colours import colour
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.predict_scans import predict
from synseg_jax.phantom import dataset

CLASSES = ('background', 'liver', 'left kidney', 'Gewebe Ω', 'nowhere')
SHAPE = (11, 9, 7)  # columns, rows, slices


def labelled(affine, seed=5, shape=SHAPE):
    return Volume(np.random.default_rng(seed).integers(0, len(CLASSES) - 1, shape).astype(np.uint8), affine)


@pytest.fixture
def written(tmp_path):
    """An oblique series, its labels, and the object."""
    files, affine = write_series(tmp_path / 'series')
    labels = labelled(affine)
    path = tmp_path / 'out' / 'case.dcm'
    rtstruct_writer.write(path, labels, series.slices(tmp_path / 'series'), CLASSES, 'train-0123')
    return files, labels, path


@pytest.mark.parametrize('tilt', [0.0, 1.5])
def test_the_same_labels_by_our_reader(tmp_path, tilt):
    """Noise, with holes and pieces that touch at corners, on an oblique series, also of a tilted gantry."""
    _, affine = write_series(tmp_path / 'series', tilt)
    labels, path = labelled(affine), tmp_path / 'case.dcm'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rtstruct_writer.write(path, labels, series.slices(tmp_path / 'series'), CLASSES)
        values = {name: name for name in CLASSES[1:-1]}
        found = label_maps.read(path, tmp_path / 'series', values, CLASSES)
    np.testing.assert_array_equal(found.array, labels.array)


def contoured(tmp_path, oblique=False):
    """A phantom's labels, on the grid of their series ct; its contours are in rt.dcm, their classes."""
    _, array, affine = dataset.generate('CT', 0, 0)
    if oblique:
        turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
        affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) @ affine[:3, :3]
    names = dataset.REGIONS['abdomen'].classes
    dicom_files.write_series(tmp_path / 'ct', np.zeros(array.shape), affine)
    scan = scan_file.read(tmp_path / 'ct')
    along = np.sign((np.linalg.inv(affine) @ scan.affine)[2, 2])  # slices are stacked along the normal of their axes
    labels = Volume(array[:, :, :: int(along)], scan.affine)
    rtstruct_writer.write(tmp_path / 'rt.dcm', labels, series.slices(tmp_path / 'ct'), names)
    return labels, names


@pytest.mark.parametrize('oblique', [False, True])
def test_organs_at_clinical_resolution(tmp_path, oblique):
    labels, names = contoured(tmp_path, oblique)
    for number, name in rtstruct.named(tmp_path / 'rt.dcm').items():
        assert name == names[number]
        assert dice(rtstruct.mask(tmp_path / 'rt.dcm', number, tmp_path / 'ct', labels), labels.array == number) > 0.999


@pytest.mark.parametrize('oblique', [False, True])
def test_by_pydicom_and_scikit_image(tmp_path, oblique):
    """Polygons filled where the standard says that they lie."""
    draw, (labels, names) = pytest.importorskip('skimage.draw'), contoured(tmp_path, oblique)
    headers = [pydicom.dcmread(file) for file in series.files(tmp_path / 'ct')]
    slice_of = {header.SOPInstanceUID: k for k, header in enumerate(headers)}
    for roi in pydicom.dcmread(tmp_path / 'rt.dcm').ROIContourSequence:
        mask = np.zeros(labels.array.shape, bool)
        for contour in roi.ContourSequence:
            k = slice_of[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            mask[:, :, k] ^= draw.polygon2mask(mask.shape[:2], in_pixels(headers[k], contour.ContourData))
        assert dice(mask, labels.array == roi.ReferencedROINumber) > 0.999, names[roi.ReferencedROINumber]


def in_pixels(header, points):
    """Points (LPS mm) of a slice as (column, row), DICOM PS3.3 C.7.6.2.1.1."""
    off = np.reshape(points, (-1, 3)).astype(float) - np.array(header.ImagePositionPatient, float)
    directions = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    return off @ directions.T / np.array(header.PixelSpacing, float)[::-1]


def test_by_plastimatch(tmp_path):
    if not shutil.which('plastimatch'):
        pytest.skip('plastimatch is not installed (Debian has it)')
    labels, names = contoured(tmp_path)
    upright = volume.canonical(labels).array
    command = f'plastimatch convert --input {tmp_path}/rt.dcm --referenced-ct {tmp_path}/ct --prefix-format nii.gz'
    subprocess.run([*command.split(), f'--output-prefix={tmp_path}/masks'], check=True, capture_output=True)
    for number, name in enumerate(names[1:], 1):
        mask = scan_file.read_labels(tmp_path / 'masks' / f'{name}.nii.gz')
        assert dice(volume.canonical(mask).array > 0, upright == number) > 0.999, name


ROI, ROI_CONTOUR, OBSERVATION = 'StructureSetROISequence', 'ROIContourSequence', 'RTROIObservationsSequence'
FRAME = 'ReferencedFrameOfReferenceSequence'
FRAME_STUDY = (FRAME, 'RTReferencedStudySequence')
FRAME_SERIES = (*FRAME_STUDY, 'RTReferencedSeriesSequence')
CONTOUR = (ROI_CONTOUR, 'ContourSequence')
IMAGE = 'ReferencedSOPClassUID ReferencedSOPInstanceUID'
REQUIRED = {  # attributes of types 1 and 2 by where they lie, of the mandatory modules of the IOD, DICOM PS3.3 A.19.3
    (): (
        f'StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID StructureSetLabel {ROI} {ROI_CONTOUR} '
        f'{OBSERVATION} SOPClassUID SOPInstanceUID SpecificCharacterSet',
        'PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID '
        'AccessionNumber SeriesNumber OperatorsName PositionReferenceIndicator Manufacturer StructureSetDate '
        'StructureSetTime',
    ),
    (FRAME,): ('FrameOfReferenceUID', ''),
    FRAME_STUDY: (f'{IMAGE} RTReferencedSeriesSequence', ''),
    FRAME_SERIES: ('SeriesInstanceUID ContourImageSequence', ''),
    (*FRAME_SERIES, 'ContourImageSequence'): (IMAGE, ''),
    (ROI,): ('ROINumber ReferencedFrameOfReferenceUID', 'ROIName ROIGenerationAlgorithm'),
    (ROI_CONTOUR,): ('ReferencedROINumber', ''),
    CONTOUR: ('ContourGeometricType NumberOfContourPoints ContourData', ''),
    (*CONTOUR, 'ContourImageSequence'): (IMAGE, ''),
    (OBSERVATION,): ('ObservationNumber ReferencedROINumber', 'RTROIInterpretedType ROIInterpreter'),
}


@pytest.mark.parametrize('path', REQUIRED, ids='/'.join)
def test_every_attribute_that_the_standard_requires(written, path):
    """Those of type 1 have values, those of type 2 are there."""
    valued, present = (names.split() for names in REQUIRED[path])
    for item in (inside := items(pydicom.dcmread(written[2]), path)):
        assert all(name in item for name in valued + present)
        assert all(item[name].value not in (None, '') for name in valued)
    assert inside


def items(found, path):
    """The items of nested sequences, none where the sequence is left out."""
    if not path:
        return [found]
    return [deeper for item in found.get(path[0]) or [] for deeper in items(item, path[1:])]


def test_contours_refer_to_their_slices(written):
    files, labels, path = written
    found, headers = pydicom.dcmread(path), [pydicom.dcmread(file) for file in files]
    assert (found.Modality, found.SOPClassUID) == ('RTSTRUCT', pydicom.uid.RTStructureSetStorage)
    (frame,) = found.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (own,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == found.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == found.StudyInstanceUID == headers[0].StudyInstanceUID
    assert own.SeriesInstanceUID == headers[0].SeriesInstanceUID != found.SeriesInstanceUID
    by_uid = {header.SOPInstanceUID: header for header in headers}
    assert {image.ReferencedSOPInstanceUID for image in own.ContourImageSequence} == by_uid.keys()
    for roi in found.ROIContourSequence:
        for contour in roi.get('ContourSequence', []):
            (image,) = contour.ContourImageSequence
            header = by_uid[image.ReferencedSOPInstanceUID]
            normal = np.cross(*np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float))
            off = np.reshape(contour.ContourData, (-1, 3)).astype(float) - np.array(header.ImagePositionPatient, float)
            assert np.abs(off @ normal).max() < 2e-3 and len(off) == contour.NumberOfContourPoints
            assert image.ReferencedSOPClassUID == header.SOPClassUID and 'ReferencedFrameNumber' not in image


def test_names_and_colours(written):
    found = pydicom.dcmread(written[2])
    assert [roi.ROIName for roi in found.StructureSetROISequence] == list(CLASSES[1:])
    for number, roi in enumerate(found.ROIContourSequence, 1):
        assert '#' + ''.join(f'{part:02X}' for part in roi.ROIDisplayColor) == colour(number)
    assert 'ContourSequence' not in found.ROIContourSequence[-1]  # no voxel of it
    assert found.DeviceSerialNumber == 'train-0123'


def test_nothing_else_of_the_patient(written):
    files, _, path = written
    source, found = pydicom.dcmread(files[0]), pydicom.dcmread(path)
    for name in (*PATIENT, *STUDY):
        assert found[name].value == source[name].value, name
    assert not [name for name in PRIVATE if found.get(name)] and b'SECRET' not in path.read_bytes()


def test_frames_of_one_file_have_numbers(tmp_path):
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])
    files = dicom_files.write_series(tmp_path / 'mf', np.zeros((6, 5, 3)), affine)
    stored = [pydicom.dcmread(file) for file in files]
    groups = [dicom_files.group(read.ImagePositionPatient) for read in stored]
    dicom_files.join(files, [read.PixelData for read in stored], '1.2.840.10008.1.2.1', groups)
    array = np.zeros((6, 5, 3), np.uint8)
    array[2:4, 1:4, 1:] = 1
    scan = scan_file.read(tmp_path / 'mf')
    rtstruct_writer.write(tmp_path / 'rt.dcm', Volume(array, scan.affine), series.slices(tmp_path / 'mf'), CLASSES[:2])
    found = pydicom.dcmread(tmp_path / 'rt.dcm')
    contours = found.ROIContourSequence[0].ContourSequence
    assert [contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours] == [2, 3]
    np.testing.assert_array_equal(rtstruct.mask(tmp_path / 'rt.dcm', 1, tmp_path / 'mf', scan), array == 1)


def test_long_contours(tmp_path):
    """Longer than an explicit transfer syntax holds."""
    array = np.zeros((100, 61, 1), np.uint8)
    array[:, 1::2], array[50] = np.random.default_rng(0).integers(0, 2, (100, 30, 1)), 1
    array[:, 1], array[::2, 1:-1] = 1, 1  # a comb with broken teeth
    affine = np.array([[0.7, -0.7, 0, 333.333], [0.7, 0.7, 0, 333.333], [0, 0, 1, 333.333], [0, 0, 0, 1]])
    dicom_files.write_series(tmp_path / 'ct', np.zeros(array.shape), affine)
    scan = scan_file.read(tmp_path / 'ct')
    rtstruct_writer.write(tmp_path / 'rt.dcm', Volume(array, scan.affine), series.slices(tmp_path / 'ct'), CLASSES[:2])
    data = pydicom.dcmread(tmp_path / 'rt.dcm').ROIContourSequence[0].ContourSequence[0].ContourData
    assert len('\\'.join(map(str, data))) > 2**16
    np.testing.assert_array_equal(rtstruct.mask(tmp_path / 'rt.dcm', 1, tmp_path / 'ct', scan), array == 1)


def test_labels_from_elsewhere_are_refused(tmp_path):
    _, affine = write_series(tmp_path / 'series')
    frames, shifted = series.slices(tmp_path / 'series'), affine.copy()
    shifted[0, 3] += 1.0
    for wrong in (shifted, affine @ np.diag([1, -1, 1, 1])):
        with pytest.raises(InputError, match='.dcm: lies elsewhere than its labels; segment this series itself'):
            rtstruct_writer.write(tmp_path / 'case.dcm', labelled(wrong), frames, CLASSES)
    with pytest.raises(InputError, match=r'.dcm: a series of 11 x 9 pixels in 7 slices, its labels \(9, 11, 7\)'):
        rtstruct_writer.write(tmp_path / 'case.dcm', labelled(affine, shape=(9, 11, 7)), frames, CLASSES)
    assert not (tmp_path / 'case.dcm').exists()


@pytest.mark.parametrize('name', ['FrameOfReferenceUID', 'StudyInstanceUID'])
def test_a_series_that_cannot_be_referred_to(tmp_path, name):
    _, affine = write_series(tmp_path / 'series', **{name: ''})
    with pytest.raises(InputError, match=f'.dcm: has no {name}, which RTSTRUCT must name; repair the series'):
        rtstruct_writer.write(tmp_path / 'case.dcm', labelled(affine), series.slices(tmp_path / 'series'), CLASSES)
    assert not (tmp_path / 'case.dcm').exists()


def test_predict_adds_contours_to_the_study(tmp_path):
    dicom_files.write_series(tmp_path / 'ct', tiny.scan(3, 'CT')[0], tiny.AFFINE, StudyDate='20200304')
    trained = untrained.trained(tmp_path / 'run', method='supervised')
    written = predict(trained, scan_file.inputs(tmp_path / 'ct'), tmp_path / 'out', extras=['rtstruct'])
    labels, path = scan_file.read_labels(written['ct']), tmp_path / 'out' / 'rtstruct' / 'ct.dcm'
    values = {name: name for name in tiny.CLASSES[1:]}
    np.testing.assert_array_equal(label_maps.read(path, tmp_path / 'ct', values, tiny.CLASSES).array, labels.array)
    assert len(np.unique(labels.array)) > 1 and pydicom.dcmread(path).DeviceSerialNumber == 'run'
    nifti = next((tiny.write_dataset(tmp_path / 'set', 'CT', 1) / 'imagesTr').iterdir())
    with pytest.raises(InputError, match='^--rtstruct: .*ct_0_0000.nii.gz is no DICOM series, to whose study'):
        predict(trained, {'x': nifti}, tmp_path / 'other', extras=['rtstruct'])
    assert not (tmp_path / 'other').exists()


@pytest.mark.filterwarnings('ignore')  # of what scanners write
@pytest.mark.parametrize('name', ['ge_anatomical', 'siemens_anatomical', 'philips_enhanced_anatomical'])
def test_series_of_scanners(tmp_path, shared, name):
    """Single slices, and frames of one file in an order of their own."""
    for file in (shared / 'data' / 'formats' / 'dicom' / f'{name}_001').iterdir():
        header = pydicom.dcmread(file)
        header.FrameOfReferenceUID = '1.2.3'  # left out when these were made public
        header.save_as(tmp_path / file.name)
    scan = scan_file.read(tmp_path)
    x, y, z = (np.linspace(-1, 1, n) for n in scan.array.shape)
    radius = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + (0.7 * z) ** 2)
    labels = (radius > 0.2) & (radius < 0.8)
    path = tmp_path / 'out' / 'case.dcm'
    rtstruct_writer.write(path, Volume(labels.astype(np.uint8), scan.affine), series.slices(tmp_path), CLASSES[:2])
    np.testing.assert_array_equal(rtstruct.mask(path, 1, tmp_path, scan), labels)
