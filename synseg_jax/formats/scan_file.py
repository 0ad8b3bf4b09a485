"""Scan files: NIfTI, NRRD and MetaImage files, and DICOM series as folders; every scan is opened here."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from nibabel.spatialimages import HeaderDataError

from synseg_jax.dicom.series_names import chosen, is_dicom
from synseg_jax.errors import InputError, warn
from synseg_jax.files import atomic_file
from synseg_jax.formats import metaimage, names, nifti, nrrd
from synseg_jax.formats.lazy import Lazy
from synseg_jax.imaging.arrays import Integer, Shaped
from synseg_jax.imaging.volume import Volume

dicom = Lazy('synseg_jax.dicom.series', 'pydicom', 'DICOM cannot be read')
FARTHEST_MM = 1e6
SMALLEST_MM3 = 1e-9  # of a voxel
LARGEST_LABEL = 2.0**31


def read(path: str | os.PathLike) -> Volume:
    """The scan with its stored axes: float32, scaled by the header's slope and intercept.

    Raises InputError for files that are missing, damaged, not 3-D or not finite.
    """
    with _refusing(path):
        array, affine, header = _reader(path).read(Path(path))
        array = array.astype(np.float32, copy=False)
        _require_finite(path, array)
        _check_affine(path, affine)
    return Volume(array, affine, header)


def grid(path: str | os.PathLike) -> Volume:
    """The grid of a scan by its header alone: a volume of zeros that take no memory.

    Raises InputError for what `read` would refuse without having seen a voxel.
    """
    with _refusing(path):
        shape, affine = _reader(path).grid(Path(path))
        _check_affine(path, affine)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)


def read_labels(path: str | os.PathLike) -> Volume:
    """The label map with its stored axes, in the smallest unsigned integer type that holds it.

    Values within 1e-3 of a whole number are snapped to it; others and negative ones raise InputError.
    """
    with _refusing(path):
        array, affine, header = _reader(path).read(Path(path))
        array = _whole(path, array)
        if array.min() < 0:
            raise InputError(f'{path}: labels are negative (lowest {array.min()}); number them from 0')
        _check_affine(path, affine)
    return Volume(array.astype(np.min_scalar_type(array.max())), affine, header)


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
    if nifti.is_sheared(like.affine, like.array.shape):
        _tell_shear()
    stored = array.astype(np.uint8) if array.dtype == bool else array
    content = nifti.image(stored, like.affine, like.header, intent).to_bytes()
    if path.name.endswith('.gz'):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


@cache
def _tell_shear() -> None:
    """Says once what a sheared grid means to other programs."""
    warn(
        'the grid of a scan is sheared (gantry tilt): labels on it have an sform alone, which nibabel and FSL follow '
        'and ITK and 3D Slicer refuse; predict and synthesize with --straighten write what all of them read'
    )


def kind(path: str | os.PathLike) -> str:
    """The suffix by which a file is read, `/` of a folder (a DICOM series), or '' where it is no scan by its name."""
    path = Path(path)
    if path.is_dir() or chosen(path)[0].is_dir():
        return '/'
    return max((suffix for suffix in READERS if path.name.lower().endswith(suffix)), key=len, default='')


def exists(path: Path) -> bool:
    """Whether there is such a file or folder, or a folder of which one series is meant; a pipe or device is none."""
    place = chosen(path)[0]
    return place.is_file() or place.is_dir()


def stamp(path: Path) -> list[int]:
    """Sizes and times of a file, or of those in a folder, by which a changed scan is known."""
    stats = [file.stat() for file in dicom.listed(chosen(path)[0])]
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def name(path: Path) -> str:
    """A scan's name without suffix."""
    return path.name if kind(path) == '/' else path.name[: len(path.name) - len(kind(path))]


def found(folder: Path) -> dict[str, Path]:
    """{case: scan} of the files in a folder and of the DICOM series in it or one level below, sorted; see `names`.

    The numbers of channels stay in the names of cases.  DICOM files loose beside other scans are passed over, aloud.
    """
    inside = [path for path in (sorted(folder.iterdir()) if folder.is_dir() else ()) if not path.name.startswith('.')]
    named: list[tuple[str, Path]] = []
    for path in inside:
        if path.is_dir():
            named += dicom.series_in(path).items()
        elif kind(path) not in ('', '.dcm'):
            named.append((name(path), path))
    if not named:
        return names.by_case(dicom.series_in(folder).items())
    if loose := [path for path in inside if path.is_file() and kind(path) in ('', '.dcm') and is_dicom(path)]:
        warn(
            '%s: DICOM beside other scans, not read (%d such files); put each series into a folder of its own',
            *(loose[0], len(loose)),
        )
    return names.by_case(named)


