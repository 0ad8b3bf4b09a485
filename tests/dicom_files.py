"""DICOM series and RTSTRUCT files for tests, written by pydicom as scanners write them."""

import io
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    RTStructureSetStorage,
    generate_uid,
)

INTERCEPT = {'CT': -1024, 'MR': 0}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path, array_xyz: np.ndarray, affine_ras: np.ndarray, modality: str = 'CT', **tags
) -> list[Path]:
    """One file for each slice of the third axis, in its order: columns run along x, rows along y.

    CT is stored from -1024 up, as scanners do.  `tags` are set last, in every file, e.g. SeriesNumber=3; UIDs follow
    from the folder's path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    affine = LPS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    files = []
    for k in range(array_xyz.shape[2]):
        slice_ = _file(folder / f'{k + 1:04d}.dcm', CTImageStorage if modality == 'CT' else MRImageStorage)
        slice_.update(_common(folder, modality))
        slice_.InstanceNumber = k + 1
        slice_.ImagePositionPatient = _numbers(affine[:3, 3] + k * affine[:3, 2])
        slice_.ImageOrientationPatient = _numbers((affine[:3, :2] / spacing[:2]).T.ravel())
        slice_.PixelSpacing, slice_.SliceThickness = _numbers(spacing[[1, 0]]), float(spacing[2])
        _set_pixels(slice_, array_xyz[:, :, k].T, INTERCEPT[modality])
        for name, value in tags.items():
            setattr(slice_, name, value)
        slice_.save_as(slice_.filename, enforce_file_format=True)
        files.append(Path(slice_.filename))
    return files


def write_rtstruct(
    path: Path, series_files: Sequence[Path], contours: Mapping[str, Sequence[tuple[int, np.ndarray]]]
) -> Path:
    """An RTSTRUCT on a series: for every name, polygons of (x, y) in voxels on slice k of what `write_series` wrote."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in series_files]
    file = _file(path, RTStructureSetStorage)
    file.Modality, file.PatientID, file.PatientName = 'RTSTRUCT', slices[0].PatientID, slices[0].PatientName
    file.StudyInstanceUID, file.SeriesInstanceUID = slices[0].StudyInstanceUID, generate_uid(entropy_srcs=[str(path)])
    file.StructureSetLabel = 'test'
    file.ReferencedFrameOfReferenceSequence = [_frame_of_reference(slices)]
    file.StructureSetROISequence, file.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(contours.items(), 1):
        roi = _items(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=slices[0].FrameOfReferenceUID)
        drawn = [_contour(slices[k], np.asarray(polygon, float)) for k, polygon in polygons]
        file.StructureSetROISequence.append(roi)
        file.ROIContourSequence.append(_items(ReferencedROINumber=number, ContourSequence=drawn))
    file.save_as(path, enforce_file_format=True)
    return path


def change(file: Path, **tags) -> None:
    """Sets tags of a file, also to what DICOM forbids, and deletes those that are None."""
    read = pydicom.dcmread(file)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for name, value in tags.items():
            if value is None:
                delattr(read, name)
            else:
                setattr(read, name, value)
        read.save_as(file)


def pack(file: Path, codec: str) -> None:
    """Packs the pixels of a file by one of CODECS; all bits of the stored values are kept but by JPEG."""
    read = pydicom.dcmread(file)
    if codec in ('RLE', 'JPEG-LS'):
        read.compress(RLELossless if codec == 'RLE' else JPEGLSLossless, generate_instance_uid=False)
    else:
        pixels = np.frombuffer(read.PixelData, f'u{read.BitsAllocated // 8}').reshape(read.Rows, read.Columns)
        encode, read.file_meta.TransferSyntaxUID = CODECS[codec]
        read.PixelData = encapsulate([encode(pixels)])
        read['PixelData'].VR = 'OB'
    read.save_as(file)


def join(files: Sequence[Path], packed: Sequence[bytes], syntax: str, groups: Sequence[Dataset]) -> Path:
    """Makes the first file a multi-frame one, with a functional group for each of its frames; the others go."""
    read = pydicom.dcmread(files[0])
    native = syntax == ExplicitVRLittleEndian
    read.PixelData, read.file_meta.TransferSyntaxUID = b''.join(packed) if native else encapsulate(packed), syntax
    read['PixelData'].VR = 'OW' if native else 'OB'
    read.NumberOfFrames, read.PerFrameFunctionalGroupsSequence = len(packed), list(groups)
    read.save_as(files[0])
    for path in files[1:]:
        path.unlink()
    return files[0]


