"""The patient and study of a series: what a derived object must repeat, to be filed with it, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset

from synseg_jax.errors import InputError
from synseg_jax.files.scan_errors import reading_scan

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
