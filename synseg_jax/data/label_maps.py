"""Label maps by the names of their classes, however they come: volumes, RTSTRUCT contours, stacks of PNG."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synseg_jax.data import dicom, rtstruct, volume
from synseg_jax.data.dataset import check_grid, label_values
from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError

# {class: its value, or values, in a label map, or the names of its contours, `GTV*` for several}
Values = Mapping[str, int | str | Sequence[int | str]]


def read(
    path: str | Path, image: str | Path, values: Values, classes: Sequence[str], scan: Volume | None = None
) -> Volume:
    """The index into `classes` at every voxel of a scan, uint8, and 0 for what `values` knows by other names.

    `scan` spares reading the image again.  InputError unless the labels lie on the image's grid, whatever the order
    of their axes (differences below a hundredth of a millimetre count as none), and hold only values that are named.
    """
    path, image = Path(path), Path(image)
    scan = volume.read(image) if scan is None else scan
    if rtstruct.named(path):
        return Volume(_drawn(path, image, scan, values, classes), scan.affine)
    # both upright, for the same grid may be stored from its other end: DICOM's rows from the front, NIfTI's from behind
    found = volume.canonical(_stack(path, image, scan) if _is_stack(path) else volume.read_labels(path))
    check_grid(volume.canonical(scan), found, str(path))
    table = _table(values, classes)
    if unknown := sorted(set(label_values(found.array)) - table.keys()):
        raise InputError(
            f'{path}: label values {", ".join(map(str, unknown[:10]))} are not named; '
            'name them in dataset.json (or --labels), or remove them'
        )
    lookup = np.zeros(max(int(found.array.max(initial=0)), *table) + 1, np.uint8)
    lookup[list(table)] = list(table.values())
    return Volume(volume.restore(lookup[found.array], scan), scan.affine)


def grid(path: str | Path, image: Volume | None) -> Volume | None:
    """The grid that labels are stored on, by their header; contours and PNG lie on their image's, or on None."""
    path = Path(path)
    return image if rtstruct.named(path) or _is_stack(path) else volume.grid(path)


def several(value: int | str | Sequence[int | str]) -> tuple[int | str, ...]:
    """One value or more, as a tuple."""
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def _table(values, classes) -> dict[int, int]:
    """{value in the map: index into classes}."""
    index = {name: classes.index(name) if name in classes else 0 for name in values}
    return {v: index[name] for name, value in values.items() for v in several(value) if isinstance(v, int)} | {0: 0}


def _drawn(path, image, scan, values, classes) -> np.ndarray:
    """What contours draw; where classes overlap, the later one is seen."""
    rois = rtstruct.named(path)
    array, matched = np.zeros(scan.array.shape, np.uint8), False
    for index, name in enumerate(classes[1:], 1):
        patterns = [str(value).lower() for value in several(values.get(name, name))]
        numbers = [n for n, roi in rois.items() if any(fnmatch.fnmatchcase(roi.lower(), p) for p in patterns)]
        matched = matched or bool(numbers)
        for number in numbers:
            array[rtstruct.mask(path, number, image, scan)] = index
    if not matched:
        raise InputError(f'{path}: no contours of {", ".join(classes[1:])}; it has {", ".join(rois.values())}')
    return array


def _is_stack(path) -> bool:
    return path.is_dir() and any(file.suffix.lower() == '.png' for file in path.iterdir())


def _stack(path, image, scan) -> Volume:
    """A folder of PNG on the grid of its DICOM series: in the order of their names, one for each of its files."""
    pictures = sorted(file for file in path.iterdir() if file.suffix.lower() == '.png')
    if volume.kind(image) != '/':
        raise InputError(f'{path}: PNG masks belong to the files of a DICOM series; {image} is none')
    order = dicom.files(image)
    if len(pictures) != len(order) or len(order) != scan.array.shape[2]:
        raise InputError(f'{path}: {len(pictures)} PNG masks for {len(order)} DICOM files of {image}; bring the others')
    rank = {file: i for i, file in enumerate(sorted(order))}
    planes = [_picture(pictures[rank[file]], scan.array.shape[:2]) for file in order]
    return Volume(np.stack(planes, -1).transpose(1, 0, 2), scan.affine)


def _picture(file, size) -> np.ndarray:
    """Rows and columns of a PNG, unpacked only where it has the size that it should."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        if reader.GetSize() != size:
            raise InputError(f'{file}: mask of {reader.GetSize()} pixels, its slice has {size}; resample it')
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(f'{file}: damaged or no PNG; replace the file') from error
    if array.ndim != 2 or array.dtype.kind != 'u':
        raise InputError(f'{file}: holds colour, not one value per pixel; convert it to grey values')
    return array
