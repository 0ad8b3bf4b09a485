"""NRRD and MetaImage files, read by SimpleITK."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from absl import logging
from jaxtyping import Float, Shaped

from synseg_jax.data.nifti import GZIP_RATIO, MAX_VOXELS
from synseg_jax.errors import InputError

SUFFIXES = ('.nrrd', '.nhdr', '.mha', '.mhd')
HEADER = 2**16  # bytes in which a text header must have said what it says
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK counts to the left and to the back


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Voxels and affine; InputError for what is not 3-D, not of one channel, or not whole."""
    with _reader(path) as reader:
        _check_payload(path, reader)
        image = reader.Execute()
    array = sitk.GetArrayViewFromImage(image).T.copy(order='F')
    return array.reshape(_shape(image), order='F'), affine(image), None


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine of what `read` would return, by the header alone."""
    with _reader(path) as reader:
        return _shape(reader), affine(reader)


@contextmanager
def _reader(path) -> Iterator[sitk.ImageFileReader]:
    """A reader that has seen a believable header; what it refuses is an InputError."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check(path, reader)
        yield reader
    except (RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: damaged or not a scan ({reason(error)}); replace the file') from error


def affine(image: sitk.Image | sitk.ImageFileReader) -> Float[np.ndarray, '4 4']:
    """Voxel index -> RAS mm of an ITK image, or of a reader that has seen its header."""
    dimension = image.GetDimension()
    placed, spacing = np.eye(4), np.asarray(image.GetSpacing())
    placed[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension)) * spacing
    placed[:dimension, 3] = image.GetOrigin()
    return RAS @ placed


def _check(path, reader) -> None:
    """Refuses what the header says before a voxel is read."""
    size, bytes_each = reader.GetSize(), _bytes_each(path, reader)
    if len(size) not in (2, 3) and any(length > 1 for length in size[3:]):
        raise InputError(f'{path}: has {len(size)} dimensions {size}; extract the one 3-D volume that is meant')
    if len(size) > 3:
        raise InputError(f'{path}: has {len(size)} axes, of which one is 1 long; save it with three')
    count = float(np.prod([float(length) for length in size]))
    if min(size) < 1 or count > MAX_VOXELS:
        raise InputError(f'{path}: its header claims {" x ".join(map(str, size))} voxels; replace the file')
    held = _payload(path)[0].stat().st_size
    if count * bytes_each > held * (GZIP_RATIO if _compressed(path) or _worded(path) else 1):
        raise InputError(f'{path}: truncated, its header promises {count * bytes_each:.0f} bytes of voxels; replace it')
    placed = affine(reader)
    if not np.isfinite(placed).all() or abs(np.linalg.det(placed[:3, :3])) < 1e-9:
        raise InputError(f'{path}: its affine is singular or not finite; repair the header')


def _shape(image) -> tuple[int, int, int]:
    return (*image.GetSize(), 1)[:3]


def _bytes_each(path, reader) -> int:
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise InputError(f'{path}: holds {count} numbers per voxel (colour or vectors); convert it to grey values')
    name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r'(8|16|32|64)-bit', name)
    if not bits or 'complex' in name:
        raise InputError(f'{path}: holds {name}, not one intensity per voxel; convert it to a grey-value scan')
    return int(bits[1]) // 8


def _compressed(path) -> bool:
    return _says(path, rb'(encoding:\s*(gz|gzip)|CompressedData\s*=\s*T)')


def _worded(path) -> bool:
    """Whether numbers are written in digits."""
    return _says(path, rb'(encoding:\s*(ascii|text|txt|hex)|BinaryData\s*=\s*F)')


def _payload(path) -> tuple[Path, int]:
    """The file of the voxels and where in it they begin; InputError where a detached header names none beside it."""
    text = _header(path)
    named = re.search(rb'(?im)^(?:data ?file:|ElementDataFile\s*=)\s*([^\r\n]+)\r?\n?', text)
    if not named or named[1].strip().upper() == b'LOCAL':
        end = named or re.search(rb'\n\r?\n', text)
        return path, end.end() if end else 0
    name = named[1].strip().decode('utf-8', 'replace')
    data = path.parent / name
    if Path(name).name != name or not data.is_file():
        raise InputError(f'{path}: its voxels are in {name!r}, which is no file beside it; bring it there')
    return data, 0


def _check_payload(path, reader) -> None:
    """Refuses voxels that are cut short or fail their checksum, which ITK takes without a word."""
    if _worded(path) or _says(path, rb'((byte|line) ?skip:|HeaderSize\s*=)'):
        return  # where they begin and end is left to ITK
    file, begin = _payload(path)
    promised = int(np.prod(reader.GetSize())) * _bytes_each(path, reader)
    packed = file.stat().st_size - begin
    if _says(path, rb'CompressedData\s*=\s*T'):
        stated = re.search(rb'(?m)^CompressedDataSize\s*=\s*(\d+)', _header(path))
        if (int(stated[1]) if stated else packed if file != path else 0) != packed:
            raise InputError(f'{path}: its CompressedDataSize is not that of its packed voxels; replace the file')
    with file.open('rb') as stream:
        stream.seek(begin)
        held = _unpacked(stream, 2 * promised + 2**20) if _compressed(path) else packed
    if held < promised:
        raise InputError(f'{path}: truncated, {held} of {promised} bytes of voxels; replace the file')
    if held > promised:
        logging.warning(
            '%s: more follows the %d bytes of voxels that its header promises; is it right?', path, promised
        )


def _unpacked(stream, most: int) -> int:
    """The bytes that a stream of zlib or gzip unpacks to, counted no further than `most`; zlib.error for damage."""
    unpacking, count = zlib.decompressobj(47), 0
    while not unpacking.eof and count <= most:
        piece = unpacking.unconsumed_tail or stream.read(2**20)
        count += len(unpacking.decompress(piece, 2**22) if piece else unpacking.flush())
        if not piece and not unpacking.eof:
            raise zlib.error('incomplete or truncated stream')
    return count


def _says(path, expression) -> bool:
    return bool(re.search(rb'(?im)^' + expression, _header(path)))


def _header(path) -> bytes:
    with path.open('rb') as file:
        return file.read(HEADER)


def reason(error) -> str:
    """The last line of a message of ITK or pydicom, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r'^.*\(0x[0-9a-f]+\):\s*', '', lines[-1]) if lines else 'no reason given'