def group(position: Sequence[float], slope: float = 1, intercept: float = 0) -> Dataset:
    """What an enhanced file says of one frame: where it lies (LPS mm), and its own slope."""
    return _items(
        PlanePositionSequence=[_items(ImagePositionPatient=list(position))],
        PixelValueTransformationSequence=[_items(RescaleSlope=slope, RescaleIntercept=intercept)],
    )


def jpeg_2000(pixels: np.ndarray) -> bytes:
    """By Pillow, lossless."""
    Image.fromarray(pixels).save(stream := io.BytesIO(), 'JPEG2000', irreversible=False, no_jp2=True)
    return stream.getvalue()


def _jpeg(pixels) -> bytes:
    """By Pillow, with losses; of 8 bits."""
    Image.fromarray(pixels).save(stream := io.BytesIO(), 'JPEG', quality=95)
    return stream.getvalue()


def _jpeg_lossless(pixels) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO('GDCMImageIO')
        writer.SetFileName(f'{folder}/frame.dcm')
        writer.SetUseCompression(True)
        writer.SetCompressor('JPEG')
        writer.Execute(sitk.GetImageFromArray(pixels))
        read = pydicom.dcmread(f'{folder}/frame.dcm')
    assert read.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return next(generate_frames(read.PixelData, number_of_frames=1))


CODECS = {
    'RLE': None,
    'JPEG-LS': None,
    'JPEG 2000': (jpeg_2000, JPEG2000Lossless),
    'JPEG lossless': (_jpeg_lossless, JPEGLosslessSV1),
    'JPEG': (_jpeg, JPEGBaseline8Bit),
}


def _file(path, sop_class) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=['file', str(path)])
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b'\0' * 128)
    file.SOPClassUID, file.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return file


def _common(folder, modality) -> Dataset:
    """What all slices of a series say."""
    uids = {f'{kind}InstanceUID': generate_uid(entropy_srcs=[kind, str(folder)]) for kind in ('Study', 'Series')}
    frame = generate_uid(entropy_srcs=['frame', str(folder)])
    said = {'PatientID': 'nobody', 'PatientName': 'Nobody', 'SeriesNumber': 1, 'SeriesDescription': modality}
    return _items(Modality=modality, FrameOfReferenceUID=frame, **uids, **said)


def _set_pixels(slice_, rows, intercept) -> None:
    """16-bit pixels, signed where the stored values are negative."""
    stored = np.rint(rows).astype(np.int64) - intercept
    signed = bool(stored.min() < 0)
    slice_.Rows, slice_.Columns = rows.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, 'MONOCHROME2'
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelRepresentation = int(signed)
    if intercept:
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, intercept
    slice_.PixelData = np.ascontiguousarray(stored, np.int16 if signed else np.uint16).tobytes()


def _frame_of_reference(slices) -> Dataset:
    series = _items(SeriesInstanceUID=slices[0].SeriesInstanceUID, ContourImageSequence=[_image(s) for s in slices])
    study = _items(ReferencedSOPInstanceUID=slices[0].StudyInstanceUID, RTReferencedSeriesSequence=[series])
    return _items(FrameOfReferenceUID=slices[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _contour(slice_, polygon) -> Dataset:
    """A closed polygon on one slice; its corners in LPS mm."""
    directions = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
    steps = directions * np.array(slice_.PixelSpacing, float)[::-1, None]  # along x, along y
    points = np.array(slice_.ImagePositionPatient, float) + polygon @ steps
    return _items(
        ContourGeometricType='CLOSED_PLANAR',
        NumberOfContourPoints=len(points),
        ContourData=_numbers(points.ravel()),
        ContourImageSequence=[_image(slice_)],
    )


def _image(slice_) -> Dataset:
    return _items(ReferencedSOPClassUID=slice_.SOPClassUID, ReferencedSOPInstanceUID=slice_.SOPInstanceUID)


def _items(**values) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _numbers(values) -> list[str]:
    """Decimal strings, of which DICOM lets 16 characters be."""
    return [f'{round(float(value), 9):.10g}' for value in values]
