"""DICOM SEG objects give back the labels slice by slice, name organs by the standard's codes, and tell little else."""

import sys

import dicom_files
import numpy as np
import pydicom
import pytest
import tiny
import untrained

import synseg_jax
from synseg_jax.dicom import series as dicom
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.predict_scans import predict

hd = pytest.importorskip('highdicom', reason='the optional extra dicom is not installed')
dicom_seg = pytest.importorskip('synseg_jax.dicom.dicom_seg')

CLASSES = ('background', 'liver', 'left kidney', 'Gewebe Ω', 'tumour')
SHAPE = (11, 9, 7)  # columns, rows, slices
PATIENT = {'PatientName': 'Müller^Jörg', 'PatientID': '4711', 'PatientBirthDate': '19500102', 'PatientSex': 'M'}
STUDY = {'StudyDate': '20200304', 'StudyTime': '101112', 'StudyID': 'S1', 'AccessionNumber': 'A1'}
PRIVATE = {
    'PatientComments': 'SECRET', 'PatientAge': '070Y', 'PatientWeight': '80', 'OtherPatientIDs': 'SECRET2',
    'EthnicGroup': 'SECRET3', 'StudyDescription': 'SECRET4', 'InstitutionName': 'SECRET5', 'OperatorsName': 'SECRET6',
    'PhysiciansOfRecord': 'SECRET7', 'AdditionalPatientHistory': 'SECRET8', 'StationName': 'SECRET9',
    'AdmittingDiagnosesDescription': 'SECRET10', 'Occupation': 'SECRET11',
}  # fmt: skip


