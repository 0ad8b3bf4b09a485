"""Synthetic series, read back by other programs, have the voxels given and the slices of their source, and say so."""

import shutil
import subprocess

import dicom_files
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from test_dicom_seg import PATIENT, PRIVATE, SHAPE, STUDY, write_series

from synseg_jax.dicom import series, series_writer
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file

OTHER = {'CT': 'MR', 'MR': 'CT'}
ARRAYS = {
    'whole numbers': np.random.default_rng(1).integers(-1000, 3000, SHAPE).astype(np.int16),
    'fractions': np.random.default_rng(2).uniform(0.02, 0.9, SHAPE).astype(np.float32),
    'constant': np.full(SHAPE, 0.25, np.float32),
}
WRITTEN = [('CT', 'whole numbers'), ('MR', 'whole numbers'), ('MR', 'fractions'), ('MR', 'constant')]
STEP = 0.5 * (0.9 - 0.02) / series_writer.LEVELS  # half of one level, with a margin for float32
TOLERANCES = {'whole numbers': 0, 'fractions': 1.1 * STEP, 'constant': 1e-9}


def written(tmp_path, modality='CT', kind='whole numbers', tilt=0.0, **tags):
    """The files of an oblique source of the other modality, and of the series."""
    files, _ = write_series(tmp_path / 'source', tilt, modality=OTHER[modality], **tags)
    out = tmp_path / 'out' / 'case'
    series_writer.write(out, ARRAYS[kind], series.slices(tmp_path / 'source'), modality, 'train-0123')
    return files, sorted(out.iterdir())


@pytest.mark.parametrize('tilt', [0.0, 1.5])
@pytest.mark.parametrize('modality, kind', WRITTEN)
def test_by_pydicom(tmp_path, modality, kind, tilt):
    """A file for each slice, in order, where its source lies, also of a tilted gantry."""
    files, found = written(tmp_path, modality, kind, tilt)
    assert [path.name for path in found] == [f'{k + 1:04d}.dcm' for k in range(SHAPE[2])]
    for k, (file, path) in enumerate(zip(files, found, strict=True)):
        source, image = pydicom.dcmread(file), pydicom.dcmread(path)
        for name in ('ImagePositionPatient', 'ImageOrientationPatient', 'PixelSpacing'):
            np.testing.assert_allclose(image[name].value, source[name].value, rtol=0, atol=1e-9)
        values = image.pixel_array * float(image.get('RescaleSlope', 1)) + float(image.get('RescaleIntercept', 0))
        np.testing.assert_allclose(values.T, ARRAYS[kind][:, :, k], rtol=0, atol=TOLERANCES[kind])
        assert (image.InstanceNumber, image.BitsStored, image.PixelRepresentation) == (k + 1, 16, 1)
        assert float(image.SliceThickness) == pytest.approx(float(source.SliceThickness))
        assert float(image.SpacingBetweenSlices) == pytest.approx(4, abs=1e-6)  # along the normal


@pytest.mark.parametrize('modality, kind', WRITTEN)
def test_by_simpleitk(tmp_path, modality, kind):
    files, _ = written(tmp_path, modality, kind)
    found, source = by_simpleitk(tmp_path / 'out' / 'case'), by_simpleitk(tmp_path / 'source')
    for name in ('GetSize', 'GetOrigin', 'GetSpacing', 'GetDirection'):
        np.testing.assert_allclose(getattr(found, name)(), getattr(source, name)(), rtol=0, atol=1e-9)
    array = sitk.GetArrayFromImage(found).transpose(2, 1, 0)
    np.testing.assert_allclose(array, ARRAYS[kind], rtol=0, atol=TOLERANCES[kind] + 1e-7)


