"""NIfTI-1 and NIfTI-2 files, read with guards against damaged headers."""

import gzip
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from synseg_jax.errors import InputError, warn
from synseg_jax.imaging.arrays import Float, Shaped
from synseg_jax.imaging.voxel_bytes import GZIP_RATIO, check_trailing, expected_bytes, read_exactly

MAX_OFFSET = 2**26  # bytes of header and extensions before the voxels
UNITS_MM = {1: 1e3, 3: 1e-3}  # codes of metres and micrometres; everything else counts as mm
TOLERANCE = 0.1  # of a voxel's shortest side: distance of a grid corner by sform and by qform
MAX_LENGTH_1 = 2**15 - 1  # voxels along an axis in NIfTI-1


def read(path: Path) -> tuple[Shaped[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], nib.Nifti1Header]:
    """Voxels (slope and intercept applied), affine and header; raises InputError for other and damaged files."""
    with _opened(path) as (stream, header, count):
        stream.seek(_offset(header))
        voxels = read_exactly(path, stream, count, header.get_data_dtype().itemsize)
        check_trailing(path, stream, count)
    raw = voxels.view(header.get_data_dtype()).reshape(header.get_data_shape(), order='F')
    return _scaled(raw.reshape(_shape(header), order='F'), header), _affine(path, header), header


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine as `read` returns them, from the header alone."""
    with _opened(path) as (_, header, _):
        return _shape(header), _affine(path, header)


@contextmanager
def _opened(path) -> Iterator[tuple[IO[bytes], nib.Nifti1Header, int]]:
    """The decompressed stream, its header, and the number of bytes of voxels."""
    size = path.stat().st_size
    gzipped = path.name.lower().endswith('.gz')
    if size == 0:
        raise InputError(f'{path}: the file is empty; replace it')
    with path.open('rb') as file:
        if (file.read(2) == b'\x1f\x8b') != gzipped:
            raise InputError(f'{path}: {"not gzip" if gzipped else "gzip"}, despite its name; rename the file')
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if gzipped else file as stream:
            header = _header(path, stream)
            limit = size * (GZIP_RATIO if gzipped else 1) - _offset(header)
            yield stream, header, expected_bytes(path, header.get_data_shape(), header.get_data_dtype().itemsize, limit)


def _offset(header) -> int:
    return int(header.get_data_offset()) or 352


def _shape(header) -> tuple[int, int, int]:
    return (*header.get_data_shape(), 1, 1)[:3]


def _header(path, stream):
    """The header; raises InputError unless it describes one 3-D volume of numbers."""
    block = stream.read(348)
    orders = {int.from_bytes(block[:4], order): order for order in ('little', 'big')}
    if len(block) < 348 or not orders.keys() & {348, 540}:
        raise InputError(f'{path}: not a NIfTI file; replace it')
    kind, length = (nib.Nifti2Header, 540) if 540 in orders else (nib.Nifti1Header, 348)
    block += stream.read(length - 348)
    if len(block) < length:
        raise InputError(f'{path}: truncated in its header; replace the file')
    header = _parsed(path, kind, block, orders[length])
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if dtype.fields or dtype.kind not in 'iuf':
        pixels = 'colour (RGB)' if dtype.fields else f'{dtype} numbers'
        raise InputError(f'{path}: holds {pixels}, not one intensity per voxel; convert it to a grey-value scan')
    if len(shape) < 2 or any(length > 1 for length in shape[3:]):
        raise InputError(f'{path}: has {len(shape)} dimensions {shape}; extract one 3-D volume')
    return header


def _parsed(path, kind, block, order):
    """The header by nibabel, after checking the fields that nibabel does not: vox_offset and dim[0]."""
    fields = np.frombuffer(block, kind.template_dtype.newbyteorder(order))[0]
    if not 0 <= fields['vox_offset'] <= MAX_OFFSET:  # nor if it is NaN
        raise InputError(f'{path}: its header puts the voxels at byte {fields["vox_offset"]}; replace the file')
    if not 1 <= fields['dim'][0] <= 7:
        raise InputError(f'{path}: its header claims {fields["dim"][0]} dimensions; replace the file')
    try:
        return kind(block, endianness={'little': '<', 'big': '>'}[order])
    except (HeaderDataError, WrapStructError, ValueError, OverflowError) as error:
        raise InputError(f'{path}: its header is damaged ({error}); replace the file') from error


def _affine(path, header):
    """The affine in mm: the sform if there is one, else the qform; warns if they disagree or both are missing."""
    unit, qform = UNITS_MM.get(int(header['xyzt_units']) & 7, 1.0), _qform(header)
    sform = header.get_sform(coded=True)[0]
    if sform is None and header['qform_code'] > 0 and qform is None:
        raise InputError(f'{path}: its qform is not a rotation, and it has no sform; repair the header')
    affine = np.asarray(header.get_base_affine() if qform is None else qform, np.float64)
    affine = (affine if sform is None else np.asarray(sform, np.float64)) * [[unit], [unit], [unit], [1]]
    if sform is None and qform is None:
        warn('%s: has neither sform nor qform, so left and right are a guess; repair the header', path)
    elif header['qform_code'] > 0 and qform is None:
        warn('%s: its qform is not a rotation; the sform is used', path)
    elif sform is not None and qform is not None:
        if (distance := _distance(sform, qform, _shape(header))) > TOLERANCE * _shortest(sform):
            warn('%s: sform and qform disagree by up to %.3g mm; the sform is used', path, distance * unit)
    return affine


def _qform(header) -> Float[np.ndarray, '4 4'] | None:
    """The affine of the qform; None if it is not set or not a rotation."""
    try:
        with np.errstate(all='ignore'):
            qform = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        return None
    return qform if qform is not None and np.isfinite(qform).all() else None


def _distance(first, second, shape) -> float:
    """The largest distance between the positions of a grid corner by two affines, in their unit."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in shape)), (0, 0, 0)])
    shifts = corners @ (first - second)[:3, :3].T + (first - second)[:3, 3]
    return float(np.linalg.norm(shifts, axis=1).max())


