"""Synthetic scans as series of CT or MR images, one file for each slice, in the study of the series they were made of.

Written are the modules that DICOM PS3.3 A.3 (CT) and A.4 (MR) require, with all attributes of types 1 and 2.  Every
slice keeps the position, orientation and spacing of its source, so that a tilted gantry stays one.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

import synseg_jax
from synseg_jax.dicom import study
from synseg_jax.dicom.frames import Slice
from synseg_jax.dicom.pixels import guarded
from synseg_jax.dicom.study import NAME
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_folder

SERIES_NUMBER = 1002
KEPT = (  # of the source: how the patient lay, which planning systems need, and that its pixels are not those measured
    'PatientPosition LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod'
).split()
LEVELS = 2**15 - 1  # of intensities that are no whole numbers
KINDS = {  # by modality: the SOP class, and attributes of its image module; None where type 2 leaves them empty
    'CT': (
        CTImageStorage,
        {
            'ImageType': ['DERIVED', 'SECONDARY', 'AXIAL'],
            **dict.fromkeys('KVP AcquisitionNumber'.split()),
            **{'RescaleSlope': 1, 'RescaleIntercept': 0, 'RescaleType': 'HU'},
        },
    ),
    'MR': (
        MRImageStorage,
        {
            'ImageType': ['DERIVED', 'SECONDARY', 'OTHER'],
            'ScanningSequence': 'RM',  # research mode: none of the others made it
            'SequenceVariant': 'NONE',
            **dict.fromkeys('ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength'.split()),
        },
    ),
}


def check(modality: str, channel: str) -> None:
    """InputError unless a series can be written of a modality, that of `channel`."""
    if modality not in KINDS:
        raise InputError(f'--format=dicom writes {" and ".join(KINDS)}, not {channel}; use --format=scans')


def write(
    folder: Path, array: Shaped[np.ndarray, 'x y z'], frames: Sequence[Slice], modality: str, model: str = '0'
) -> None:
    """Write a synthetic scan, on the slices `frames` of its source, as 0001.dcm and so on in `folder`, atomically.

    `frames` are in the order of the third axis of `array`.  Whole numbers of 16 bits, HU of a CT, are stored as they
    are, others in LEVELS steps of RescaleSlope.  `model` identifies the weights.  InputError for a series that lacks an
    attribute to refer to.
    """
    if array.shape != (*frames[0].shape[::-1], len(frames)):
        raise ValueError(f'an array of shape {array.shape} does not fit {len(frames)} slices of {frames[0].shape}')
    with guarded(frames[0].file):  # of odd but harmless values of its study pydicom warns
        images = list(_images(array, frames, modality, model))
    with atomic_folder(folder) as temporary:
        for image in images:
            image.save_as(temporary / f'{image.InstanceNumber:04d}.dcm', enforce_file_format=True)


def _images(array, frames, modality, model) -> Iterator[Dataset]:
    files = dict.fromkeys(frame.file for frame in frames)
    headers = {file: study.header(file, 'a synthetic series', KEPT) for file in files}
    first, (sop_class, own) = headers[frames[0].file], KINDS[modality]
    stored, scale = _stored(array)
    common = {**_series(first, frames, modality, model), **own, **_shown(array), **scale}
    for k, (frame, source) in enumerate(zip(frames, study.references(frames, headers), strict=True)):
        image = study.new_object(first, sop_class, ExplicitVRLittleEndian, model, **common, **_placed(frame))
        image.InstanceNumber, image.SourceImageSequence = k + 1, [source]
        pixels = np.ascontiguousarray(stored[:, :, k].T)
        image.set_pixel_data(pixels, 'MONOCHROME2', bits_stored=16, generate_instance_uid=False)
        yield image


def _series(first, frames, modality, model) -> dict[str, object]:
    """What all images of the series have in common."""
    now, distance = datetime.now(), _distance_mm(frames)
    return {
        **{'PatientPosition': None, 'Laterality': None},
        **{tag: first[tag].value for tag in KEPT if tag in first},
        'Modality': modality,
        'SeriesInstanceUID': generate_uid(),
        'SeriesNumber': SERIES_NUMBER,
        'SeriesDescription': f'synthetic {modality}, {NAME} {model}'[:64],
        'SyntheticData': 'YES',
        'DerivationDescription': (
            f'{modality} made of {frames[0].modality or "a scan"} by {NAME} {synseg_jax.__version__}, networks {model}'
        ),
        'ContentDate': now.strftime('%Y%m%d'),
        'ContentTime': now.strftime('%H%M%S'),
        'SliceThickness': _decimal(frames[0].thickness or distance),
        'SpacingBetweenSlices': _decimal(distance),
    }


def _distance_mm(frames) -> float:
    """Between slices, along their normal; of one slice what its header says, or 1 mm as its volume has."""
    way = (frames[-1].origin - frames[0].origin) @ frames[0].normal
    return float(way) / (len(frames) - 1) if len(frames) > 1 else frames[0].distance or 1.0


def _placed(frame) -> dict[str, object]:
    """The geometry of a slice."""
    return {
        'ImagePositionPatient': [_decimal(x) for x in frame.origin],
        'ImageOrientationPatient': [_decimal(x) for x in (*frame.rows, *frame.columns)],
        'PixelSpacing': [_decimal(mm) for mm in frame.spacing],
    }


def _stored(array) -> tuple[Shaped[np.ndarray, 'x y z'], Mapping[str, str]]:
    """An array in int16, and the attributes of its scale where its values are others."""
    if array.dtype == np.int16:
        return array, {}
    low, high = float(array.min()), float(array.max())
    slope, intercept = _decimal((high - low) / LEVELS or 1.0), _decimal(low)
    levels = np.rint((array - float(intercept)) / float(slope)).astype(np.int16)
    return levels, {'RescaleSlope': slope, 'RescaleIntercept': intercept, 'RescaleType': 'US'}  # unspecified


def _shown(array) -> Mapping[str, str]:
    """The window from the darkest to the brightest voxel, the same in all slices."""
    low, high = float(array.min()), float(array.max())
    return {'WindowCenter': _decimal((low + high) / 2), 'WindowWidth': _decimal(max(high - low, 1.0))}


def _decimal(number) -> str:
    """A decimal string, of which DICOM lets 16 characters be."""
    return format_number_as_ds(float(number))
