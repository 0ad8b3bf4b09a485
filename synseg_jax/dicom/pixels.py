"""Stored pixels of a DICOM file: uncompressed and RLE by pydicom, other transfer syntaxes by SimpleITK."""

import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from jaxtyping import Real
from pydicom import encaps
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from synseg_jax.errors import InputError, shortened, warn
from synseg_jax.files.capture_warnings import capture_warnings

RLE_RATIO = 64  # two bytes encode at most 128
PIECE = b'\xfe\xff\x00\xe0'  # item tag that starts each fragment of encapsulated pixels
PADDED = 'non-conformant padding'  # pydicom's warning for RLE data with too many pixels
PIXELS = (  # attributes that a decoder needs
    'SOPClassUID Rows Columns SamplesPerPixel BitsAllocated BitsStored HighBit PixelRepresentation'
).split()
CODECS = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000, JPEG2000Lossless)  # that SimpleITK decodes
UNDEFINED = 2**32 - 1  # length field of an element of undefined length
PREAMBLE, GROUP_LENGTH = 132, 12  # bytes before the file meta information, and of its group length element
BEHIND = (0x7FE1, 0xFFFA, 0xFFFC)  # groups that may follow the pixels: private, signatures, padding


def read(file: Path) -> Real[np.ndarray, 'frames rows columns']:
    """Stored values of all frames, before rescaling; InputError if the file is damaged."""
    with guarded(file) as said:
        found = pydicom.dcmread(file, force=True)
        syntax = _syntax(file, found)
        if syntax.is_encapsulated:
            _check_pieces(file, found)
            if syntax != RLELossless:
                _require_decoder(file, syntax)
                return _significant(found, _decoded(found))
            _check_claim(file, found)
        else:
            _check_rest(file, found, _inflated(file, found) if syntax.is_deflated else file.stat().st_size)
        stored = found.pixel_array
        if odd := [line for line in said if PADDED in line]:
            warn('%s: %s; are its pixels right?', file, odd[0])
        return _significant(found, stored.reshape(-1, *stored.shape[-2:]))


@contextmanager
def guarded(file: Path) -> Iterator[list[str]]:
    """Turns any exception of pydicom into an InputError; yields its log messages, and silences its warnings."""
    with warnings.catch_warnings(), capture_warnings('pydicom') as said:
        warnings.simplefilter('ignore')
        try:
            yield said
        except InputError:
            raise
        except MemoryError as error:
            raise InputError(f'{file}: takes more memory than there is; read it on a larger machine') from error
        except Exception as error:  # pydicom raises whatever its parsing meets
            if isinstance(error, OSError) and error.errno:  # the disk's, not the content's
                raise InputError(
                    f'{file}: cannot be read ({error.strerror}); check the disk and permissions'
                ) from error
            raise InputError(f'{file}: damaged or no DICOM ({reason(error)}); replace the file') from error


def _syntax(file, found) -> UID:
    """The transfer syntax; implicit little endian for data sets without file meta information."""
    if 'TransferSyntaxUID' in found.file_meta:
        return found.file_meta.TransferSyntaxUID
    pixels = found.get_item('PixelData')
    if len(found.file_meta) or found.preamble or pixels is not None and pixels.length == UNDEFINED:
        raise InputError(f'{file}: damaged, its TransferSyntaxUID is missing; replace the file')
    found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return found.file_meta.TransferSyntaxUID


def _require_decoder(file, syntax) -> None:
    if syntax not in CODECS:
        raise InputError(
            f'{file}: its pixels are packed as {syntax.name}, which is not decoded here; store the series '
            'uncompressed, e.g. with gdcmconv --raw'
        )


def _significant(found, stored) -> Real[np.ndarray, 'frames rows columns']:
    """Values of the lowest BitsStored bits, sign-extended; higher bits may hold overlays."""
    if stored.dtype.kind == 'f':
        return stored
    if not 0 < found.BitsStored <= found.BitsAllocated:
        raise ValueError(f'{found.BitsStored} bits stored in {found.BitsAllocated}')
    signed = stored.astype(f'{"i" if found.PixelRepresentation else "u"}{stored.itemsize}', copy=False)
    unused = max(8 * stored.itemsize - found.BitsStored, 0)
    return signed << unused >> unused if unused else signed


def reason(error: Exception) -> str:
    """The last line of an error message of ITK or pydicom, which is the informative one, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(re.sub(r'^.*\(0x[0-9a-f]+\):\s*', '', lines[-1]), 200) if lines else 'no reason given'


def _promised(found) -> int:
    """Bytes of uncompressed pixels according to the header."""
    return found.Rows * found.Columns * int(found.get('NumberOfFrames') or 1) * found.BitsAllocated // 8


def _check_pieces(file, found) -> None:
    """InputError if the fragments of encapsulated pixels do not fill their element: lost or inserted bytes."""
    packed, at = found.PixelData, 0
    while packed[at : at + 4] == PIECE and at + 8 <= len(packed):
        at += 8 + int.from_bytes(packed[at + 4 : at + 8], 'little')
    if at != len(packed):
        raise InputError(f'{file}: damaged, fragments of its compressed pixels do not fit; replace the file')


def _check_claim(file, found) -> None:
    """InputError if RLE data of this size cannot hold the pixels."""
    if _promised(found) > RLE_RATIO * file.stat().st_size:
        raise InputError(f'{file}: truncated, its header promises {_promised(found)} bytes of pixels; replace the file')


def _inflated(file, found) -> int:
    """Uncompressed size of a deflated data set; InputError if its stream does not end with the file."""
    begin = (PREAMBLE if found.preamble else 0) + GROUP_LENGTH + found.file_meta.FileMetaInformationGroupLength
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    length = len(stream.decompress(file.read_bytes()[begin:]))
    if not stream.eof or len(stream.unused_data) > 1:  # padding to even length
        raise InputError(f'{file}: damaged, its deflated data do not end with the file; replace the file')
    return length


def _check_rest(file, found, size) -> None:
    """Warns of more bytes of pixels than the header implies: wrong Rows or Columns, or shifted bytes.

    `size` is that of the file, or of the inflated data set, in bytes.
    """
    pixels = found.get_item('PixelData')
    if pixels is None or any(tag.group in BEHIND for tag in found.keys()):
        return
    promised = _promised(found)
    if size > pixels.value_tell + promised + promised % 2:
        warn('%s: more follows the %d bytes of pixels that its header promises; is it right?', file, promised)


def _decoded(found) -> Real[np.ndarray, 'frames rows columns']:
    """Compressed frames decoded by SimpleITK one by one, without the attributes by which it rescales or inverts."""
    frames = encaps.generate_frames(found.PixelData, number_of_frames=int(found.get('NumberOfFrames') or 1))
    with tempfile.TemporaryDirectory() as folder:
        return np.concatenate([_frame(found, packed, Path(folder) / 'frame.dcm') for packed in frames])


def _frame(found, packed, path) -> Real[np.ndarray, '1 rows columns']:
    one = pydicom.Dataset()
    for tag in PIXELS:
        setattr(one, tag, found.get(tag))
    one.PhotometricInterpretation = 'MONOCHROME2'  # SimpleITK inverts MONOCHROME1
    one.PixelData = encaps.encapsulate([packed])
    one['PixelData'].VR = 'OB'
    one.SOPInstanceUID, one.file_meta = UID('1.2.3'), FileMetaDataset()
    one.file_meta.TransferSyntaxUID = found.file_meta.TransferSyntaxUID
    one.save_as(path, enforce_file_format=True)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
