"""Label maps by the names of their classes, however they come: volumes, segmentations, RTSTRUCT contours, PNG."""

import fnmatch
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synseg_jax.dicom import rtstruct, series
from synseg_jax.errors import InputError, warn
from synseg_jax.formats import scan_file, slicer
from synseg_jax.formats.grid import check_grid, label_values
from synseg_jax.formats.names import nfc, plain
from synseg_jax.imaging import volume
from synseg_jax.imaging.volume import Volume

SHOWN = 10  # values in an error
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
    scan = scan_file.read(image) if scan is None else scan
    if rtstruct.is_rtstruct(path):
        return Volume(_drawn(path, image, scan, values, classes), scan.affine)
    # both upright, for the same grid may be stored from its other end: DICOM's rows from the front, NIfTI's from behind
    upright = volume.canonical(scan)
    found = volume.canonical(_stack(path, image, scan) if _is_stack(path) else scan_file.read_labels(path))
    if slicer.is_segmentation(path):
        found = slicer.placed(found, upright)
    check_grid(upright, found, str(path))
    table = _table(path, values, classes)
    lookup = np.full(max(table) + 1, -1, np.int16)
    lookup[list(table)] = list(table.values())
    largest = int(found.array.max(initial=0))
    indices = lookup[found.array] if largest < len(lookup) else np.array(-1)
    if indices.min(initial=0) < 0:
        raise InputError(f'{path}: {_unknown(label_values(found.array), table)}')
    return Volume(volume.restore(indices.astype(np.uint8), scan), scan.affine)


def check(path: str | Path, image: str | Path, values: Values, classes: Sequence[str], stored: Volume) -> None:
    """InputError where `read` would refuse names or values; `stored` is the grid of the labels.

    Contours are placed on it, but not drawn, which takes long.
    """
    path, image = Path(path), Path(image)
    if rtstruct.is_rtstruct(path):
        for number in chain(*_contours(path, values, classes)):
            rtstruct.polygons(path, number, image, stored)
    else:
        read(path, image, values, classes, stored)


def grid(path: str | Path, image: Volume | None) -> Volume | None:
    """The grid that labels are stored on, by their header; their image's, or None, for contours and PNG.

    Segmentations of 3D Slicer that are cut from the grid of their image lie on it too.
    """
    path = Path(path)
    if rtstruct.is_rtstruct(path) or _is_stack(path):
        return image
    if slicer.is_segmentation(path):
        slicer.segments(path)  # refuses layers, which have no one grid
    stored = scan_file.grid(path)
    cut = image is not None and slicer.is_segmentation(path)
    return image if cut and slicer.fits(volume.canonical(stored), volume.canonical(image)) else stored


def several(value: int | str | Sequence[int | str]) -> tuple[int | str, ...]:
    """One value or more, as a tuple."""
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def held(path: str | Path, image: str | Path, scan: Volume) -> list[int | str]:
    """The values in a label map but 0, or the names of contours or segments: what can be given a class's name."""
    path = Path(path)
    if rtstruct.is_rtstruct(path):
        return sorted(set(rtstruct.named(path).values()))
    if drawn := slicer.segments(path):
        return sorted(drawn)
    found = _stack(path, Path(image), scan) if _is_stack(path) else scan_file.read_labels(path)
    return [value for value in label_values(found.array) if value]


def listed(values: Sequence[int | str]) -> str:
    """The first of some values, in words, and how many there are."""
    more = f', ... ({len(values)} in all)' if len(values) > SHOWN else ''
    return ', '.join(map(str, values[:SHOWN])) + more


def _table(path, values, classes) -> dict[int, int]:
    """{value in the map: index into classes}."""
    segments = slicer.segments(path)
    numbers = {name: _numbers(path, name, value, segments) for name, value in values.items()}
    if segments and not any(numbers.get(name) for name in classes[1:]):
        raise InputError(f'{path}: no segment is named {", ".join(classes[1:])}; it has {listed(list(segments))}')
    for name in classes[1:] if segments else ():
        if not numbers.get(name):
            warn('%s: no segment of %s; that class is empty here', path, name)
    if not segments and (nameless := next((name for name in classes if name in numbers and not numbers[name]), None)):
        contours = ', '.join(map(str, several(values[nameless])))
        raise InputError(
            f'{path}: a label map, in which {nameless} has no number, but {contours!r}, as contours have; '
            f'name its value, --labels=SET={nameless}:1'
        )
    index = {name: classes.index(name) if name in classes else 0 for name in values}
    by_name = any(isinstance(one, str) for value in values.values() for one in several(value))
    others = segments.values() if by_name else ()  # as contours that nobody names are left out
    return dict.fromkeys(others, 0) | {one: index[name] for name, own in numbers.items() for one in own} | {0: 0}


