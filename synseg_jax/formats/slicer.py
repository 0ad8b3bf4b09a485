"""Segmentations of 3D Slicer (.seg.nrrd): label maps cropped to their foreground, with segment names in the header.

Segment0_Name:=liver        header fields of every segment
Segment0_LabelValue:=1
Segment0_Layer:=0           several layers if segments overlap
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
MAX_HEADER = 2**22  # bytes


def is_segmentation(path: Path) -> bool:
    """Whether a file is a segmentation of 3D Slicer, by its suffix."""
    return path.name.lower().endswith(SUFFIXES)


def segments(path: Path) -> dict[str, int]:
    """{name: label value} of the segments, empty for other files; raises InputError for overlapping segments."""
    fields: dict[bytes, dict[bytes, str]] = {}
    for number, field, value in FIELD.findall(_header(path)) if is_segmentation(path) and path.is_file() else ():
        fields.setdefault(number, {})[field] = value.decode('utf-8', 'replace').strip()
    if any(segment.get(b'Layer', '0') != '0' for segment in fields.values()):
        raise InputError(f'{path}: overlapping segments in several layers; export it from 3D Slicer as a label map')
    complete = [segment for segment in fields.values() if segment.keys() >= {b'Name', b'LabelValue'}]
    names, values = ([segment[field] for segment in complete] for field in (b'Name', b'LabelValue'))
    if invalid := [value for value in values if not re.fullmatch(r'[0-9]{1,5}', value)]:
        raise InputError(f'{path}: {invalid[0]!r} is not a label value; save it again')
    if len(set(names)) < len(names) or not all(name and name.isprintable() for name in names):
        raise InputError(f'{path}: its segments {names} need distinct printable names; rename them')
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def common_values(paths: Iterable[Path]) -> dict[str, int]:
    """{name: label value} over several files; raises InputError if a name has different values."""
    values: dict[str, tuple[int, Path]] = {}
    for path in paths:
        for name, value in segments(path).items():
            first, file = values.setdefault(name, (value, path))
            if first != value:
                raise InputError(f'{path}: segment {name} has value {value}, in {file} {first}; give it one value')
    return {name: value for name, (value, _) in values.items()}


def fits(box: Volume, scan: Volume) -> bool:
    """Whether a smaller grid is a crop of a scan's grid; both canonical."""
    if box.array.shape == scan.array.shape:
        return False
    first = _first(box, scan)
    if min(first) < 0 or any(np.add(first, box.array.shape) > scan.array.shape):
        return False
    try:
        check_grid(Volume(box.array, _shifted(scan.affine, first)), box)
    except InputError:
        return False
    return True


def uncrop(box: Volume, scan: Volume) -> Volume:
    """A cropped label map on the full grid of its scan, 0 outside; unchanged if it is not a crop. Both canonical."""
    if not fits(box, scan):
        return box
    array = np.zeros(scan.array.shape, box.array.dtype)
    target = (slice(start, start + n) for start, n in zip(_first(box, scan), box.array.shape, strict=True))
    array[tuple(target)] = box.array
    return Volume(array, scan.affine)


def _first(box, scan) -> list[int]:
    """The index in the scan of the first voxel of the box."""
    return np.rint((np.linalg.inv(scan.affine) @ box.affine)[:3, 3]).astype(int).tolist()


def _shifted(affine, first) -> np.ndarray:
    """The affine of a crop that starts at index `first`."""
    return affine @ np.block([[np.eye(3), np.reshape(first, (3, 1))], [np.zeros((1, 3)), 1]])


def _header(path) -> bytes:
    """The text of a NRRD header, up to the empty line that ends it."""
    with path.open('rb') as file:
        return re.split(rb'\r?\n\r?\n', file.read(MAX_HEADER), maxsplit=1)[0]