def require_input(path: str | Path) -> None:
    """InputError where --input names nothing that is there."""
    if not exists(Path(path)):
        raise InputError(f'--input={path}: no such file or folder')


def inputs(path: str | Path, channel: int = 0) -> dict[str, Path]:
    """{case: file} of a scan or of the scans in a folder (an nnU-Net dataset's imagesTs or imagesTr included).

    Of cases with several channels, the one with this number.
    """
    path = Path(path)
    require_input(path)
    folder = next((path / part for part in ('imagesTs', 'imagesTr') if (path / part).is_dir()), path)
    # FOLDER#7 is named as it is among the series of FOLDER
    own = name(path) if path.exists() else path.name.replace('#', '_')
    cases = found(folder) if path.is_dir() else names.by_case([(own, path)])
    if not cases:
        deeper = next((file.parent for file in path.rglob('*') if file.is_file() and is_dicom(file)), None)
        told = f'DICOM lies deeper, in {deeper}; name the folder above' if deeper else f'known: {KINDS}'
        raise InputError(f'--input={path}: holds no scan; {told}')
    return {names.checked_id(case): file for case, file in names.of_channel(cases, channel).items()}


def _reader(path) -> ModuleType | Lazy:
    """The module for this kind of file; InputError where there is no file, or none for it."""
    if not exists(Path(path)):
        raise InputError(f'{path}: no such file')
    if not kind(path):
        raise InputError(f'{path}: unknown kind of scan; known: {KINDS}')
    return READERS[kind(path)]


@contextmanager
def _refusing(path) -> Iterator[None]:
    """Makes an InputError of what reading meets: what is wrong with the file, or what kept it from being read."""
    try:
        with np.errstate(all='ignore'):  # what overflows is infinite then, and refused
            yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f'{path}: too large for the memory that is free ({error or "none left"}); free some'
        ) from error
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError) as error:
        if isinstance(error, OSError) and error.errno:  # gzip and bz2 raise OSError for damage, without a number
            told = 'check its permissions' if isinstance(error, PermissionError) else 'the file may be sound'
            raise InputError(f'{path}: cannot be read: {error.strerror}; {told}') from error
        raise InputError(f'{path}: damaged or not a scan ({error}); replace the file') from error


def _check_affine(path, affine) -> None:
    if not (np.abs(affine) < FARTHEST_MM).all() or not abs(np.linalg.det(affine[:3, :3])) >= SMALLEST_MM3:
        raise InputError(f'{path}: its affine is singular, not finite or beyond reason; repair the header')


def _require_finite(path, array):
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f'{path}: {count} voxels are NaN or infinite; replace them by the background value')


def _whole(path, array: np.ndarray) -> Integer[np.ndarray, '...']:
    if array.dtype.kind in 'iu':
        return array
    _require_finite(path, array)
    if np.abs(array).max() > LARGEST_LABEL:
        raise InputError(f'{path}: labels up to {np.abs(array).max():g}; is it a label map?')
    whole = np.rint(array)
    off = np.abs(array - whole)
    if off.max() > 1e-3:
        raise InputError(f'{path}: labels must be whole numbers, found {array.flat[off.argmax()]:g}; was it resampled?')
    return whole.astype(np.int64)


# Which module reads a kind, by its functions `read` and `grid`.
READERS = {'.nii': nifti, '.nii.gz': nifti, '.dcm': dicom, '/': dicom}


READERS |= {'.nrrd': nrrd, '.nhdr': nrrd, '.mha': metaimage, '.mhd': metaimage}
KINDS = '.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, folders of DICOM'


TAGS = {'PT': 'PET', 'OT': ''}  # DICOM's words that are others


def tagged(path: Path) -> str:
    """The modality of a DICOM series by its header, '' of other scans and where it is unknown."""
    if kind(path) not in ('/', '.dcm'):
        return ''
    tag = dicom.modality(path)
    return TAGS.get(tag, tag)
