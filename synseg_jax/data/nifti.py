"""NIfTI-1 and NIfTI-2 files, never reading more than their headers claim nor believing what they cannot hold."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
from absl import logging
from jaxtyping import Float, Shaped

from synseg_jax.errors import InputError

MAX_VOXELS = 2**30  # a whole-body CT of 512 x 512 x 4096; more is a broken header
MAX_OFFSET = 2**26  # bytes of header extensions in front of the voxels
UNITS_MM = {1: 1e3, 3: 1e-3}  # metres and micrometres, by the header's code; everything else is taken for mm
GZIP_RATIO = 1100  # deflate cannot do better than 1032:1, so a larger claim is a truncated file


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], nib.Nifti1Header]:
    """Voxels times slope plus intercept, affine and header; InputError for a file that is none."""
    with _opened(path) as (stream, header, claim):
        stream.seek(_offset(header))
        voxels = _bytes(path, stream, claim)
        _check_rest(path, stream, claim)
    raw = voxels.view(header.get_data_dtype()).reshape(header.get_data_shape(), order='F')
    return _scaled(raw.reshape(_shape(header), order='F'), header), _affine(path, header), header


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine of what `read` would return, by the header alone."""
    with _opened(path) as (_, header, _):
        return _shape(header), _affine(path, header)


@contextmanager
def _opened(path) -> Iterator[tuple[IO[bytes], nib.Nifti1Header, int]]:
    """The unpacked stream, its header, and the number of bytes that the voxels take, which the file may well hold."""
    size = path.stat().st_size
    zipped = path.name.lower().endswith('.gz')
    if size == 0:
        raise InputError(f'{path}: the file is empty; replace it')
    with path.open('rb') as file:
        if (file.read(2) == b'\x1f\x8b') != zipped:
            raise InputError(f'{path}: {"not gzip" if zipped else "gzip"}, whatever its name says; rename the file')
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if zipped else file as stream:
            header = _header(path, stream)
            claim = int(np.prod(header.get_data_shape())) * header.get_data_dtype().itemsize
            if claim + _offset(header) > size * (GZIP_RATIO if zipped else 1):
                raise InputError(f'{path}: truncated, its header promises {claim} bytes of voxels; replace the file')
            yield stream, header, claim


def _offset(header) -> int:
    return int(header.get_data_offset()) or 352


def _shape(header) -> tuple[int, int, int]:
    return (*header.get_data_shape(), 1, 1)[:3]


def _header(path, stream):
    """The header, once its claims are believable."""
    block = stream.read(348)
    lengths = {int.from_bytes(block[:4], order) for order in ('little', 'big')}
    if len(block) < 348 or not lengths & {348, 540}:
        raise InputError(f'{path}: not a NIfTI file; replace it')
    header = nib.Nifti2Header(block + stream.read(540 - 348)) if 540 in lengths else nib.Nifti1Header(block)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if dtype.fields or dtype.kind not in 'iuf':
        kind = 'colour (RGB)' if dtype.fields else f'{dtype} numbers'
        raise InputError(f'{path}: holds {kind}, not one intensity per voxel; convert it to a grey-value scan')
    if len(shape) < 2 or any(length > 1 for length in shape[3:]):
        raise InputError(f'{path}: has {len(shape)} dimensions {shape}; extract the one 3-D volume that is meant')
    if min(shape) < 1 or np.prod([float(length) for length in shape]) > MAX_VOXELS:
        raise InputError(f'{path}: its header claims {" x ".join(map(str, shape))} voxels; replace the file')
    if not 0 <= float(header['vox_offset']) <= MAX_OFFSET:
        raise InputError(f'{path}: its header puts the voxels at byte {header["vox_offset"]}; replace the file')
    return header


def _bytes(path, stream, count):
    """Exactly `count` bytes of the stream."""
    buffer = np.empty(count, np.uint8)
    view, filled = memoryview(buffer), 0
    while filled < count:
        piece = stream.read(min(count - filled, 2**22))
        if not piece:
            raise InputError(f'{path}: truncated, {filled} of {count} bytes of voxels; replace the file')
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    return buffer


def _check_rest(path, stream, claim) -> None:
    """Reads to the end, where gzip verifies its checksum, but no further than a header can be wrong by."""
    rest = 0
    try:
        while rest <= max(claim, 2**20) and (piece := stream.read(2**16)):
            rest += len(piece)
    except gzip.BadGzipFile as error:
        if 'Not a gzipped' not in str(error):  # bytes after the end of a sound stream do no harm
            raise
    if rest:
        logging.warning('%s: more follows the %d bytes of voxels that its header promises; is it right?', path, claim)


def _affine(path, header):
    """The header's affine in mm: sform before qform, as everybody does, saying so where they disagree or lack."""
    unit = UNITS_MM.get(int(header['xyzt_units']) & 7, 1.0)
    affine = np.asarray(header.get_best_affine(), np.float64)
    affine[:3] *= unit
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f'{path}: its affine is singular or not finite; repair the header')
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        logging.warning('%s: has neither sform nor qform, so left and right are a guess; repair the header', path)
    elif sform is not None and qform is not None:
        gap = np.abs(sform - qform).max() * unit
        if gap > 0.01 * np.linalg.norm(affine[:3, :3], axis=0).min():
            logging.warning('%s: sform and qform disagree by up to %.3g mm; the sform is used', path, gap)
    return affine


def _scaled(raw, header):
    """Voxels times slope plus intercept, in float32 where that is exact enough; unscaled ones as they are."""
    slope, inter = header.get_slope_inter()
    slope, inter = 1.0 if slope is None else slope, 0.0 if inter is None else inter
    native = raw.astype(raw.dtype.newbyteorder('='), copy=False)
    if (slope, inter) == (1.0, 0.0):
        return native
    scaled = native.astype(np.float32 if raw.dtype.itemsize <= 2 else np.float64)
    scaled *= slope
    scaled += inter
    return scaled
