"""Scans on disk and in memory: an array with the affine that places it in the patient.

This is the only file that opens scans; a further format is one more entry in `READERS`.
"""

import gzip
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from absl import logging
from jaxtyping import Float, Integer, Shaped
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from synseg_jax.errors import InputError

MAX_VOXELS = 2**30  # a whole-body CT of 512 x 512 x 4096; more is a broken header
MAX_OFFSET = 2**26  # bytes of header extensions in front of the voxels
GZIP_RATIO = 1100  # deflate cannot do better than 1032:1, so a larger claim is a truncated file
LPS = axcodes2ornt(('L', 'P', 'S'))


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: voxels, where they lie (voxel index -> RAS mm, 4x4 float64), and the NIfTI header they came with."""

    array: Shaped[np.ndarray, 'x y z']
    affine: Float[np.ndarray, '4 4']
    header: nib.Nifti1Header | None = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along each array axis."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))


def read(path: str | os.PathLike) -> Volume:
    """The scan with its stored axes: float32, scaled by the header's slope and intercept.

    Raises InputError for files that are missing, damaged, not 3-D or not finite.
    """
    raw, affine, header = _open(path)
    array = _scaled(raw, header).astype(np.float32, copy=False)
    _require_finite(path, array)
    return Volume(array, affine, header)


def read_labels(path: str | os.PathLike) -> Volume:
    """The label map with its stored axes, in the smallest unsigned integer type that holds it.

    Values within 1e-3 of a whole number are snapped to it; others and negative ones raise InputError.
    """
    raw, affine, header = _open(path)
    array = _whole(path, _scaled(raw, header))
    if array.min() < 0:
        raise InputError(f'{path}: labels are negative (lowest {array.min()}); number them from 0')
    return Volume(array.astype(np.min_scalar_type(array.max())), affine, header)


def canonical(volume: Volume) -> Volume:
    """The same voxels with axes right->left, anterior->posterior, inferior->superior; nothing is resampled."""
    order = ornt_transform(io_orientation(volume.affine), LPS)
    affine = volume.affine @ inv_ornt_aff(order, volume.array.shape)
    return Volume(apply_orientation(volume.array, order), affine)


def restore(array: Shaped[np.ndarray, 'x y z *channels'], like: Volume) -> Shaped[np.ndarray, 'i j k *channels']:
    """`array`, given in the canonical axes of `like`, in the stored axes of `like`."""
    restored = apply_orientation(array, ornt_transform(LPS, io_orientation(like.affine)))
    if restored.shape[:3] != like.array.shape:
        raise ValueError(f'an array of shape {array.shape} does not restore to {like.array.shape}')
    return restored


def write(path: str | os.PathLike, array: Shaped[np.ndarray, 'x y z'], like: Volume, intent: str = 'none') -> None:
    """Writes NIfTI with the grid of `like`: its affine, sform and qform codes and units, in the array's own dtype.

    Free text and extensions of the header are left out: they may name the patient.  The file appears
    whole or not at all.  `intent` is NIfTI's, e.g. 'label'.
    """
    path = Path(path)
    if not path.name.endswith(('.nii', '.nii.gz')):
        raise InputError(f'{path}: scans are written as .nii or .nii.gz')
    if array.shape != like.array.shape:
        raise ValueError(f'an array of shape {array.shape} does not fit the grid {like.array.shape} of {path.name}')
    stored = array.astype(np.uint8) if array.dtype == bool else array
    content = _image(stored, like, intent).to_bytes()
    if path.name.endswith('.gz'):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _image(array, like, intent):
    """The NIfTI image of `array` on the grid of `like`."""
    version_2 = isinstance(like.header, nib.Nifti2Header)
    header = (nib.Nifti2Header if version_2 else nib.Nifti1Header)()
    if like.header is None:
        header.set_xyzt_units('mm')
        header.set_data_shape(array.shape)
        header.set_sform(like.affine, code='scanner')
        header.set_qform(like.affine, code='scanner', strip_shears=True)
    else:
        copied = 'qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z'
        for name in (*copied.split(), 'srow_x', 'srow_y', 'srow_z', 'xyzt_units', 'pixdim', 'dim_info'):
            header[name] = like.header[name]
        header['pixdim'][4:] = 1
        header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_intent(intent, allow_unknown=True)
    return (nib.Nifti2Image if version_2 else nib.Nifti1Image)(array, header.get_best_affine(), header)


def _open(path):
    """(raw voxels, affine, header) by whichever reader knows the suffix; InputError for whatever is wrong with it."""
    path = Path(path)
    reader = next((READERS[suffix] for suffix in READERS if path.name.lower().endswith(suffix)), None)
    if reader is None:
        raise InputError(f'{path}: unknown kind of scan; known: {", ".join(sorted(READERS))}')
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    try:
        return reader(path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f'{path}: may not be read; check its permissions') from error
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError, MemoryError) as error:
        raise InputError(f'{path}: damaged or not a scan ({error}); replace the file') from error


def _read_nifti(path):
    """Raw voxels, affine and header of a NIfTI-1 or NIfTI-2 file, never reading more than its header claims."""
    size = path.stat().st_size
    zipped = path.name.lower().endswith('.gz')
    if size == 0:
        raise InputError(f'{path}: the file is empty; replace it')
    with path.open('rb') as file:
        if (file.read(2) == b'\x1f\x8b') != zipped:
            raise InputError(f'{path}: {"not gzip" if zipped else "gzip"}, whatever its name says; rename the file')
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if zipped else file as stream:
            header = _nifti_header(path, stream)
            claim = int(np.prod(header.get_data_shape())) * header.get_data_dtype().itemsize
            offset = int(header.get_data_offset()) or 352
            if claim + offset > size * (GZIP_RATIO if zipped else 1):
                raise InputError(f'{path}: truncated, its header promises {claim} bytes of voxels; replace the file')
            stream.seek(offset)
            voxels = _bytes(path, stream, claim)
    raw = voxels.view(header.get_data_dtype()).reshape(header.get_data_shape(), order='F')
    return raw.reshape((*raw.shape, 1, 1)[:3], order='F'), _affine(path, header), header


def _nifti_header(path, stream):
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
    """Exactly `count` bytes of the stream, whose checksum is verified where the voxels end the stream."""
    buffer = np.empty(count, np.uint8)
    view, filled = memoryview(buffer), 0
    while filled < count:
        piece = stream.read(min(count - filled, 2**22))
        if not piece:
            raise InputError(f'{path}: truncated, {filled} of {count} bytes of voxels; replace the file')
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    try:
        stream.read(1)
    except gzip.BadGzipFile as error:
        if 'Not a gzipped' not in str(error):  # bytes after the end of a sound stream do no harm
            raise
    return buffer


def _affine(path, header):
    """The header's affine: sform before qform, as everybody does, saying so where the two disagree."""
    affine = np.asarray(header.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f'{path}: its affine is singular or not finite; repair the header')
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is not None and qform is not None:
        gap = np.abs(sform - qform).max()
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


def _require_finite(path, array):
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f'{path}: {count} voxels are NaN or infinite; replace them by the background value')


def _whole(path, array: np.ndarray) -> Integer[np.ndarray, '...']:
    if array.dtype.kind in 'iu':
        return array
    _require_finite(path, array)
    whole = np.rint(array)
    off = np.abs(array - whole)
    if off.max() > 1e-3:
        raise InputError(f'{path}: labels must be whole numbers, found {array.flat[off.argmax()]:g}; was it resampled?')
    return whole.astype(np.int64)


READERS: dict[str, Callable] = {'.nii': _read_nifti, '.nii.gz': _read_nifti}