def by_simpleitk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize('modality, kind', WRITTEN)
def test_by_dcm2niix(tmp_path, modality, kind):
    if not shutil.which('dcm2niix'):
        pytest.skip('dcm2niix is not installed (Debian and conda-forge have it)')
    written(tmp_path, modality, kind)
    command = ('dcm2niix', '-f', 'case', '-o', str(tmp_path), str(tmp_path / 'out' / 'case'))
    subprocess.run(command, check=True, capture_output=True)
    source, found = scan_file.read(tmp_path / 'source'), nib.load(tmp_path / 'case.nii')
    turn = ornt_transform(io_orientation(found.affine), io_orientation(source.affine))  # it has rows upside down
    affine = found.affine @ nib.orientations.inv_ornt_aff(turn, found.shape)
    np.testing.assert_allclose(affine, source.affine, rtol=0, atol=1e-4)  # float32
    array = apply_orientation(found.get_fdata(), turn)
    np.testing.assert_allclose(array, ARRAYS[kind], rtol=0, atol=TOLERANCES[kind] + 1e-6)


@pytest.mark.parametrize('tilt', [0.0, 1.5])
@pytest.mark.filterwarnings('ignore')  # of a tilted gantry
def test_by_our_reader(tmp_path, tilt):
    written(tmp_path, tilt=tilt)
    found, source = scan_file.read(tmp_path / 'out' / 'case'), scan_file.read(tmp_path / 'source')
    np.testing.assert_allclose(found.affine, source.affine, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.array, ARRAYS['whole numbers'])


def test_one_slice(tmp_path):
    """Whose distance to others its header alone tells."""
    files, _ = write_series(tmp_path / 'source', modality='MR', SpacingBetweenSlices=5)
    for file in files[1:]:
        file.unlink()
    frames = series.slices(tmp_path / 'source')
    series_writer.write(tmp_path / 'case', ARRAYS['whole numbers'][:, :, :1], frames, 'CT')
    found, source = scan_file.read(tmp_path / 'case'), scan_file.read(tmp_path / 'source')
    np.testing.assert_allclose(found.affine, source.affine, rtol=0, atol=1e-9)
    assert found.spacing_mm[2] == pytest.approx(5)


COMMON = (  # attributes of types 1 and 2 of the modules that images of both kinds have, DICOM PS3.3 A.3.3 and A.4.3
    'StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID SOPClassUID SOPInstanceUID SpecificCharacterSet '
    'ImageType PixelSpacing ImageOrientationPatient ImagePositionPatient SamplesPerPixel PhotometricInterpretation '
    'Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelData InstanceNumber',
    'PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID '
    'AccessionNumber SeriesNumber PatientPosition Laterality PositionReferenceIndicator Manufacturer SliceThickness',
)
REQUIRED = {
    'CT': ('RescaleIntercept RescaleSlope', 'KVP AcquisitionNumber'),
    'MR': ('ScanningSequence SequenceVariant', 'ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength'),
}


@pytest.mark.parametrize('modality', REQUIRED)
def test_every_attribute_that_the_standard_requires(tmp_path, modality):
    """Those of type 1 have values, those of type 2 are there."""
    _, found = written(tmp_path, modality)
    valued, present = (f'{common} {own}'.split() for common, own in zip(COMMON, REQUIRED[modality], strict=True))
    for image in map(pydicom.dcmread, found):
        assert all(name in image for name in valued + present)
        assert all(image[name].value not in (None, '') for name in valued)
        assert image.Modality == modality and image.SOPClassUID.name == f'{modality} Image Storage'
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID


def test_in_the_study_of_its_source(tmp_path):
    files, found = written(tmp_path, PatientPosition='FFP')
    sources, images = ([pydicom.dcmread(file) for file in both] for both in (files, found))
    for name in ('StudyInstanceUID', 'FrameOfReferenceUID', 'PatientPosition', *PATIENT, *STUDY):
        assert {image[name].value for image in images} == {sources[0][name].value}, name
    (own,) = {image.SeriesInstanceUID for image in images}
    uids = {image.SOPInstanceUID for image in images}
    assert own != sources[0].SeriesInstanceUID and images[0].SeriesNumber != sources[0].SeriesNumber
    assert len(uids) == SHAPE[2] and not uids & {source.SOPInstanceUID for source in sources}