def _numbers(path, name, value, segments: Mapping[str, int]) -> list[int]:
    """The values of a class in a label map, of a segmentation by the names of its segments; InputError for clashes."""
    own = [one for one in several(value) if isinstance(one, int)]
    patterns = [nfc(one).lower() for one in several(value) if isinstance(one, str)]
    for segment, number in segments.items():
        if own and not patterns and plain(segment) == plain(name) and number not in own:
            raise InputError(
                f'{path}: its segment {segment} has value {number}, not {listed(own)} as {name} elsewhere; '
                f'name segments in place of values, --labels=SET={name}:{segment}'
            )
    return own + [number for segment, number in segments.items() if _fits(segment, patterns)]


def _unknown(present, table) -> str:
    unknown = sorted(set(present) - table.keys())
    return (
        f'label values {listed(unknown)} are not named; name them in dataset.json or --labels '
        f'(background:0+{"+".join(map(str, unknown[:2]))}{"+..." if unknown[2:] else ""} to leave them out)'
    )


def _drawn(path, image, scan, values, classes) -> np.ndarray:
    """What contours draw; where classes overlap, the later one is seen."""
    array = np.zeros(scan.array.shape, np.uint8)
    for index, numbers in enumerate(_contours(path, values, classes), 1):
        for number in numbers:
            array[rtstruct.mask(path, number, image, scan)] = index
    return array


def _contours(path, values, classes) -> list[list[int]]:
    """The numbers of the ROIs of every class but the background; InputError where none of any has contours.

    Warns of classes without.
    """
    rois, meant = rtstruct.named(path), [_patterns(name, values) for name in classes[1:]]
    asked = [[n for n, roi in rois.items() if _fits(roi, patterns)] for patterns in meant]
    outlined = rtstruct.outlined(path, chain(*asked))
    found = [[n for n in numbers if n in outlined] for numbers in asked]
    if not any(found):
        what = 'closed contours' if any(asked) else 'contours are'
        raise InputError(
            f'{path}: no {what} named {", ".join(chain(*meant))}; it has {listed(list(rois.values())) or "none"}; '
            f'name them, --labels=SET={classes[-1]}:NAME, or leave the scan out'
        )
    for name, numbers in zip(classes[1:], found, strict=True):
        if not numbers:
            warn('%s: no contours of %s; that class is empty here', path, name)
    return found


def _fits(roi, patterns) -> bool:
    return any(fnmatch.fnmatchcase(nfc(roi).lower(), pattern) for pattern in patterns)


def _patterns(name, values) -> list[str]:
    """What the contours of a class may be called; by the name of the class where it has none but numbers."""
    named = [one for one in several(values.get(name, name)) if isinstance(one, str)] or [name]
    return [nfc(one).lower() for one in named]


def _is_stack(path) -> bool:
    return path.is_dir() and any(file.suffix.lower() == '.png' for file in path.iterdir())


def _stack(path, image, scan) -> Volume:
    """A folder of PNG on the grid of its DICOM series: in the order of their names, one for each of its files."""
    pictures = sorted(file for file in path.iterdir() if file.suffix.lower() == '.png' and file.is_file())
    if scan_file.kind(image) != '/':
        raise InputError(f'{path}: PNG masks belong to the files of a DICOM series; {image} is none')
    order = series.files(image)
    if len(pictures) != len(order) or len(order) != scan.array.shape[2]:
        raise InputError(f'{path}: {len(pictures)} PNG masks for {len(order)} DICOM files of {image}; bring the others')
    rank = {file: i for i, file in enumerate(sorted(order))}
    planes = [_picture(pictures[rank[file]], scan.array.shape[:2]) for file in order]
    return Volume(np.stack(planes, -1).transpose(1, 0, 2), scan.affine)


def _picture(file, size) -> np.ndarray:
    """Rows and columns of a PNG, unpacked only where it has the size that it should."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'mask.png'  # at a name that is not UTF-8 SimpleITK ends the process
        copy.write_bytes(file.read_bytes())
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(copy))
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