def write_series(folder, tilt=0.0, **tags):
    """An oblique series, its slices shifted along the columns by `tilt`: the files in slice order, and its affine."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) @ np.array([[1.5, 0, 0], [0, 0.75, tilt], [0, 0, 4.0]])
    affine[:3, 3] = [30.0, -20.0, 5.5]
    array = np.random.default_rng(0).integers(-200, 300, SHAPE)
    tags = {'ReferringPhysicianName': '', 'SpecificCharacterSet': 'ISO_IR 100', **PATIENT, **STUDY, **PRIVATE, **tags}
    return dicom_files.write_series(folder, array, affine, **tags), affine


def labelled(affine, seed=5):
    return Volume(np.random.default_rng(seed).integers(0, len(CLASSES), SHAPE).astype(np.uint8), affine)


@pytest.mark.parametrize('tilt', [0.0, 1.5])
def test_the_same_labels_slice_by_slice(tmp_path, tilt):
    files, affine = write_series(tmp_path / 'series', tilt)
    labels = labelled(affine)
    dicom_seg.write(tmp_path / 'out' / 'case.dcm', labels, files, CLASSES)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['case.dcm']
    found = hd.seg.segread(tmp_path / 'out' / 'case.dcm')
    headers = [pydicom.dcmread(file) for file in files]
    masks = found.get_pixels_by_source_instance([header.SOPInstanceUID for header in headers])
    for k in range(SHAPE[2]):
        for number in range(1, len(CLASSES)):
            np.testing.assert_array_equal(masks[k, ..., number - 1], labels.array[:, :, k].T == number)
    positions = {frame.PlanePositionSequence[0].ImagePositionPatient[2]
                 for frame in found.PerFrameFunctionalGroupsSequence}  # fmt: skip
    assert positions == {header.ImagePositionPatient[2] for header in headers}


def test_by_pydicom_alone(tmp_path):
    """Every frame says of which segment and of which slice it is."""
    files, affine = write_series(tmp_path)
    labels = labelled(affine)
    dicom_seg.write(tmp_path / 'case.dcm', labels, files, CLASSES)
    found = pydicom.dcmread(tmp_path / 'case.dcm')
    assert found.SOPClassUID == pydicom.uid.SegmentationStorage and found.Modality == 'SEG'
    slice_of = {pydicom.dcmread(file).SOPInstanceUID: k for k, file in enumerate(files)}
    back = np.zeros(SHAPE, np.uint8)
    for mask, frame in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        back[:, :, slice_of[source]][mask.T > 0] = number
    np.testing.assert_array_equal(back, labels.array)


def test_the_order_of_the_files_does_not_matter(tmp_path):
    files, affine = write_series(tmp_path)
    for order, name in ((files, 'one'), (files[3:] + files[2::-1], 'other')):
        dicom_seg.write(tmp_path / f'{name}.seg', labelled(affine), order, CLASSES)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    one, other = (hd.seg.segread(tmp_path / f'{n}.seg').get_pixels_by_source_instance(uids) for n in ('one', 'other'))
    np.testing.assert_array_equal(one, other)


def test_what_a_segment_is(tmp_path):
    files, affine = write_series(tmp_path)
    dicom_seg.write(tmp_path / 'case.dcm', labelled(affine), files, CLASSES, 'train-0123')
    found = hd.seg.segread(tmp_path / 'case.dcm')
    segments = [found.get_segment_description(number) for number in range(1, len(CLASSES))]
    assert [segment.segment_label for segment in segments] == list(CLASSES[1:])
    kinds = [segment.segmented_property_type for segment in segments]
    assert [(k.value, k.scheme_designator) for k in kinds] == [
        ('10200004', 'SCT'), ('64033007', 'SCT'), ('Gewebe Ω', '99SYNSEG_JAX'), ('108369006', 'SCT')
    ]  # fmt: skip
    (side,) = segments[1].SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ('7771000', 'Left')
    assert segments[3].segmented_property_category.meaning == 'Morphologically Abnormal Structure'
    for segment in segments:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ('synseg_jax', synseg_jax.__version__)
        assert segment.SegmentAlgorithmType == 'AUTOMATIC' and len(segment.RecommendedDisplayCIELabValue) == 3
    assert found.DeviceSerialNumber == 'train-0123' and found.SoftwareVersions == synseg_jax.__version__


def test_nothing_else_of_the_patient(tmp_path):
    files, affine = write_series(tmp_path)
    dicom_seg.write(tmp_path / 'case.dcm', labelled(affine), files, CLASSES)
    source, found = pydicom.dcmread(files[0]), pydicom.dcmread(tmp_path / 'case.dcm')
    for name in (*PATIENT, *STUDY, 'StudyInstanceUID', 'FrameOfReferenceUID'):
        assert found[name].value == source[name].value, name
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    assert not [name for name in PRIVATE if name in found]
    assert b'SECRET' not in (tmp_path / 'case.dcm').read_bytes()


def test_a_series_that_leaves_much_empty(tmp_path):
    """De-identified: what may be empty is empty or absent; sex is what the standard does not know."""
    files, affine = write_series(tmp_path / 'series', PatientName='', PatientID='', StudyTime='', PatientSex='UNKNOWN')
    for file in files:
        header = pydicom.dcmread(file)
        for name in ('PatientBirthDate', 'StudyDate', 'AccessionNumber', 'StudyID', 'SliceThickness'):
            del header[name]
        header.save_as(file)
    labels = labelled(affine)
    dicom_seg.write(tmp_path / 'case.dcm', labels, files, CLASSES)
    found = pydicom.dcmread(tmp_path / 'case.dcm')
    assert not any(found[name].value for name in ('PatientName', 'PatientID', 'PatientSex', 'StudyDate'))
    assert found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 4


def test_orientations_that_differ_in_their_last_digits(tmp_path):
    files, affine = write_series(tmp_path / 'series')
    header = pydicom.dcmread(files[2])
    header.ImageOrientationPatient = [f'{float(x) + 1e-5:.6f}' for x in header.ImageOrientationPatient]
    header.save_as(files[2])
    dicom_seg.write(tmp_path / 'case.dcm', labelled(affine), files, CLASSES)
    assert hd.seg.segread(tmp_path / 'case.dcm').number_of_segments == len(CLASSES) - 1


def test_a_class_without_voxels_is_described(tmp_path):
    files, affine = write_series(tmp_path)
    labels = Volume(np.where(labelled(affine).array == 1, 1, 0).astype(np.uint8), affine)
    dicom_seg.write(tmp_path / 'case.dcm', labels, files, CLASSES)
    found = hd.seg.segread(tmp_path / 'case.dcm')
    assert found.number_of_segments == len(CLASSES) - 1
    assert {f.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            for f in found.PerFrameFunctionalGroupsSequence} == {1}  # fmt: skip


SCANNERS = ('ge_anatomical', 'philips_anatomical', 'siemens_anatomical', 'generic_compressed_j2k')


@pytest.mark.filterwarnings('ignore')  # of what scanners write
@pytest.mark.parametrize('name', [*SCANNERS, 'philips_enhanced_anatomical'])
def test_series_of_scanners(tmp_path, shared, name):
    """Single slices, and frames of one file in an order of their own."""
    for file in (shared / 'data' / 'formats' / 'dicom' / f'{name}_001').iterdir():
        header = pydicom.dcmread(file)
        header.FrameOfReferenceUID = '1.2.3'  # left out when these were made public
        header.save_as(tmp_path / file.name)
    scan, frames = scan_file.read(tmp_path), dicom.slices(tmp_path)
    labels = np.random.default_rng(0).integers(0, 3, scan.array.shape).astype(np.uint8)
    dicom_seg.write(tmp_path / 'out' / 'case.dcm', Volume(labels, scan.affine), dicom.files(tmp_path), CLASSES[:3])
    found = hd.seg.segread(tmp_path / 'out' / 'case.dcm')
    uids = list(dict.fromkeys(frame.uid for frame in frames))
    if len(uids) == 1:
        masks = found.get_pixels_by_source_frame(uids[0], [frame.frame + 1 for frame in frames], combine_segments=True)
    else:
        masks = found.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(masks.transpose(2, 1, 0), labels)


def test_labels_from_elsewhere_are_refused(tmp_path):
    files, affine = write_series(tmp_path)
    shifted, mirrored = affine.copy(), affine @ np.diag([1, -1, 1, 1])
    shifted[0, 3] += 1.0
    for wrong in (shifted, mirrored):
        with pytest.raises(InputError, match='.dcm: lies elsewhere than its labels; segment this series itself'):
            dicom_seg.write(tmp_path / 'case.seg', labelled(wrong), files, CLASSES)
    with pytest.raises(InputError, match=r'.dcm: 11 x 9 pixels, its labels \(9, 11, 7\)'):
        dicom_seg.write(
            tmp_path / 'case.seg', Volume(labelled(affine).array.transpose(1, 0, 2), affine), files, CLASSES
        )
    assert not (tmp_path / 'case.seg').exists()


@pytest.mark.parametrize('name', ['FrameOfReferenceUID', 'StudyInstanceUID'])
def test_a_series_that_cannot_be_referred_to(tmp_path, name):
    files, affine = write_series(tmp_path, **{name: ''})
    with pytest.raises(InputError, match=f'.dcm: has no {name}, which DICOM SEG must name; repair the series'):
        dicom_seg.write(tmp_path / 'case.seg', labelled(affine), files, CLASSES)
    assert not (tmp_path / 'case.seg').exists()


def test_a_series_that_breaks_the_standard(tmp_path):
    files, affine = write_series(tmp_path)
    header = pydicom.dcmread(files[0])
    header.add_new(0x00080020, 'DA', '')
    header['StudyDate']._value = 'yesterday'
    header.save_as(files[0])
    with pytest.raises(InputError, match='no DICOM SEG can be made of its series'):
        dicom_seg.write(tmp_path / 'case.seg', labelled(affine), files, CLASSES)


@pytest.mark.parametrize(
    'name, meaning, side',
    [
        ('kidney_right', 'Kidney', 'Right'),
        ('Left Ventricle', 'Left ventricle', None),
        ('left-adrenal-gland', 'Adrenal gland', 'Left'),
        ('inferior vena cava', 'Inferior vena cava', None),
        ('body', 'Entire body', None),
        ('TICV', 'Intracranial', None),
        ('myocardium', 'Left Ventricle Myocardium', None),
        ('no such organ', 'no such organ', None),
        ('right', 'right', None),
        ('a\\b' + 80 * 'c', 'a/b' + 61 * 'c', None),
    ],
)
def test_concepts(name, meaning, side):
    _, kind, where = dicom_seg.concept(name)
    assert (kind.meaning, where and where.meaning) == (meaning, side)
    assert (kind.scheme_designator == 'SCT') == (name not in ('no such organ', 'right') and '\\' not in name)


@pytest.fixture
def series(tmp_path):
    """A CT that a system may segment, as a series."""
    folder = tmp_path / 'ct'
    dicom_files.write_series(folder, tiny.scan(3, 'CT')[0], tiny.AFFINE)
    return folder


def test_predict_adds_them_to_the_study(tmp_path, series):
    trained = untrained.trained(tmp_path / 'run', method='supervised')
    written = predict(trained, scan_file.inputs(series), tmp_path / 'out', extras=['dicom_seg'])
    found = hd.seg.segread(tmp_path / 'out' / 'dicom_seg' / 'ct.dcm')
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in dicom.files(series)]
    masks = found.get_pixels_by_source_instance(uids, combine_segments=True)
    labels = scan_file.read_labels(written['ct']).array
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(masks.transpose(2, 1, 0), labels)
    assert [found.get_segment_description(n).segment_label for n in (1, 2)] == list(tiny.CLASSES[1:])
    assert found.DeviceSerialNumber == 'run'
    assert scan_file.inputs(tmp_path / 'out') == {'ct': written['ct']}  # they are no scans themselves


def test_other_scans_have_no_study(tmp_path, series):
    trained = untrained.trained(tmp_path / 'run', method='supervised')
    nifti = next((tiny.write_dataset(tmp_path / 'set', 'CT', 1) / 'imagesTr').iterdir())
    told = '--dicom_seg: .*ct_0_0000.nii.gz is no DICOM series, to whose study'
    with pytest.raises(InputError, match=told):
        predict(trained, {'x': nifti}, tmp_path / 'out', extras=['dicom_seg'])
    assert not (tmp_path / 'out').exists()
    with pytest.raises(InputError, match=f'^1 of 2 scans incomplete, the others segmented:\n{told}'):
        predict(trained, {'x': nifti, 'ct': series}, tmp_path / 'out', extras=['dicom_seg'])
    written = sorted(path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.*'))
    assert written == ['ct.nii.gz', 'dataset.json', 'dicom_seg/ct.dcm', 'x.nii.gz']


FLAWS = {  # of one file of a series, which can be segmented all the same
    'no frame of reference': lambda header: header.__delattr__('FrameOfReferenceUID'),
    'no study': lambda header: setattr(header, 'StudyInstanceUID', ''),
}


@pytest.mark.parametrize('flaw', FLAWS)
def test_a_series_that_fails_is_named_and_the_others_are_written(tmp_path, series, flaw):
    trained = untrained.trained(tmp_path / 'run', method='supervised')
    files = dicom_files.write_series(tmp_path / 'flawed', tiny.scan(4, 'CT')[0], tiny.AFFINE, StudyDate='20200304')
    header = pydicom.dcmread(files[0])
    FLAWS[flaw](header)
    header.save_as(files[0])
    with pytest.raises(InputError) as refused:
        named = {'a': tmp_path / 'flawed', 'ct': series}
        predict(trained, named, tmp_path / 'out', extras=['dicom_seg', 'volumes'])
    title, line = str(refused.value).split('\n')
    assert title == '1 of 2 scans incomplete, the others segmented:'
    assert line.startswith(str(tmp_path / 'flawed')) and line.endswith('(segmented, but no dicom_seg)')
    written = sorted(path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.*'))
    assert written == ['a.nii.gz', 'ct.nii.gz', 'dataset.json', 'dicom_seg/ct.dcm', 'volumes.csv']


def test_without_highdicom(tmp_path, series, monkeypatch):
    monkeypatch.setitem(sys.modules, 'highdicom', None)
    trained = untrained.trained(tmp_path / 'run', method='supervised')
    with pytest.raises(InputError, match=r"--dicom_seg needs highdicom; pip install -e '.\[dicom\]' brings it"):
        predict(trained, {'ct': series}, tmp_path, extras=['dicom_seg'])