def test_nothing_else_of_the_patient(tmp_path):
    _, found = written(tmp_path)
    for path in found:
        image = pydicom.dcmread(path)
        assert not [name for name in PRIVATE if image.get(name)] and b'SECRET' not in path.read_bytes()


@pytest.mark.parametrize('modality', OTHER)
def test_that_it_is_synthetic_and_what_made_it(tmp_path, modality):
    files, found = written(tmp_path, modality)
    for file, path in zip(files, found, strict=True):
        source, image = pydicom.dcmread(file), pydicom.dcmread(path)
        assert image.SeriesDescription == f'synthetic {modality}, synseg_jax train-0123'
        assert image.ImageType[:2] == ['DERIVED', 'SECONDARY'] and image.SyntheticData == 'YES'
        assert image.DerivationDescription.startswith(f'{modality} made of {OTHER[modality]} by synseg_jax ')
        assert image.DeviceSerialNumber == 'train-0123'
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == source.SOPClassUID and 'ReferencedFrameNumber' not in reference


def test_pixels_that_were_compressed_with_loss_stay_so_called(tmp_path):
    _, found = written(tmp_path, LossyImageCompression='01', LossyImageCompressionRatio='12')
    image = pydicom.dcmread(found[0])
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ('01', 12)
    assert 'LossyImageCompressionMethod' not in image


@pytest.mark.filterwarnings('ignore')  # of what scanners write
@pytest.mark.parametrize('name', ['ge_anatomical', 'siemens_anatomical', 'philips_enhanced_anatomical'])
def test_series_of_scanners(tmp_path, shared, name):
    """Single slices, and frames of one file, which become files of their own."""
    (tmp_path / 'source').mkdir()
    for file in (shared / 'data' / 'formats' / 'dicom' / f'{name}_001').iterdir():
        header = pydicom.dcmread(file)
        header.FrameOfReferenceUID = '1.2.3'  # left out when these were made public
        header.save_as(tmp_path / 'source' / file.name)
    scan, frames = scan_file.read(tmp_path / 'source'), series.slices(tmp_path / 'source')
    array = np.random.default_rng(0).integers(-1000, 3000, scan.array.shape).astype(np.int16)
    series_writer.write(tmp_path / 'case', array, frames, 'CT')
    found = scan_file.read(tmp_path / 'case')
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, scan.affine, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(by_simpleitk(tmp_path / 'case')).transpose(2, 1, 0), array)
    for frame, file in zip(frames, sorted((tmp_path / 'case').iterdir()), strict=True):
        (reference,) = pydicom.dcmread(file).SourceImageSequence
        number = frame.frame + 1 if 'enhanced' in name else None
        assert (reference.ReferencedSOPInstanceUID, reference.get('ReferencedFrameNumber')) == (frame.uid, number)


@pytest.mark.parametrize('name', ['FrameOfReferenceUID', 'StudyInstanceUID'])
def test_a_series_that_cannot_be_joined(tmp_path, name):
    with pytest.raises(InputError, match=f'.dcm: has no {name}, which a synthetic series must name; repair the series'):
        written(tmp_path, **{name: ''})
    assert not (tmp_path / 'out').exists()


def test_an_array_that_does_not_fit(tmp_path):
    dicom_files.write_series(tmp_path / 'source', np.zeros((5, 6, 2)), np.eye(4), 'MR')
    with pytest.raises(ValueError, match=r'shape \(11, 9, 7\) does not fit 2 slices of \(6, 5\)'):
        series_writer.write(tmp_path / 'case', ARRAYS['whole numbers'], series.slices(tmp_path / 'source'), 'CT')


def test_modalities_without_an_image_of_their_own_are_refused():
    series_writer.check('MR', 'T2')
    with pytest.raises(InputError, match='--format=dicom writes CT and MR, not FDG PET; use --format=scans'):
        series_writer.check('PET', 'FDG PET')
