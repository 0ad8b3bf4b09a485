"""Segmentations as 3D Slicer saves them, `.seg.nrrd`: label maps cut to the smallest box, whose segments have names.

Segment0_Name:=liver        fields of the header, for every segment
Segment0_LabelValue:=1
Segment0_Layer:=0           several layers where segments overlap
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.formats.grid import check_grid
from synseg_jax.imaging.volume import Volume

SUFFIXES = ('.seg.nrrd', '.seg.nhdr')
FIELD = re.compile(rb'(?m)^Segment(\d{1,6})_(Name|LabelValue|Layer):=([^\r\n]*)')
HEADER = 2**22  # bytes in which all segments must be named


def is_segmentation(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.name.lower().endswith(SUFFIXES)


def segments(path: Path) -> dict[str, int]:
    """{name: value} of the segments of a file, empty where nothing names them; InputError where they overlap."""
    fields: dict[bytes, dict[bytes, str]] = {}
    for number, field, value in FIELD.findall(_header(path)) if is_segmentation(path) and path.is_file() else ():
        fields.setdefault(number, {})[field] = value.decode('utf-8', 'replace').strip()
    if any(own.get(b'Layer', '0') != '0' for own in fields.values()):
        raise InputError(f'{path}: its segments overlap, in several layers; export it from 3D Slicer as a label map')
    named = [(own[b'Name'], own[b'LabelValue']) for own in fields.values() if own.keys() >= {b'Name', b'LabelValue'}]
    if wrong := [value for _, value in named if not re.fullmatch(r'[0-9]{1,5}', value)]:
        raise InputError(f'{path}: {wrong[0]!r} is no value of a segment; save it again')
    names = [name for name, _ in named]
    if len(set(names)) < len(names) or not all(name and name.isprintable() for name in names):
        raise InputError(f'{path}: its segments {names} have no names that tell them apart; rename them')
    return {name: int(value) for name, value in named}


def common_values(paths: Iterable[Path]) -> dict[str, int]:
    """{name: value} of the segments of several files; InputError where one name has different values."""
    found: dict[str, tuple[int, Path]] = {}
    for path in paths:
        for name, value in segments(path).items():
            known, where = found.setdefault(name, (value, path))
            if known != value:
                raise InputError(f'{path}: segment {name} has value {value}, in {where} {known}; give it one value')
    return {name: value for name, (value, _) in found.items()}


def fits(box: Volume, scan: Volume) -> bool:
    """Whether the voxels of a smaller grid are voxels of a scan; both upright."""
    if box.array.shape == scan.array.shape:
        return False
    first = _first(box, scan)
    if min(first) < 0 or any(np.add(first, box.array.shape) > scan.array.shape):
        return False
    try:
        check_grid(Volume(box.array, _moved(scan.affine, first)), box)
    except InputError:
        return False
    return True


def placed(box: Volume, scan: Volume) -> Volume:
    """A label map put back where it was cut from a scan's grid, 0 about it; the same where it does not fit.

    Both upright.
    """
    if not fits(box, scan):
        return box
    array = np.zeros(scan.array.shape, box.array.dtype)
    array[tuple(slice(start, start + n) for start, n in zip(_first(box, scan), box.array.shape, strict=True))] = (
        box.array
    )
    return Volume(array, scan.affine)


def _first(box, scan) -> list[int]:
    """The voxel of the scan in which the first voxel of the box lies."""
    return np.rint((np.linalg.inv(scan.affine) @ box.affine)[:3, 3]).astype(int).tolist()


def _moved(affine, first) -> np.ndarray:
    """An affine whose first voxel is another one."""
    return affine @ np.block([[np.eye(3), np.reshape(first, (3, 1))], [np.zeros((1, 3)), 1]])


def _header(path) -> bytes:
    """The text of a NRRD header, which an empty line ends."""
    with path.open('rb') as file:
        return re.split(rb'\r?\n\r?\n', file.read(HEADER), maxsplit=1)[0]
