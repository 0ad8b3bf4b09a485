"""Label maps as RT Structure Sets: contours slice by slice, in the frame of reference of the segmented series.

Written are the modules that DICOM PS3.3 A.19 requires, with all attributes of types 1 and 2: Patient, General Study,
RT Series, Frame of Reference, General Equipment, Structure Set, ROI Contour, RT ROI Observations and SOP Common.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from synseg_jax.dicom import study
from synseg_jax.dicom.frames import Slice
from synseg_jax.dicom.pixels import guarded
from synseg_jax.dicom.study import NAME, item
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file
from synseg_jax.imaging.colours import colour
from synseg_jax.imaging.contours import contours
from synseg_jax.imaging.volume import Volume

KIND = 'RTSTRUCT'
STUDY_CLASS = '1.2.840.10008.3.1.2.3.1'  # Detached Study Management, retired; what the sequence of studies still names
SERIES_NUMBER = 1001
OFF_GRID = 0.2  # of a voxel, that a slice may lie off the grid of the labels
CONTOUR_DATA = Tag('ContourData')
DIGITS = 3  # of coordinates in mm: a micrometre, within the 16 characters of a decimal string


def write(path: Path, labels: Volume, frames: Sequence[Slice], classes: Sequence[str], model: str = '0') -> None:
    """Writes the contours of a label map, indices into `classes`, on the slices `frames` of its series, atomically.

    `frames` are in the order of the third axis of the labels.  Every class but the background is an ROI, one without
    voxels has no contours.  Holes are joined to their outline by a keyhole, see `imaging.contours`.  `model` identifies
    the weights.  InputError for a series that lacks an attribute to refer to, or that lies elsewhere.
    """
    _check_grid(labels, frames)
    with guarded(frames[0].file):  # of odd but harmless values of its study pydicom warns
        found = _structure_set(labels, frames, classes, model)
    with atomic_file(path) as temporary:
        found.save_as(temporary, enforce_file_format=True)


def _check_grid(labels, frames) -> None:
    """InputError unless every slice of the series is the slice of the labels with its index."""
    rows, columns = frames[0].shape
    if labels.array.shape != (columns, rows, len(frames)):
        told = f'{columns} x {rows} pixels in {len(frames)} slices'
        raise InputError(f'{frames[0].file}: a series of {told}, its labels {labels.array.shape}')
    into = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.affine)
    for at, frame in enumerate(frames):
        corner = frame.origin + (columns - 1) * _along(frame) + (rows - 1) * _down(frame)
        placed = np.stack([frame.origin, corner]) @ into[:3, :3].T + into[:3, 3]
        if np.abs(placed - [[0, 0, at], [columns - 1, rows - 1, at]]).max() > OFF_GRID:
            raise InputError(f'{frame.file}: lies elsewhere than its labels; segment this series itself')


def _along(frame) -> Float[np.ndarray, '3']:
    """From one column to the next, LPS mm."""
    return frame.rows * frame.spacing[1]


def _down(frame) -> Float[np.ndarray, '3']:
    return frame.columns * frame.spacing[0]


def _structure_set(labels, frames, classes, model) -> Dataset:
    headers = {file: study.header(file, KIND) for file in dict.fromkeys(frame.file for frame in frames)}
    first, images = headers[frames[0].file], study.references(frames, headers)
    found = _general(first, model)
    found.ReferencedFrameOfReferenceSequence = [_frame_of_reference(first, images)]
    rois = [(number, name) for number, name in enumerate(classes) if number]
    found.StructureSetROISequence = [_roi(number, name, first) for number, name in rois]
    found.ROIContourSequence = [_drawn(number, labels.array == number, frames, images) for number, _ in rois]
    found.RTROIObservationsSequence = [
        item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType='', ROIInterpreter='')
        for number, _ in rois
    ]
    return found


def _general(first, model) -> Dataset:
    """Patient, study, series, equipment, and the head of the structure set."""
    now = datetime.now()
    return study.new_object(
        first,
        RTStructureSetStorage,
        ImplicitVRLittleEndian,  # for the contour data of an explicit transfer syntax ends at 64 KiB
        model,
        Modality=KIND,
        SeriesInstanceUID=generate_uid(),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=f'{NAME} contours',
        OperatorsName=None,
        InstanceNumber=1,
        StructureSetLabel=NAME,
        StructureSetDate=now.strftime('%Y%m%d'),
        StructureSetTime=now.strftime('%H%M%S'),
    )


def _frame_of_reference(first, images) -> Dataset:
    """The one series that was segmented, with each of its files once."""
    series = item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[
            item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid)
            for kind, uid in dict.fromkeys((i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID) for i in images)
        ],
    )
    study_item = item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study_item])


def _roi(number, name, first) -> Dataset:
    return item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
        ROIName=name.replace('\\', '/')[:64],
        ROIGenerationAlgorithm='AUTOMATIC',
    )


def _drawn(number, mask: Bool[np.ndarray, 'x y z'], frames, images) -> Dataset:
    """The colour and the contours of one ROI."""
    found = item(ROIDisplayColor=[round(255 * part) for part in to_rgb(colour(number))], ReferencedROINumber=number)
    if drawn := list(_contours(mask, frames, images)):
        found.ContourSequence = drawn
    return found


def _contours(mask, frames, images) -> Iterator[Dataset]:
    for at in np.flatnonzero(mask.any((0, 1))):
        frame = frames[at]
        for polygon in contours(mask[:, :, at]):
            points = frame.origin + polygon @ np.stack([_along(frame), _down(frame)])
            found = item(
                ContourImageSequence=[images[at]],
                ContourGeometricType='CLOSED_PLANAR',
                NumberOfContourPoints=len(points),
            )
            found[CONTOUR_DATA] = _numbers(CONTOUR_DATA, points.ravel())
            yield found


def _numbers(tag, values) -> RawDataElement:
    """Decimal strings as they are stored: pydicom takes seconds to check each of a hundred thousand."""
    text = '\\'.join(f'{value:.{DIGITS}f}' for value in values).encode()
    text += b' ' * (len(text) % 2)
    return RawDataElement(tag, 'DS', len(text), text, 0, True, True)
