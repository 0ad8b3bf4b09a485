"""The frames of one DICOM file, as its header places them in the patient."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float

from synseg_jax.data.nifti import MAX_VOXELS
from synseg_jax.errors import InputError

MAX_FRAMES = 2**14


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame: its file and number there, and how it lies in the patient (LPS mm)."""

    file: Path
    frame: int
    rows: Float[np.ndarray, '3']  # direction in which columns are counted, along a row
    columns: Float[np.ndarray, '3']
    origin: Float[np.ndarray, '3']  # centre of the first pixel
    spacing: tuple[float, float]  # between rows, between columns
    shape: tuple[int, int]
    scale: tuple[float, float]
    uid: str
    modality: str
    thickness: float
    instance: int | None

    @property
    def normal(self) -> Float[np.ndarray, '3']:
        return np.cross(self.rows, self.columns)


def frames_of(file: Path, read: pydicom.Dataset) -> list[Slice]:
    """The frames of one file by its header; InputError for colour and where it does not say where they lie."""
    if _number(read, 'SamplesPerPixel') != 1 or read.get('PhotometricInterpretation') == 'PALETTE COLOR':
        raise InputError(f'{file}: holds colour (RGB), not one intensity per voxel; convert it to a grey-value scan')
    count = _number(read, 'NumberOfFrames')
    size = (count, int(read.Rows), int(read.Columns))
    if min(size) < 1 or count > MAX_FRAMES or np.prod(size) > MAX_VOXELS:
        raise InputError(f'{file}: claims {" x ".join(map(str, size))} pixels; replace the file')
    groups = read.get('PerFrameFunctionalGroupsSequence')
    if count > 1 and not groups:
        raise InputError(f'{file}: its {count} frames say not where they lie; convert it to slices that do')
    if groups and len(groups) != count:
        raise InputError(f'{file}: {count} frames, {len(groups)} of them described; replace the file')
    shared = (read.get('SharedFunctionalGroupsSequence') or [None])[0]
    return [_frame(file, i, read, groups[i] if groups else None, shared) for i in range(count)]


def _number(read, tag) -> int:
    """A number of a header, 1 where it is left out."""
    return int(read.get(tag) or 1)


def _frame(file, number, read, own, shared) -> Slice:
    def said(field, sequence):
        for group in (own, shared):
            if group is not None and sequence in group and field in group[sequence][0]:
                return group[sequence][0].get(field)
        return read.get(field)

    try:
        directions = np.array(said('ImageOrientationPatient', 'PlaneOrientationSequence'), float).reshape(2, 3)
        origin = np.array(said('ImagePositionPatient', 'PlanePositionSequence'), float).reshape(3)
        spacing = tuple(float(mm) for mm in said('PixelSpacing', 'PixelMeasuresSequence'))
        slope = said('RescaleSlope', 'PixelValueTransformationSequence')
        intercept = said('RescaleIntercept', 'PixelValueTransformationSequence')
        scale = (1.0 if slope is None else float(slope), float(intercept or 0.0))
        thickness = float(said('SliceThickness', 'PixelMeasuresSequence') or 0.0)
        shape = (int(read.Rows), int(read.Columns))
        instance = None if read.get('InstanceNumber') is None else int(read.InstanceNumber)
    except Exception as error:  # pydicom raises whatever its parsing meets
        raise InputError(f'{file}: does not say where its image lies ({error}); leave the file out') from error
    numbers = np.array([*directions.ravel(), *origin, *spacing, *scale, thickness])
    if len(spacing) != 2 or min(spacing) <= 0 or scale[0] == 0 or not np.isfinite(numbers).all() or min(shape) < 1:
        raise InputError(f'{file}: spacing, position, size or slope make no sense; repair the header')
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01:
        raise InputError(f'{file}: its row and column do not stand at right angles; repair the header')
    uid, modality = str(read.get('SOPInstanceUID', '')), str(read.get('Modality') or '')
    return Slice(file, number, *directions, origin, spacing, shape, scale, uid, modality, thickness, instance)
