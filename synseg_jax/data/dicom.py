"""DICOM series: folders of single slices, or one multi-frame file, as volumes placed in the patient.

`FOLDER` holds one series; of several, `FOLDER#7` is the one with series number 7.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
from absl import logging
from jaxtyping import Float
from pydicom.dataelem import RawDataElement

from synseg_jax.data import dicom_pixels
from synseg_jax.data.dicom_frames import Slice, frames_of
from synseg_jax.data.dicom_pixels import guarded
from synseg_jax.errors import InputError

TAGS = (  # all that is asked of a header, and decoded with it
    'SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription InstanceNumber Modality Rows Columns '
    'NumberOfFrames SamplesPerPixel PhotometricInterpretation PixelSpacing ImageOrientationPatient '
    'ImagePositionPatient SliceThickness RescaleSlope RescaleIntercept PerFrameFunctionalGroupsSequence '
    'SharedFunctionalGroupsSequence'
).split()
UNEVEN = 0.02  # of the distance of slices, beyond which one is missing
ROUNDED_MM = 0.11  # and in mm, where places are written with one decimal
MAGIC = b'DICM'
UNDEFINED = 2**32 - 1  # a length that is found out by reading
NO_SCANS = ('SEG', 'RTDOSE', 'RTSTRUCT', 'PR', 'KO', 'SR')  # what lies beside scans


def read(path: Path) -> tuple[Float[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Voxels (rescaled, e.g. HU) and affine of a series; InputError for what does not make one volume."""
    frames = slices(path)
    rows, columns = frames[0].shape
    array = np.empty((columns, rows, len(frames)), np.float32, order='F')
    for file, group in groupby(sorted(enumerate(frames), key=lambda at: at[1].file), key=lambda at: at[1].file):
        pixels = dicom_pixels.read(file)
        for k, frame in group:
            if pixels.shape[1:] != frame.shape or len(pixels) <= frame.frame:
                raise InputError(f'{file}: holds other pixels than its header says; replace the file')
            array[:, :, k] = (pixels[frame.frame] * frame.scale[0] + frame.scale[1]).T
    return array, affine(path, frames), None


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine of what `read` would return, by the headers alone."""
    frames = slices(path)
    rows, columns = frames[0].shape
    return (columns, rows, len(frames)), affine(path, frames)


def slices(path: Path) -> list[Slice]:
    """The frames of a series in the order of the volume's third axis; InputError where they make no volume."""
    place = chosen(path)[0]
    inside = sorted(place.iterdir()) if place.is_dir() else [place]
    return _slices(path, tuple((file.name, file.stat().st_mtime_ns) for file in inside))


@lru_cache(maxsize=8)
def _slices(path, _):
    frames = []
    for file, read in _series(path):
        with guarded(file):
            frames += frames_of(file, read)
    first = frames[0]
    for frame in frames:
        for name, fits in _agreement(first, frame).items():
            if not fits:
                raise InputError(f'{frame.file}: another {name} than {first.file.name} of the same series; part them')
    return sorted(frames, key=lambda frame: float(frame.origin @ first.normal))


def affine(path: Path, frames: Sequence[Slice]) -> Float[np.ndarray, '4 4']:
    """Voxel index (column, row, slice) -> RAS mm of frames in their order; InputError for gaps and doubles."""
    first, origins = frames[0], np.stack([frame.origin for frame in frames])
    if len(frames) == 1:
        step = first.normal * (first.thickness or 1.0)
    else:
        gaps = np.diff(origins, axis=0) @ first.normal
        _check_gaps(path, frames, gaps)
        step = (origins[-1] - origins[0]) / (len(frames) - 1)
        off = np.abs(origins - origins[0] - np.outer(np.arange(len(frames)), step)).max()
        if off > max(1.5 * ROUNDED_MM, UNEVEN * np.linalg.norm(step)):
            raise InputError(f'{path}: slices lie up to {off:.2f} mm beside one line; they make no volume')
        tilt = np.degrees(np.arccos(np.clip(step @ first.normal / np.linalg.norm(step), -1, 1)))
        if tilt > 0.5:
            logging.warning('%s: slices are tilted by %.1f degrees (gantry); the affine is sheared by it', path, tilt)
    placed = np.eye(4)
    placed[:3] = np.stack([first.rows * first.spacing[1], first.columns * first.spacing[0], step, first.origin], 1)
    if abs(np.linalg.det(placed[:3, :3])) < 1e-9:
        raise InputError(f'{first.file}: its orientation or spacing is zero; repair the header')
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ placed


def files(path: Path) -> list[Path]:
    """The files of a series in the order of the volume's third axis."""
    return list(dict.fromkeys(frame.file for frame in slices(path)))


def modality(path: Path) -> str:
    """DICOM Modality of a scan, e.g. 'CT' or 'MR', by its headers; '' for other formats and where it is unknown."""
    place = chosen(path)[0]
    if not place.is_dir() and not (place.is_file() and is_dicom(place)):
        return ''
    try:
        return slices(path)[0].modality
    except InputError:
        return ''


