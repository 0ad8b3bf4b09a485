"""Label maps as DICOM SEG objects with one segment per class, in the study of the segmented series.

Needs highdicom, the optional extra `dicom`.  Only the attributes of patient and study that the standard requires are
copied from the series, see `study`.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.seg import SegmentDescription
from jaxtyping import Float, UInt8
from matplotlib.colors import to_rgb
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

import synseg_jax
from synseg_jax.dicom import study
from synseg_jax.dicom.study import NAME
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file
from synseg_jax.imaging.colours import colour
from synseg_jax.imaging.volume import Volume

SCHEME = '99SYNSEG_JAX'  # for classes that are in no context group of the standard
PLACED = (
    'Modality ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness '
    'LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod '
    'NumberOfFrames SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence'
).split()
GROUPS = {  # context groups of DICOM PS3.16 (anatomy, heart, lesions) and the category of their concepts
    'cid7192': 'AnatomicalStructure',
    'cid12305': 'AnatomicalStructure',
    'cid7159': 'MorphologicallyAbnormalStructure',
}
SIDES = {'left': Code('7771000', 'SCT', 'Left'), 'right': Code('24028007', 'SCT', 'Right')}
SYNONYMS = {
    'body': 'EntireBody',
    'ticv': 'Intracranial',
    'myocardium': 'LeftVentricleMyocardium',
    'oesophagus': 'Esophagus',
    'urinary bladder': 'Bladder',
    'gall bladder': 'Gallbladder',
    'tumour': 'Neoplasm',
    'tumor': 'Neoplasm',
}


def write(path: Path, labels: Volume, files: Sequence[Path], classes: Sequence[str], model: str = '0') -> None:
    """Writes a label map, indices into `classes`, on the grid of the series of `files`, atomically.

    `model` identifies the weights.  InputError for files without an attribute that the object must refer to, and for
    files on another grid than the labels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of odd but harmless values in a series, such as names without a caret
        found = _object(labels, files, classes, model)
        with atomic_file(path) as temporary:
            found.save_as(temporary)


def _object(labels, files, classes, model) -> hd.seg.Segmentation:
    try:
        headers = [study.header(file, 'DICOM SEG', PLACED) for file in files]
        return _segmentation(labels, headers, _frames(labels, headers, files), classes, model)
    except InputError:
        raise
    except (
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # of a series that breaks the standard
        raise InputError(f'{files[0]}: no DICOM SEG can be made of its series ({error}); repair its headers') from error


def _segmentation(labels, headers, frames, classes, model) -> hd.seg.Segmentation:
    return hd.seg.Segmentation(
        source_images=_agreeing(headers, labels),
        pixel_array=frames,
        segmentation_type='BINARY',
        segment_descriptions=[_described(number, name) for number, name in enumerate(classes) if number],
        series_instance_uid=hd.UID(),
        series_number=1000,
        series_description=f'{NAME} segmentation',
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=synseg_jax.__version__,
        device_serial_number=model[:64],
        content_label='SEGMENTATION',
        specific_character_set='ISO_IR 192',
    )


def concept(name: str) -> tuple[Code, Code, Code | None]:
    """Coded concept (category, type, laterality) of a class by its name: `left kidney`, `kidney_left`, `Kidney`.

    From the DICOM context groups in `GROUPS`, else a private code.
    """
    words = name.lower().replace('_', ' ').replace('-', ' ').split()
    for side in (None, *(side for side in SIDES if side in words)):
        plain = ' '.join(word for word in words if word != side)
        keyword = SYNONYMS.get(plain) or plain.title().replace(' ', '')
        for group, category in GROUPS.items():
            if keyword in dir(getattr(codes, group)):
                return getattr(codes.SCT, category), getattr(getattr(codes, group), keyword), SIDES.get(side)
    text = _text(name)
    return codes.SCT.AnatomicalStructure, Code(text, SCHEME, text), None


def _text(name) -> str:
    """A class name as a DICOM long string: at most 64 characters, no backslash."""
    return name.replace('\\', '/')[:64]


def _described(number, name) -> SegmentDescription:
    category, kind, side = concept(name)
    found = SegmentDescription(
        segment_number=number,
        segment_label=_text(name),
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type='AUTOMATIC',
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=NAME, family=codes.DCM.ArtificialIntelligence, version=synseg_jax.__version__
        ),
        display_color=hd.color.CIELabColor.from_rgb(*(round(255 * part) for part in to_rgb(colour(number)))),
    )
    if side is not None:
        modifier = hd.sr.CodedConcept.from_code(side)
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return found


def _frames(labels, headers, files) -> UInt8[np.ndarray, 'n r c']:
    """The labels of every frame of the series in the order of its files, matched by position."""
    into, found = np.linalg.inv(labels.affine), []
    for header, file in zip(headers, files, strict=True):
        if (header.Columns, header.Rows) != labels.array.shape[:2]:
            raise InputError(f'{file}: {header.Columns} x {header.Rows} pixels, its labels {labels.array.shape}')
        for number in range(int(header.get('NumberOfFrames') or 1)):
            placed = (into @ _place(header, number))[:3]
            at = round(placed[2, 2])
            off = np.abs(placed - [[1, 0, 0], [0, 1, 0], [0, 0, at]]).max()
            if off > 0.1 or not 0 <= at < labels.array.shape[2]:
                raise InputError(f'{file}: lies elsewhere than its labels; segment this series itself')
            found.append(labels.array[:, :, at].T)
    return np.stack(found).astype(np.uint8, copy=False)


def _place(header, frame) -> Float[np.ndarray, '4 3']:
    """Matrix from a pixel (column, row, 1) of a frame to RAS mm."""
    position = _said(header, frame, 'PlanePositionSequence', 'ImagePositionPatient')
    along, down = np.reshape(_said(header, frame, 'PlaneOrientationSequence', 'ImageOrientationPatient'), (2, 3))
    row_mm, column_mm = _said(header, frame, 'PixelMeasuresSequence', 'PixelSpacing')
    lps = np.stack([along * column_mm, down * row_mm, position], 1)
    return np.concatenate([np.diag([-1.0, -1.0, 1.0]) @ lps, [[0, 0, 1]]])


def _said(header, frame, sequence, field) -> Float[np.ndarray, ' n']:
    """An attribute of a frame, from its own functional group, the shared one, or the header."""
    groups = [header]
    if 'PerFrameFunctionalGroupsSequence' in header:
        of = header.PerFrameFunctionalGroupsSequence[frame], header.SharedFunctionalGroupsSequence[0]
        groups = [group[sequence][0] for group in of if sequence in group]
    return np.array(groups[0][field].value, float)


def _agreeing(headers, labels) -> list[Dataset]:
    """The headers with one orientation and thickness, as highdicom requires; the last digits may differ in a series."""
    first = headers[0]
    if 'SharedFunctionalGroupsSequence' in first:
        shared, own = first.SharedFunctionalGroupsSequence[0], first.PerFrameFunctionalGroupsSequence[0]
        for sequence in ('PlaneOrientationSequence', 'PixelMeasuresSequence'):
            if sequence not in shared:
                setattr(shared, sequence, own[sequence].value)
        return headers
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient
        header.SliceThickness = header.get('SliceThickness') or labels.spacing_mm[2]
    return headers
