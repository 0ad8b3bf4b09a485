"""Reading the header of a DICOM file, and whether the file holds an image."""

from pathlib import Path

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID

from synseg_jax.dicom.pixels import UNDEFINED, guarded, reason
from synseg_jax.errors import InputError

TAGS = (  # attributes that are used, decoded right after reading
    'SOPClassUID SOPInstanceUID SeriesInstanceUID Modality ImageType Rows Columns NumberOfFrames SamplesPerPixel '
    'PhotometricInterpretation BitsStored HighBit PixelSpacing ImageOrientationPatient ImagePositionPatient '
    'SliceThickness SpacingBetweenSlices RescaleSlope RescaleIntercept PerFrameFunctionalGroupsSequence '
    'SharedFunctionalGroupsSequence LossyImageCompression'
).split()
SPARED = 'SeriesNumber SeriesDescription InstanceNumber'.split()  # optional: ignored if invalid
NO_SCANS = 'SEG RTDOSE RTSTRUCT RTPLAN RTRECORD PR KO SR DOC REG'.split()  # modalities of objects other than images
IMAGES = ('Image Storage', 'Map Storage', 'Volume Storage')  # parts of the names of image SOP classes
BEHIND_SIZE = 0x0029  # the group after that of Rows and Columns


def header(path: Path) -> pydicom.Dataset:
    """The header of a file, without pixels; InputError if it is damaged."""
    with guarded(path):
        found = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if not len(found) or any(map(_cut_short, map(found.get_item, found.keys()))):
            raise InputError(f'{path}: truncated or no DICOM; replace the file')
        for tag in SPARED + TAGS:
            _decode(path, found, tag)
        return found


def holds_image(path: Path, found: pydicom.Dataset) -> bool:
    """Whether a file holds image frames; InputError for an image without Rows or Columns."""
    if found.get('Modality') in NO_SCANS:
        return False
    if 'Rows' in found and 'Columns' in found:
        return True
    if _other_object(found):
        return False
    missing = ' and '.join(tag for tag in ('Rows', 'Columns') if tag not in found)
    raise InputError(f'{path}: {missing} missing, an image cut short? Replace the file, or remove it if it is no image')


def _decode(path, found, tag) -> None:
    """Decodes a value early, where errors are handled; an invalid optional one is dropped."""
    try:
        found.get(tag)
    except Exception as error:  # pydicom raises whatever its parsing meets
        if tag not in SPARED:
            raise InputError(f'{path}: {tag} makes no sense ({reason(error)}); repair the header') from error
        del found[tag]


def _cut_short(item) -> bool:
    """Whether an element is shorter than its length field, which pydicom does not report."""
    return isinstance(item, RawDataElement) and len(item.value or b'') < item.length < UNDEFINED


def _other_object(found) -> bool:
    """Whether the SOP class is not an image: a standard one, or a private one with a complete header without pixels."""
    said = found.get('SOPClassUID') or found.file_meta.get('MediaStorageSOPClassUID', '')
    uid = UID(str(said), validation_mode=config.IGNORE)
    if uid.is_private:
        return uid.is_valid and 'BitsAllocated' not in found and max(found.keys()).group >= BEHIND_SIZE
    return uid.name != uid and not any(word in uid.name for word in IMAGES)
