"""Label maps as class indices on the grid of their scan, from volumes, segmentations, RTSTRUCT contours or PNG."""

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
from synseg_jax.formats.names import nfc, normalised
from synseg_jax.imaging import volume
from synseg_jax.imaging.volume import Volume

SHOWN = 10  # maximum number of values in an error
# {class: value(s) in label maps, or name(s) of contours or segments, `GTV*` for several}
Values = Mapping[str, int | str | Sequence[int | str]]


def read(
    path: str | Path, image: str | Path, values: Values, classes: Sequence[str], scan: Volume | None = None
) -> Volume:
    """The label map of a scan as indices into `classes`, uint8; classes of `values` that are not in `classes` become 0.

    `scan` is the image, if read already.  Raises InputError unless the labels lie on the image's grid (axes in any
    order, see `check_grid`) and have only values that `values` names.
    """
    path, image = Path(path), Path(image)
    scan = scan_file.read(image) if scan is None else scan
    if rtstruct.is_rtstruct(path):
        return Volume(_rasterised(path, image, scan, values, classes), scan.affine)
    # compared in canonical axes: DICOM stores rows from anterior, NIfTI usually from posterior
    upright = volume.canonical(scan)
    labels = volume.canonical(_read_png(path, image, scan) if _is_png(path) else scan_file.read_labels(path))
    if slicer.is_segmentation(path):
        labels = slicer.uncrop(labels, upright)
    check_grid(upright, labels, str(path))
    index_of = _index_of_value(path, values, classes)
    lookup = np.full(max(index_of) + 1, -1, np.int16)
    lookup[list(index_of)] = list(index_of.values())
    largest = int(labels.array.max(initial=0))
    indices = lookup[labels.array] if largest < len(lookup) else np.array(-1)
    if indices.min(initial=0) < 0:
        raise InputError(f'{path}: {_unknown_values(label_values(labels.array), index_of)}')
    return Volume(volume.restore(indices.astype(np.uint8), scan), scan.affine)


def check(path: str | Path, image: str | Path, values: Values, classes: Sequence[str], stored: Volume) -> None:
    """Raise InputError for names that `read` refuses, by headers alone; `stored` is the grid of the labels.

    The points of contours are checked against it, but not rasterised, and label maps are not decoded: both are slow.
    """
    path, image = Path(path), Path(image)
    if rtstruct.is_rtstruct(path):
        for number in chain(*_contours(path, values, classes)):
            rtstruct.polygons(path, number, image, stored)
    else:
        _index_of_value(path, values, classes)


def grid(path: str | Path, image: Volume | None) -> Volume | None:
    """The grid of labels by their header; that of their image (perhaps None) for contours and PNG.

    Cropped segmentations of 3D Slicer count as on the grid of their image if they are a crop of it.
    """
    path = Path(path)
    if rtstruct.is_rtstruct(path) or _is_png(path):
        return image
    if slicer.is_segmentation(path):
        slicer.segments(path)  # refuses segmentations in layers
    stored = scan_file.grid(path)
    may_be_crop = image is not None and slicer.is_segmentation(path)
    return image if may_be_crop and slicer.fits(volume.canonical(stored), volume.canonical(image)) else stored


def as_tuple(value: int | str | Sequence[int | str]) -> tuple[int | str, ...]:
    """One value or several, as a tuple."""
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def present_values(path: str | Path, image: str | Path, scan: Volume) -> list[int | str]:
    """The non-zero values in a label map, or the names of its contours or segments."""
    path = Path(path)
    if rtstruct.is_rtstruct(path):
        return sorted(set(rtstruct.named(path).values()))
    if segments := slicer.segments(path):
        return sorted(segments)
    labels = _read_png(path, Path(image), scan) if _is_png(path) else scan_file.read_labels(path)
    return [value for value in label_values(labels.array) if value]


def abbreviated(values: Sequence[int | str]) -> str:
    """The first SHOWN values, and the number of all if there are more."""
    more = f', ... ({len(values)} in all)' if len(values) > SHOWN else ''
    return ', '.join(map(str, values[:SHOWN])) + more


def _index_of_value(path, values, classes) -> dict[int, int]:
    """{value in the label map: index into classes}."""
    segments = slicer.segments(path)
    numbers = {name: _numbers(path, name, value, segments) for name, value in values.items()}
    if segments and not any(numbers.get(name) for name in classes[1:]):
        raise InputError(f'{path}: no segment is named {", ".join(classes[1:])}; it has {abbreviated(list(segments))}')
    for name in classes[1:] if segments else ():
        if not numbers.get(name):
            warn('%s: no segment of %s; that class is empty here', path, name)
    if not segments and (nameless := next((name for name in classes if name in numbers and not numbers[name]), None)):
        contours = ', '.join(map(str, as_tuple(values[nameless])))
        raise InputError(
            f'{path}: a label map, but {nameless} is given by contours ({contours!r}) and not by a value; '
            f'name its value, --labels=SET={nameless}:1'
        )
    index = {name: classes.index(name) if name in classes else 0 for name in values}
    by_name = any(isinstance(value, str) for item in values.values() for value in as_tuple(item))
    others = segments.values() if by_name else ()  # unnamed segments are left out, as unnamed contours are
    return dict.fromkeys(others, 0) | {n: index[name] for name, own in numbers.items() for n in own} | {0: 0}