def _shortest(affine) -> float:
    return float(np.linalg.norm(affine[:3, :3], axis=0).min())


def is_sheared(affine: Float[np.ndarray, '4 4'], shape: tuple[int, ...]) -> bool:
    """Whether a qform (rotation and spacing) misplaces a corner of the grid by more than TOLERANCE."""
    header = nib.Nifti1Header()
    header.set_qform(affine, strip_shears=True)
    return _distance(affine, header.get_qform(), shape) > TOLERANCE * _shortest(affine)


def image(
    array: Shaped[np.ndarray, 'x y z'],
    affine: Float[np.ndarray, '4 4'],
    like: nib.Nifti1Header | None = None,
    intent: str = 'none',
) -> nib.Nifti1Image:
    """A NIfTI image of `array` with the sform, qform and units of the header `like`, or without one `affine` in mm.

    Sheared grids (gantry tilt) get no qform, which cannot represent shear.
    """
    version_2 = isinstance(like, nib.Nifti2Header) or max(array.shape) > MAX_LENGTH_1
    header = (nib.Nifti2Header if version_2 else nib.Nifti1Header)()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_intent(intent, allow_unknown=True)
    if like is None:
        header.set_xyzt_units('mm')
        header.set_sform(affine, code='scanner')
        header.set_qform(affine, code='scanner', strip_shears=True)
    else:
        _copy_grid(header, like)
    if is_sheared(affine, array.shape):
        header['qform_code'] = 0
    return (nib.Nifti2Image if version_2 else nib.Nifti1Image)(array, header.get_best_affine(), header)


def _copy_grid(header, like) -> None:
    """Copy the fields of sform, qform and units; a qform that is not a rotation is replaced by that of the sform."""
    fields = 'qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z'
    for name in (*fields.split(), 'srow_x', 'srow_y', 'srow_z', 'xyzt_units', 'dim_info'):
        header[name] = like[name]
    header['pixdim'][:4] = like['pixdim'][:4]
    if like['qform_code'] > 0 and _qform(like) is None:
        header.set_qform(like.get_sform(), code=int(like['qform_code']), strip_shears=True)


def _scaled(raw, header):
    """Voxels times slope plus intercept, as float32 (float64 for types wider than 16 bits); unscaled ones unchanged."""
    slope, inter = header.get_slope_inter()
    slope, inter = 1.0 if slope is None else slope, 0.0 if inter is None else inter
    native = raw.astype(raw.dtype.newbyteorder('='), copy=False)
    if (slope, inter) == (1.0, 0.0):
        return native
    scaled = native.astype(np.float32 if raw.dtype.itemsize <= 2 else np.float64)
    scaled *= slope
    scaled += inter
    return scaled