def chosen(path: Path) -> tuple[Path, str]:
    """The folder or file, and the series number that `FOLDER#7` asks for."""
    if '#' in path.name and not path.exists():
        name, _, number = path.name.rpartition('#')
        return path.with_name(name), number
    return path, ''


def series_in(folder: Path) -> dict[str, Path]:
    """{name: path} of the series in a folder: its own name or, of several, `NAME_7` -> `FOLDER#7`; empty without.

    A folder with a damaged file counts as one series, so that only whoever reads it is refused.
    """
    try:
        named = _names(_by_series(folder))
    except InputError:
        return {folder.name: folder}
    if len(named) < 2:
        return {folder.name: folder} if named else {}
    return {f'{folder.name}_{n}': folder.with_name(f'{folder.name}#{n}') for n in sorted(named.values())}


def header(path: Path) -> pydicom.Dataset:
    """What one file says without its pixels; InputError where it is damaged."""
    with guarded(path):
        found = pydicom.dcmread(path, stop_before_pixels=True, force=path.suffix.lower() == '.dcm')
        if not len(found) or any(map(_cut_short, map(found.get_item, found.keys()))):
            raise InputError(f'{path}: truncated or no DICOM; replace the file')
        for tag in TAGS:
            found.get(tag)  # decoded here, where errors are expected
        return found


def _cut_short(item) -> bool:
    """Whether an element holds less than it says, which pydicom lets pass."""
    return isinstance(item, RawDataElement) and len(item.value or b'') < item.length < UNDEFINED


def is_dicom(path: Path) -> bool:
    """By its name or by its first bytes."""
    if path.suffix.lower() == '.dcm':
        return True
    with path.open('rb') as file:
        return file.read(132)[128:] == MAGIC


def _by_series(folder) -> dict[str, list]:
    """{series: [(file, header)]} of the images in a folder, or of one file; other objects are left aside."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    found: dict[str, list] = {}
    for file in inside:
        if not file.is_file() or file.name.startswith('.') or file.name == 'DICOMDIR' or not is_dicom(file):
            continue
        read = header(file)
        if 'Rows' in read and 'Columns' in read and read.get('Modality') not in NO_SCANS:
            found.setdefault(str(read.get('SeriesInstanceUID', '')), []).append((file, read))
    return found


def _names(series) -> dict[str, str]:
    """{series: its number, or its UID where several have that number}."""
    numbers = {uid: str(headers[0][1].get('SeriesNumber')) for uid, headers in series.items()}
    return {uid: n if [*numbers.values()].count(n) == 1 else uid for uid, n in numbers.items()}


def _series(path) -> list[tuple[Path, pydicom.Dataset]]:
    """The headers of the one series that is meant."""
    place, number = chosen(path)
    series = _by_series(place)
    named = _names(series)
    if number:
        series = {uid: headers for uid, headers in series.items() if number in (named[uid], uid)}
    if len(series) > 1:
        told = '; '.join(
            f'#{named[uid]}: {len(v)} files, {v[0][1].get("SeriesDescription", "no description")}'
            for uid, v in series.items()
        )
        raise InputError(f'{path}: holds {len(series)} series ({told}); name one as {place.name}#NUMBER, or part them')
    if not series and number and named:
        has = ', '.join(f'#{name}' for name in sorted(named.values()))
        raise InputError(f'{path}: no DICOM images with series number {number} in it; it has {has}')
    if not series:
        raise InputError(f'{path}: no DICOM images in it; give the folder that holds the files of a series')
    return next(iter(series.values()))


def _agreement(first, frame) -> dict[str, bool]:
    """Whether two frames may lie in one volume, by what they must agree in."""
    return {
        'number of rows and columns': first.shape == frame.shape,
        'spacing': np.allclose(first.spacing, frame.spacing, rtol=1e-3),
        'orientation': np.allclose(first.rows, frame.rows, atol=2e-3)
        and np.allclose(first.columns, frame.columns, atol=2e-3),
    }


def _check_gaps(path, frames, gaps) -> None:
    usual = float(np.median(gaps))
    double = np.flatnonzero(gaps < 1e-3)
    if len(double):
        one, two = frames[double[0]], frames[double[0] + 1]
        raise InputError(
            f'{path}: {one.file.name} and {two.file.name} lie at the same place ({len(double)} such pairs): '
            'doubles, or several volumes in one series; leave one of them'
        )
    wide = np.flatnonzero(np.abs(gaps - usual) > max(UNEVEN * usual, min(ROUNDED_MM, 0.25 * usual)))
    if len(wide):
        i = wide[0]
        raise InputError(
            f'{path}: slices missing or uneven: {gaps[i]:.2f} mm from {frames[i].file.name} to '
            f'{frames[i + 1].file.name}, elsewhere {usual:.2f} mm ({len(wide)} such gaps); bring the missing files'
        )
    numbers = sorted(frame.instance for frame in frames if frame.instance is not None)
    if usual > 1.5 * frames[0].thickness > 0 and numbers and numbers[-1] - numbers[0] > len(frames) - 1:
        logging.warning(
            '%s: %d slices of %.2f mm lie %.2f mm apart and are numbered %d to %d; were some left out?',
            *(path, len(frames), frames[0].thickness, usual, numbers[0], numbers[-1]),
        )
