"""Reading and writing scans of any format: NIfTI, NRRD and MetaImage files, and DICOM series as folders."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from glob import escape
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
# By suffix ('/' for folders), the module whose functions `read` and `grid` read it.
READERS = {
    '.nii': nifti, '.nii.gz': nifti, '.nrrd': nrrd, '.nhdr': nrrd, '.mha': metaimage, '.mhd': metaimage,
    '.dcm': dicom, '/': dicom,
}  # fmt: skip
DETACHED = ('.nhdr', '.mhd')  # headers whose voxels may lie in other files
DIGITS = 16  # of a digest
FORMATS = '.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, folders of DICOM'
MODALITIES = {'PT': 'PET', 'OT': ''}  # DICOM's terms that differ from ours
MAX_AFFINE_MM = 1e6
MIN_VOXEL_MM3 = 1e-9
MAX_LABEL = 2.0**31
LABEL_TOLERANCE = 1e-3  # of a stored label from an integer


def read(path: str | os.PathLike) -> Volume:
    """Read a scan with its stored axes: float32, slope and intercept of the header applied.

    Raises InputError for files that are missing, damaged, not 3-D or not finite.
    """
    with _read_errors(path):
        array, affine, header = _reader(path).read(Path(path))
        return checked(path, Volume(array.astype(np.float32, copy=False), affine, header))


def checked(name: str | os.PathLike, scan: Volume) -> Volume:
    """The scan; InputError with the name of what it was read from if its voxels or its affine are no numbers."""
    _require_finite(name, scan.array)
    _check_affine(name, scan.affine)
    return scan


def grid(path: str | os.PathLike) -> Volume:
    """Read the grid of a scan from its header alone: a volume of zeros that take no memory.

    Raises InputError for everything that `read` refuses before it reads voxels.
    """
    with _read_errors(path):
        shape, affine = _reader(path).grid(Path(path))
        _check_affine(path, affine)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)


def read_labels(path: str | os.PathLike) -> Volume:
    """Read a label map with its stored axes, in the smallest unsigned integer type that holds it.

    Values within LABEL_TOLERANCE of an integer are rounded; others and negative ones raise InputError.
    """
    with _read_errors(path):
        array, affine, header = _reader(path).read(Path(path))
        array = _as_integers(path, array)
        if array.min() < 0:
            raise InputError(f'{path}: labels are negative (lowest {array.min()}); number them from 0')
        _check_affine(path, affine)
    return Volume(array.astype(np.min_scalar_type(array.max())), affine, header)


def write(path: str | os.PathLike, array: Shaped[np.ndarray, 'x y z'], like: Volume, intent: str = 'none') -> None:
    """Write NIfTI on the grid of `like` (affine, sform and qform codes, units), in the array's dtype, atomically.

    Free text and extensions of the header are not copied: they may identify the patient. `intent` is NIfTI's, e.g.
    'label'.
    """
    path = Path(path)
    if not path.name.endswith(('.nii', '.nii.gz')):
        raise InputError(f'{path}: scans are written as .nii or .nii.gz')
    if array.shape != like.array.shape:
        raise ValueError(f'an array of shape {array.shape} does not fit the grid {like.array.shape} of {path.name}')
    if nifti.is_sheared(like.affine, like.array.shape):
        _warn_shear()
    stored = array.astype(np.uint8) if array.dtype == bool else array
    content = nifti.image(stored, like.affine, like.header, intent).to_bytes()
    if path.name.endswith('.gz'):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


@cache
def _warn_shear() -> None:
    """Warn once that other programs do not read sheared grids."""
    warn(
        'the grid of a scan is sheared (gantry tilt): labels on it have only an sform, which nibabel and FSL read '
        'and ITK and 3D Slicer refuse; predict and synthesize with --straighten write what all of them read'
    )


def suffix(path: str | os.PathLike) -> str:
    """The suffix of a scan, '/' for a folder (a DICOM series), '' for other files."""
    path = Path(path)
    if path.is_dir() or chosen(path)[0].is_dir():
        return '/'
    return max((suffix for suffix in READERS if path.name.lower().endswith(suffix)), key=len, default='')


def exists(path: Path) -> bool:
    """Whether there is such a file or folder (FOLDER of FOLDER#7), not a pipe or device."""
    path = chosen(path)[0]
    return path.is_file() or path.is_dir()


def stamp(path: Path) -> list[int]:
    """Sizes and modification times of a file, or of the files of a series; they differ if the scan was changed."""
    stats = [file.stat() for file in dicom.listed(chosen(path)[0])]
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def digest(path: Path) -> str:
    """A digest of the bytes of a scan: of its file, of a header with its data files, or of the files of a series."""
    place = chosen(path)[0]
    beside = place.parent.glob(f'{escape(stem(place))}.*') if suffix(place) in DETACHED else dicom.listed(place)
    content = hashlib.sha256()
    for file in sorted(beside):
        with file.open('rb') as opened:
            content.update(hashlib.file_digest(opened, 'sha256').digest())
    return content.hexdigest()[:DIGITS]


def stem(path: Path) -> str:
    """The name of a scan without suffix."""
    return path.name if suffix(path) == '/' else path.name[: len(path.name) - len(suffix(path))]


def list_scans(folder: Path) -> dict[str, Path]:
    """{case: scan} of the files in a folder and of the DICOM series in it or one level below, sorted; see `names`.

    Channel numbers stay in the case names.  Warns of loose DICOM files beside other scans, which are not read.
    """
    entries = [path for path in (sorted(folder.iterdir()) if folder.is_dir() else ()) if not path.name.startswith('.')]
    files: list[tuple[str, Path]] = []
    for path in entries:
        if path.is_dir():
            files += dicom.series_in(path).items()
        elif suffix(path) not in ('', '.dcm'):
            files.append((stem(path), path))
    if not files:
        return names.by_case(dicom.series_in(folder).items())
    if loose := [path for path in entries if path.is_file() and suffix(path) in ('', '.dcm') and is_dicom(path)]:
        warn(
            '%s: DICOM beside other scans, not read (%d such files); put each series into a folder of its own',
            *(loose[0], len(loose)),
        )
    return names.by_case(files)


def require_input(path: str | Path) -> None:
    """Raise InputError if the path given by --input does not exist."""
    if not exists(Path(path)):
        raise InputError(f'--input={path}: no such file or folder')


def inputs(path: str | Path, channel: int = 0, channels: int = 1) -> dict[str, Path]:
    """{case: scan} of a file, a series, or a folder (of an nnU-Net dataset: its imagesTs, else imagesTr).

    Of cases with several channels, the one with this number; `channels` from it on are read, see `scan_channels`.
    """
    path = Path(path)
    require_input(path)
    folder = next((path / part for part in ('imagesTs', 'imagesTr') if (path / part).is_dir()), path)
    # FOLDER#7 has the name that `list_scans` gives it among the series of FOLDER
    own_name = stem(path) if path.exists() else path.name.replace('#', '_')
    cases = list_scans(folder) if path.is_dir() else names.by_case([(own_name, path)])
    if not cases:
        deeper = next((file.parent for file in path.rglob('*') if file.is_file() and is_dicom(file)), None)
        remedy = f'DICOM lies deeper, in {deeper}; name the folder above' if deeper else f'known formats: {FORMATS}'
        raise InputError(f'--input={path}: no scans in it; {remedy}')
    return {names.checked_id(case): file for case, file in names.select_channel(cases, channel, channels).items()}


def dicom_modality(path: Path) -> str:
    """The modality of a DICOM series by its header; '' for other scans and if unknown."""
    if suffix(path) not in ('/', '.dcm'):
        return ''
    modality = dicom.modality(path)
    return MODALITIES.get(modality, modality)


def _reader(path) -> ModuleType | Lazy:
    """The module that reads this file; raises InputError if it does not exist or is of an unknown format."""
    if not exists(Path(path)):
        raise InputError(f'{path}: no such file')
    if not suffix(path):
        raise InputError(f'{path}: unknown format; known: {FORMATS}')
    return READERS[suffix(path)]


@contextmanager
def _read_errors(path) -> Iterator[None]:
    """Turn errors while reading into InputErrors that tell damage from lack of memory, permission or access."""
    try:
        with np.errstate(all='ignore'):  # overflow gives infinity, which is refused later
            yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f'{path}: too large for the free memory ({error or "none left"}); free some') from error
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError) as error:
        if isinstance(error, OSError) and error.errno:  # for damage gzip and bz2 raise OSError without errno
            remedy = 'check its permissions' if isinstance(error, PermissionError) else 'the file may be intact'
            raise InputError(f'{path}: cannot be read: {error.strerror}; {remedy}') from error
        raise InputError(f'{path}: damaged or not a scan ({error}); replace the file') from error


def _check_affine(path, affine) -> None:
    if not (np.abs(affine) < MAX_AFFINE_MM).all() or not abs(np.linalg.det(affine[:3, :3])) >= MIN_VOXEL_MM3:
        raise InputError(f'{path}: its affine is singular, not finite or implausibly large; repair the header')


def _require_finite(path, array):
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f'{path}: {count} voxels are NaN or infinite; replace them by the background value')


def _as_integers(path, array: np.ndarray) -> Integer[np.ndarray, '...']:
    if array.dtype.kind in 'iu':
        return array
    _require_finite(path, array)
    if np.abs(array).max() > MAX_LABEL:
        raise InputError(f'{path}: labels up to {np.abs(array).max():g}; is it a label map?')
    rounded = np.rint(array)
    error = np.abs(array - rounded)
    if error.max() > LABEL_TOLERANCE:
        value = array.flat[error.argmax()]
        raise InputError(f'{path}: labels must be whole numbers, found {value:g}; was it resampled?')
    return rounded.astype(np.int64)
