"""The stored pixels of one DICOM file: plain ones and run lengths read by pydicom, other codecs by SimpleITK."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from absl import logging
from jaxtyping import Real
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from synseg_jax.errors import InputError

RLE_RATIO = 64  # two bytes make 128 at most
BEHIND = (0x7FE1, 0xFFFA, 0xFFFC)  # groups of what may rightly follow the pixels: private, signatures, padding


def read(file: Path) -> Real[np.ndarray, 'frames rows columns']:
    """The stored values of every frame, before rescaling; InputError where the file is damaged."""
    with guarded(file):
        found = pydicom.dcmread(file, force=True)
        syntax = getattr(found.file_meta, 'TransferSyntaxUID', None)
        if syntax is None:
            found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        elif syntax == RLELossless:
            _check_claim(file, found)
        elif syntax.is_compressed:
            return _decoded(file, found)
        elif not syntax.is_deflated:
            _check_rest(file, found)
        stored = found.pixel_array
        return stored.reshape(-1, *stored.shape[-2:])


@contextmanager
def guarded(file: Path) -> Iterator[None]:
    """Makes an InputError of whatever pydicom's parsing meets, and lets pass in silence what is odd and harmless."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f'{file}: damaged or no DICOM ({error}); replace the file') from error


def _promised(found) -> int:
    """Bytes of unpacked pixels by the header."""
    return found.Rows * found.Columns * int(found.get('NumberOfFrames') or 1) * found.BitsAllocated // 8


def _check_claim(file, found) -> None:
    """Refuses what run lengths of this file's size cannot hold."""
    if _promised(found) > RLE_RATIO * file.stat().st_size:
        raise InputError(f'{file}: truncated, its header promises {_promised(found)} bytes of pixels; replace the file')


def _check_rest(file, found) -> None:
    """Says where more lies behind the pixels than the header promises: a wrong size, or bytes that have moved."""
    pixels = found.get_item('PixelData')
    if pixels is None or any(tag.group in BEHIND for tag in found.keys()):
        return
    promised = _promised(found)
    if file.stat().st_size > pixels.value_tell + promised + promised % 2:
        logging.warning(
            '%s: more follows the %d bytes of pixels that its header promises; is it right?', file, promised
        )


def _decoded(file, found):
    """The stored values by SimpleITK, which knows every codec and rescales by itself, which is undone."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    slope, intercept = found.get('RescaleSlope'), found.get('RescaleIntercept')
    if slope is None and 'PerFrameFunctionalGroupsSequence' in found:
        raise InputError(f'{file}: compressed and of several frames; decompress it first (gdcmconv --raw)')
    slope, intercept = 1.0 if slope is None else float(slope), float(intercept or 0.0)
    return (array - intercept) / slope if (slope, intercept) != (1.0, 0.0) else array
