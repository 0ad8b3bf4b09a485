"""The patient and study of a series, which a derived object must repeat to be filed with it; nothing else of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, generate_uid

import synseg_jax
from synseg_jax.dicom.frames import Slice
from synseg_jax.errors import InputError
from synseg_jax.files.scan_errors import reading_scan

NAME = 'synseg_jax'  # of the equipment
REQUIRED = 'SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Rows Columns'.split()
PATIENT = 'PatientName PatientID PatientBirthDate PatientSex'.split()
STUDY = 'StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName'.split()
EMPTY = (*PATIENT, *STUDY, 'PositionReferenceIndicator')  # type 2: may be empty, but must be there


def header(file: Path, derived: str, more: Sequence[str] = ()) -> Dataset:
    """The attributes of one file of a series that an object derived from it repeats, and those named by `more`.

    InputError where one is missing that `derived`, the kind of object, must name; what may be empty is None.
    """
    tags = [*REQUIRED, *EMPTY, 'SpecificCharacterSet', *more]
    with reading_scan(file):
        found = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)
    if missing := [tag for tag in REQUIRED if not found.get(tag)]:
        raise InputError(f'{file}: has no {missing[0]}, which {derived} must name; repair the series')
    for tag in (tag for tag in EMPTY if tag not in found):
        setattr(found, tag, None)
    if found.PatientSex not in ('M', 'F', 'O'):
        found.PatientSex = None
    return found


def new_object(like: Dataset, sop_class: UID, syntax: UID, model: str, **attributes: object) -> Dataset:
    """A new object in the study and frame of reference of `like`, a header; `model` identifies the weights.

    It has the attributes of patient, study, frame of reference, equipment and SOP instance, and those given.
    """
    found = item(
        SpecificCharacterSet='ISO_IR 192',
        SOPClassUID=sop_class,
        SOPInstanceUID=generate_uid(),
        **{tag: like.get(tag) for tag in EMPTY},
        StudyInstanceUID=like.StudyInstanceUID,
        FrameOfReferenceUID=like.FrameOfReferenceUID,
        Manufacturer=NAME,
        ManufacturerModelName=NAME,
        SoftwareVersions=synseg_jax.__version__,
        DeviceSerialNumber=model[:64],
        **attributes,
    )
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return found


def references(frames: Sequence[Slice], headers: dict[Path, Dataset]) -> list[Dataset]:
    """The reference to the image of each frame, which of several in one file has a number."""
    counts = Counter(frame.file for frame in frames)
    found = []
    for frame in frames:
        image = item(ReferencedSOPClassUID=headers[frame.file].SOPClassUID, ReferencedSOPInstanceUID=frame.uid)
        if counts[frame.file] > 1:
            image.ReferencedFrameNumber = frame.frame + 1
        found.append(image)
    return found


def item(**attributes: object) -> Dataset:
    """A data set, such as an item of a sequence, of attributes by keyword."""
    found = Dataset()
    for name, value in attributes.items():
        setattr(found, name, value)
    return found
