"""The frames of one DICOM file, with their geometry in the patient coordinate system."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from synseg_jax.errors import InputError
from synseg_jax.imaging.voxel_bytes import MAX_VOXELS

MAX_FRAMES = 2**14
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)  # transfer syntaxes; the others may be, and say so


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame: its file, its index there, and its geometry in patient coordinates (LPS mm)."""

    file: Path
    frame: int
    rows: Float[np.ndarray, '3']  # unit vector along a row, of increasing column index
    columns: Float[np.ndarray, '3']
    origin: Float[np.ndarray, '3']  # centre of the first pixel, ImagePositionPatient
    spacing: tuple[float, float]  # PixelSpacing in mm: between rows, between columns
    shape: tuple[int, int]
    scale: tuple[float, float]
    uid: str
    modality: str
    photometric: str
    thickness: float  # mm, 0 if unknown
    distance: float  # between slices by the header, mm; 0 if unknown
    instance: int | None
    remarks: tuple[str, ...]  # warnings about its pixels

    @property
    def normal(self) -> Float[np.ndarray, '3']:
        return np.cross(self.rows, self.columns)


def frames_of(file: Path, read: pydicom.Dataset) -> list[Slice]:
    """The frames of one file; InputError if they are not greyscale or have no position."""
    _check_pixels(file, read)
    count = _number(read, 'NumberOfFrames')
    size = (count, int(read.Rows), int(read.Columns))
    if min(size) < 1 or count > MAX_FRAMES or np.prod(size) > MAX_VOXELS:
        raise InputError(f'{file}: claims {" x ".join(map(str, size))} pixels; replace the file')
    groups = read.get('PerFrameFunctionalGroupsSequence')
    if count > 1 and not groups:
        raise InputError(f'{file}: no positions of its {count} frames; convert it to single-frame files')
    if groups and len(groups) != count:
        raise InputError(f'{file}: {count} frames, {len(groups)} of them described; replace the file')
    shared = (read.get('SharedFunctionalGroupsSequence') or [pydicom.Dataset()])[0]
    return [_frame(_Fields(file, read, (own, shared)), i) for i, own in enumerate(groups or [shared])]


def _check_pixels(file, read) -> None:
    """InputError unless each frame is one greyscale plane."""
    if _number(read, 'SamplesPerPixel') != 1 or read.get('PhotometricInterpretation') == 'PALETTE COLOR':
        raise InputError(f'{file}: holds colour (RGB), not one intensity per voxel; convert it to greyscale')
    if 'MOSAIC' in str(read.get('ImageType')):
        raise InputError(f'{file}: a Siemens mosaic, slices tiled into one plane; convert it to NIfTI with dcm2niix')
    if read.get('ModalityLUTSequence'):
        raise InputError(f'{file}: has a ModalityLUTSequence instead of RescaleSlope; convert its values by that table')


def _number(read, tag) -> int:
    """An integer attribute, 1 if absent."""
    return int(read.get(tag) or 1)


@dataclass(frozen=True)
class _Fields:
    """Attributes of a frame: from its own functional group, the shared one, or the header, in this order."""

    file: Path
    header: pydicom.Dataset
    groups: tuple[pydicom.Dataset, pydicom.Dataset]

    def get(self, sequence: str, field: str):
        for group in self.groups:
            items = group.get(sequence)
            if items and field in items[0]:
                return items[0].get(field)
        return self.header.get(field)

    def numbers(self, sequence: str, field: str, count: int) -> Float[np.ndarray, 'count']:
        """`count` finite numbers; InputError if absent or anything else."""
        value = self.get(sequence, field)
        if value is None or value == '':
            raise InputError(f'{self.file}: {self._missing(field)}; repair the header or leave the file out')
        try:
            numbers = np.atleast_1d(np.array(value, float))
        except (TypeError, ValueError):
            numbers = np.array([])
        if len(numbers) != count or not np.isfinite(numbers).all():
            told = ' '.join(str(value).split())
            raise InputError(f'{self.file}: {field} is {told}, not {count} finite numbers; repair the header')
        return numbers

    def number(self, sequence: str, field: str, default: float) -> float:
        """One finite number, `default` if absent; InputError for anything else."""
        value = self.get(sequence, field)
        return default if value is None or value == '' else float(self.numbers(sequence, field, 1)[0])

    def length(self, field: str) -> float:
        """A length in mm; 0 if absent or invalid, as positions give it too."""
        try:
            return abs(self.number('PixelMeasuresSequence', field, 0.0))
        except InputError:
            return 0.0

    def _missing(self, field) -> str:
        detector = field == 'PixelSpacing' and 'ImagerPixelSpacing' in self.header
        return f'{field} is missing' + (' (its ImagerPixelSpacing is that of the detector)' if detector else '')


def _frame(fields, number) -> Slice:
    read = fields.header
    rows, columns = _directions(fields)
    spacing, scale = _spacing(fields), _scale(fields)
    thickness = fields.length('SliceThickness')
    return Slice(
        file=fields.file,
        frame=number,
        rows=rows,
        columns=columns,
        origin=fields.numbers('PlanePositionSequence', 'ImagePositionPatient', 3),
        spacing=spacing,
        shape=(int(read.Rows), int(read.Columns)),
        scale=scale,
        uid=str(read.get('SOPInstanceUID', '')),
        modality=str(read.get('Modality') or ''),
        photometric=str(read.get('PhotometricInterpretation') or ''),
        thickness=thickness,
        distance=fields.length('SpacingBetweenSlices') or thickness,
        instance=_instance(read),
        remarks=_remarks(read),
    )


def _instance(read) -> int | None:
    """InstanceNumber, None if absent or invalid."""
    said = str(read.get('InstanceNumber', ''))
    return int(said) if said.isdecimal() else None


def _directions(fields) -> Float[np.ndarray, '2 3']:
    directions = fields.numbers('PlaneOrientationSequence', 'ImageOrientationPatient', 6).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01:
        raise InputError(f'{fields.file}: row and column directions are not orthogonal; repair the header')
    return directions


def _spacing(fields) -> tuple[float, float]:
    rows, columns = fields.numbers('PixelMeasuresSequence', 'PixelSpacing', 2).tolist()
    if min(rows, columns) <= 0:
        raise InputError(f'{fields.file}: PixelSpacing of {rows:g} x {columns:g} mm; repair the header')
    return rows, columns


def _scale(fields) -> tuple[float, float]:
    slope = fields.number('PixelValueTransformationSequence', 'RescaleSlope', 1.0)
    if slope == 0:
        raise InputError(f'{fields.file}: RescaleSlope is 0; repair the header')
    return slope, fields.number('PixelValueTransformationSequence', 'RescaleIntercept', 0.0)


def _remarks(read) -> tuple[str, ...]:
    remarks = []
    syntax = UID(read.file_meta.get('TransferSyntaxUID', ''))
    if syntax in LOSSY or read.get('LossyImageCompression') == '01':
        remarks.append(f'lossy compressed ({syntax.name}): its values are not those that were measured')
    if read.get('PhotometricInterpretation') == 'MONOCHROME1':
        remarks.append('MONOCHROME1, meant to be shown inverted; its values are read as they are stored')
    high, stored = read.get('HighBit'), read.get('BitsStored')
    if None not in (high, stored) and high != stored - 1:
        remarks.append(f'HighBit {high} does not fit BitsStored {stored}; the lowest {stored} bits are read')
    return tuple(remarks)
