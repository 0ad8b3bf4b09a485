"""DICOM series, folders of slices or one multi-frame file, as volumes in patient coordinates.

`FOLDER` holds one series; of several, `FOLDER#7` is the one with series number 7.
"""

import re
from collections import Counter
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float

from synseg_jax.dicom import pixels as dicom_pixels
from synseg_jax.dicom.frames import Slice, frames_of
from synseg_jax.dicom.geometry import affine, check_agreement
from synseg_jax.dicom.header import header, holds_image
from synseg_jax.dicom.pixels import guarded
from synseg_jax.dicom.series_names import chosen, head, is_dicom
from synseg_jax.errors import InputError, warn
from synseg_jax.imaging import memory_limit

LEAST_OF_TEXT = 9  # smallest byte of plain text


def read(path: Path) -> tuple[Float[np.ndarray, 'x y z'], Float[np.ndarray, '4 4'], None]:
    """Rescaled voxels (such as HU) and affine of a series; InputError if it is not one volume."""
    frames = slices(path)
    _say_passed_over(chosen(path)[0])
    for remark in dict.fromkeys(remark for frame in frames for remark in frame.remarks):
        warn('%s: %s', path, remark)
    rows, columns = frames[0].shape
    memory_limit.require(path, 4 * columns * rows * len(frames))
    array = np.empty((columns, rows, len(frames)), np.float32, order='F')
    for file, group in groupby(sorted(enumerate(frames), key=lambda at: at[1].file), key=lambda at: at[1].file):
        pixels = dicom_pixels.read(file)
        for k, frame in group:
            if pixels.shape[1:] != frame.shape or len(pixels) <= frame.frame:
                raise InputError(f'{file}: holds other pixels than its header says; replace the file')
            array[:, :, k] = (pixels[frame.frame] * frame.scale[0] + frame.scale[1]).T
    return array, affine(path, frames), None


def grid(path: Path) -> tuple[tuple[int, int, int], Float[np.ndarray, '4 4']]:
    """Shape and affine that `read` would return, from headers only."""
    frames = slices(path)
    rows, columns = frames[0].shape
    return (columns, rows, len(frames)), affine(path, frames)


def slices(path: Path) -> list[Slice]:
    """The frames of a series in the order of the volume's third axis; InputError if they are not one volume."""
    return _slices(path, tuple((file.name, file.stat().st_mtime_ns) for file in listed(chosen(path)[0])))


@lru_cache(maxsize=8)
def _slices(path, _):
    frames = []
    for file, read in _series(path):
        with guarded(file):
            frames += frames_of(file, read)
    check_agreement(frames)
    return sorted(frames, key=lambda frame: float(frame.origin @ frames[0].normal))


def files(path: Path) -> list[Path]:
    """The files of a series in the order of the volume's third axis."""
    return list(dict.fromkeys(frame.file for frame in slices(path)))


def modality(path: Path) -> str:
    """DICOM Modality of a scan, such as CT or MR; '' for other formats and if unknown."""
    place = chosen(path)[0]
    if not place.is_dir() and not (place.is_file() and is_dicom(place)):
        return ''
    try:
        return slices(path)[0].modality
    except InputError:
        return ''


def series_in(folder: Path) -> dict[str, Path]:
    """{name: path} of the series in a folder: its name or, for several, `NAME_7` -> `FOLDER#7`; empty without any.

    A folder with a damaged file counts as one series, so that the error is raised on reading it.
    """
    try:
        named = _names(_by_series(folder))
    except InputError:
        return {folder.name: folder}
    if len(named) < 2:
        return {folder.name: folder} if named else {}
    return {f'{folder.name}_{n}': folder.with_name(f'{folder.name}#{n}') for n in sorted(named.values())}


def listed(place: Path) -> list[Path]:
    """The visible files in a folder, sorted by name, or the one file given."""
    inside = sorted(place.iterdir()) if place.is_dir() else [place]
    return [file for file in inside if file.is_file() and not file.name.startswith('.')]


def _say_passed_over(place) -> None:
    """Warns of entries that look like slices but are not files."""
    for entry in sorted(place.iterdir()) if place.is_dir() else ():
        if entry.is_symlink() and not entry.exists():
            warn('%s: a link to a file that does not exist; passed over', entry)
        elif entry.is_dir() and entry.suffix.lower() == '.dcm':
            warn('%s: a folder, though named as a slice; passed over', entry)
        elif not entry.is_dir() and not entry.is_file():
            warn('%s: a pipe or device; passed over', entry)


def _by_series(folder) -> dict[str, list]:
    """{series UID: [(file, header)]} of the images in a folder, or of one file; other objects are ignored."""
    inside = {file: is_dicom(file) for file in listed(folder) if file.name != 'DICOMDIR'}
    _check_strays(inside)
    found: dict[str, list] = {}
    for file in (file for file, fits in inside.items() if fits):
        if holds_image(file, read := header(file)):
            found.setdefault(str(read.get('SeriesInstanceUID', '')), []).append((file, read))
    return found


def _check_strays(inside) -> None:
    """InputError for damaged or empty files, named like the slices beside them but neither DICOM nor text."""
    suffixes = {_suffix(file) for file, fits in inside.items() if fits}
    for file in (file for file, fits in inside.items() if not fits and _suffix(file) in suffixes):
        if min(head(file), default=0) < LEAST_OF_TEXT:
            raise InputError(f'{file}: no DICOM, though named as the files beside it; replace it, or remove it')


def _suffix(file) -> str:
    """Suffix of a file name; the last number of a UID is not one."""
    return '' if file.suffix[1:].isdigit() else file.suffix.lower()


def _names(series) -> dict[str, str]:
    """{UID: series number, or the UID if that is absent or not unique}, safe for file names."""
    numbers = {uid: _file_name(headers[0][1].get('SeriesNumber')) for uid, headers in series.items()}
    counts = Counter(numbers.values())
    names = {uid: n if n and counts[n] == 1 else _file_name(uid) or 'unnamed' for uid, n in numbers.items()}
    counts = Counter(names.values())
    return {uid: n if counts[n] == 1 else f'{n}+{i}' for i, (uid, n) in enumerate(names.items())}


def _file_name(said) -> str:
    return re.sub(r'[^\w.-]', '_', str('' if said is None else said), flags=re.ASCII)[:64]


def _series(path) -> list[tuple[Path, pydicom.Dataset]]:
    """Files and headers of the one series that a path names."""
    place, number = chosen(path)
    series = _by_series(place)
    named = _names(series)
    if number:
        series = {uid: headers for uid, headers in series.items() if number in (named[uid], uid)}
    if len(series) > 1:
        told = '; '.join(
            f'#{named[uid]}: {len(headers)} files, {_description(headers[0][1])}' for uid, headers in series.items()
        )
        raise InputError(f'{path}: holds {len(series)} series ({told}); name one as {place.name}#NUMBER, or part them')
    if not series and number and named:
        has = ', '.join(f'#{name}' for name in sorted(named.values()))
        raise InputError(f'{path}: no DICOM images with series number {number} in it; it has {has}')
    if not series:
        raise InputError(f'{path}: no DICOM images in it; give the folder that holds the files of a series')
    return next(iter(series.values()))


def _description(read) -> str:
    """SeriesDescription on one line."""
    return ' '.join(str(read.get('SeriesDescription') or 'no description').split())