def _numbers(path, name, value, segments: Mapping[str, int]) -> list[int]:
    """The values of a class in a label map; raises InputError if a segment of that name has another value."""
    numbers = [item for item in as_tuple(value) if isinstance(item, int)]
    patterns = [nfc(item).lower() for item in as_tuple(value) if isinstance(item, str)]
    for segment, number in segments.items():
        if numbers and not patterns and normalised(segment) == normalised(name) and number not in numbers:
            raise InputError(
                f'{path}: its segment {segment} has value {number}, not {abbreviated(numbers)} as {name} elsewhere; '
                f'name segments in place of values, --labels=SET={name}:{segment}'
            )
    return numbers + [number for segment, number in segments.items() if _matches(segment, patterns)]


def _unknown_values(present, index_of) -> str:
    unknown = sorted(set(present) - index_of.keys())
    return (
        f'label values {abbreviated(unknown)} are not named; name them in dataset.json or --labels '
        f'(background:0+{"+".join(map(str, unknown[:2]))}{"+..." if unknown[2:] else ""} to leave them out)'
    )


def _rasterised(path, image, scan, values, classes) -> np.ndarray:
    """Class indices inside the contours; where classes overlap, the later one wins."""
    array = np.zeros(scan.array.shape, np.uint8)
    for index, numbers in enumerate(_contours(path, values, classes), 1):
        for number in numbers:
            array[rtstruct.mask(path, number, image, scan)] = index
    return array


def _contours(path, values, classes) -> list[list[int]]:
    """ROI numbers of every class but the background; raises InputError if no class has closed contours.

    Warns of classes without contours.
    """
    rois, patterns = rtstruct.named(path), [_patterns(name, values) for name in classes[1:]]
    named = [[n for n, roi in rois.items() if _matches(roi, own)] for own in patterns]
    closed = rtstruct.outlined(path, chain(*named))
    numbers = [[n for n in own if n in closed] for own in named]
    if not any(numbers):
        missing = 'closed contours' if any(named) else 'contours are'
        names = abbreviated(list(rois.values())) or 'none'
        raise InputError(
            f'{path}: no {missing} named {", ".join(chain(*patterns))}; it has {names}; '
            f'name them, --labels=SET={classes[-1]}:NAME, or leave the scan out'
        )
    for name, own in zip(classes[1:], numbers, strict=True):
        if not own:
            warn('%s: no contours of %s; that class is empty here', path, name)
    return numbers


def _matches(roi, patterns) -> bool:
    return any(fnmatch.fnmatchcase(nfc(roi).lower(), pattern) for pattern in patterns)


def _patterns(name, values) -> list[str]:
    """Name patterns of the contours of a class: its own name if it has only numbers."""
    patterns = [value for value in as_tuple(values.get(name, name)) if isinstance(value, str)] or [name]
    return [nfc(pattern).lower() for pattern in patterns]


def _is_png(path) -> bool:
    return path.is_dir() and any(file.suffix.lower() == '.png' for file in path.iterdir())


def _read_png(path, image, scan) -> Volume:
    """A folder of PNG masks on the grid of its DICOM series, matched to its files in sorted order."""
    masks = sorted(file for file in path.iterdir() if file.suffix.lower() == '.png' and file.is_file())
    if scan_file.suffix(image) != '/':
        raise InputError(f'{path}: PNG masks need a DICOM series as scan; {image} is none')
    order = series.files(image)
    if len(masks) != len(order) or len(order) != scan.array.shape[2]:
        raise InputError(f'{path}: {len(masks)} PNG masks for {len(order)} DICOM files of {image}; add the others')
    rank = {file: i for i, file in enumerate(sorted(order))}
    planes = [_read_mask(masks[rank[file]], scan.array.shape[:2]) for file in order]
    return Volume(np.stack(planes, -1).transpose(1, 0, 2), scan.affine)


def _read_mask(file, size) -> np.ndarray:
    """Rows and columns of a PNG, decoded only if its header has the expected size."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'mask.png'  # SimpleITK aborts the process on names that are not UTF-8
        copy.write_bytes(file.read_bytes())
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(copy))
        try:
            reader.ReadImageInformation()
            if reader.GetSize() != size:
                raise InputError(f'{file}: mask has {reader.GetSize()} pixels, its slice {size}; resample it')
            array = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise InputError(f'{file}: damaged or not a PNG; replace the file') from error
    if array.ndim != 2 or array.dtype.kind != 'u':
        raise InputError(f'{file}: a colour image, not one value per pixel; convert it to grey values')
    return array
