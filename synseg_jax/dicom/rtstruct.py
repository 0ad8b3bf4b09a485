"""Contours of RT Structure Sets as masks on the grid of the DICOM series that they were drawn on."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Bool, Float

from synseg_jax.dicom import series as dicom
from synseg_jax.dicom.pixels import guarded
from synseg_jax.errors import InputError, warn
from synseg_jax.imaging.volume import Volume

SOP_CLASS = '1.2.840.10008.5.1.4.1.1.481.3'
CLOSED = ('CLOSED_PLANAR', 'CLOSEDPLANAR_XOR')  # nested contours are holes with both
CORNERS = 3  # least number of points of a closed contour
OFF_PLANE = 0.2  # fraction of the slice distance that a contour may lie off its slice
FAR_MM = 1e6  # from the origin: no patient is there


def is_rtstruct(path: Path) -> bool:
    """Whether a path is an RTSTRUCT file, or a folder with one."""
    return _open(path) is not None


def named(path: Path) -> dict[int, str]:
    """{number: name} of the ROIs of an RTSTRUCT file, or of the one in a folder; empty for other paths."""
    read = _open(path)
    if read is None:
        return {}
    with guarded(path):
        return {int(roi.ROINumber): str(roi.get('ROIName', '')) for roi in read.get('StructureSetROISequence') or []}


def outlined(path: Path, numbers: Iterable[int]) -> set[int]:
    """The ROIs among `numbers` with closed contours; warns of others, and of ROIs with open ones."""
    names, read = named(path), _open(path)
    with guarded(path):
        found = {number for number in numbers if _say_open(path, names[number], _contours(read, number))}
        _say_nameless(path, read, names)
    return found


def referenced(path: Path) -> set[str]:
    """UIDs of the series that an RTSTRUCT refers to."""
    with guarded(path):
        return _referenced_series(_open(path))


def mask(path: Path, number: int, image: Path, scan: Volume) -> Bool[np.ndarray, 'x y z']:
    """Mask of the voxels whose centres lie inside the contours of an ROI, by even-odd filling: nested ones are holes.

    Warns of contours that contain no voxel centre.  InputError for contours that refer to images outside the series,
    lie between its slices, or have invalid coordinates.
    """
    found = np.zeros(scan.array.shape, bool)
    contours, missed = polygons(path, number, image, scan), 0
    for depth, corners in contours:
        inside = _inside(corners, found.shape[:2])
        missed += not inside.any()
        found[:, :, depth] ^= inside
    if missed:
        warn(
            '%s: %d of %d contours of ROI %r hold no voxel of %s; they lie outside it or are smaller than a voxel',
            *(path, missed, len(contours), named(path)[number], image),
        )
    return found


def polygons(path: Path, number: int, image: Path, scan: Volume) -> list[tuple[int, Float[np.ndarray, 'n 2']]]:
    """(slice index, vertices in voxels) of the closed contours of an ROI on the series' grid; errors as in `mask`."""
    name, inverse = named(path)[number], np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine)
    found = []
    for points in _points(path, number, image):
        placed = points @ inverse[:3, :3].T + inverse[:3, 3]
        depth = int(np.rint(placed[:, 2].mean()))
        if np.abs(placed[:, 2] - depth).max() > OFF_PLANE or not 0 <= depth < scan.array.shape[2]:
            raise InputError(f'{path}: contours of ROI {name!r} lie beside the slices of {image}; give their series')
        found.append((depth, placed[:, :2]))
    return found


def _inside(corners, shape) -> Bool[np.ndarray, 'x y']:
    """Pixels whose centres lie inside a polygon, by the even-odd rule along x."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, 0).T
    ends = np.clip(np.ceil(np.sort([y, next_y], 0)), 0, shape[1]).astype(int)
    counts = ends[1] - ends[0]  # number of rows that each edge crosses
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - ends[0], counts)
    crossing = x[edge] + (row - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    crossed = np.zeros((shape[0] + 1, shape[1]), bool)
    np.logical_xor.at(crossed, (np.clip(np.ceil(crossing), 0, shape[0]).astype(int), row), True)
    return np.logical_xor.accumulate(crossed[:-1])


def _points(path, number, image) -> list[Float[np.ndarray, 'n 3']]:
    """Vertices (LPS mm) of the closed contours of an ROI; InputError if they refer to another series."""
    frames, read, name = dicom.slices(image), _open(path), named(path)[number]
    own = str(dicom.header(frames[0].file).get('SeriesInstanceUID', ''))
    with guarded(path):
        closed = [contour for contour in _contours(read, number) if _closed(contour)]
        meant = {str(one.ReferencedSOPInstanceUID) for c in closed for one in c.get('ContourImageSequence') or []}
        series = _referenced_series(read)
        points = [_corners(path, name, contour) for contour in closed]
    if elsewhere := meant - {frame.uid for frame in frames}:
        raise InputError(
            f'{path}: contours of ROI {name!r} refer to {len(elsewhere)} images that {image} lacks; '
            'bring the whole series'
        )
    if series and own not in series:
        raise InputError(f'{path}: was drawn on another series than {image}; give the one it refers to')
    return _once(path, name, points)


def _once(path, name, points) -> list[Float[np.ndarray, 'n 3']]:
    """Contours without duplicates, which even-odd filling would cancel."""
    different = list({one.tobytes(): one for one in points}.values())
    if len(different) < len(points):
        copies = len(points) - len(different)
        warn('%s: %d contours of ROI %r are copies of others; each counts once', path, copies, name)
    return different


def _corners(path, name, contour) -> Float[np.ndarray, 'n 3']:
    points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
    if len(points) != int(contour.get('NumberOfContourPoints') or len(points)):
        raise InputError(
            f'{path}: a contour of ROI {name!r} has {len(points)} points, not NumberOfContourPoints; replace the file'
        )
    if not (np.abs(points) < FAR_MM).all():
        raise InputError(
            f'{path}: a contour of ROI {name!r} has points that are not finite or kilometres away; replace the file'
        )
    return points


def _contours(read, number) -> list[pydicom.Dataset]:
    """All contours of an ROI."""
    rois = [roi for roi in read.get('ROIContourSequence') or [] if _number(roi) == number]
    return [contour for roi in rois for contour in roi.get('ContourSequence') or []]


def _number(roi) -> int:
    return int(roi.get('ReferencedROINumber', -1))


def _closed(contour) -> bool:
    return contour.get('ContourGeometricType') in CLOSED and len(contour.get('ContourData') or []) >= 3 * CORNERS


def _say_open(path, name, contours) -> int:
    """Number of closed contours of an ROI; warns of open ones, and if there are none at all."""
    others = Counter(str(contour.get('ContourGeometricType')) for contour in contours if not _closed(contour))
    told = ', '.join(f'{count} {kind}' for kind, count in others.items())
    if not contours:
        warn('%s: ROI %r has no contours; nothing is labelled by it', path, name)
    elif others:
        warn('%s: of the contours of ROI %r some enclose nothing and are passed over: %s', path, name, told)
    return len(contours) - others.total()


def _say_nameless(path, read, names) -> None:
    """Warns of contours of ROIs without a name, which no class can refer to."""
    for number in sorted({_number(roi) for roi in read.get('ROIContourSequence') or []} - names.keys()):
        warn('%s: contours of ROI number %d, which has no name; they are passed over', path, number)


def _referenced_series(read) -> set[str]:
    return {
        str(series.get('SeriesInstanceUID', ''))
        for frame in read.get('ReferencedFrameOfReferenceSequence') or []
        for study in frame.get('RTReferencedStudySequence') or []
        for series in study.get('RTReferencedSeriesSequence') or []
    }


def _open(path) -> pydicom.Dataset | None:
    """The RTSTRUCT of a file or folder, None if there is none."""
    if path.is_dir():
        found = [read for file in dicom.listed(path) if (read := _read(file, file.stat().st_mtime_ns))]
        if len(found) > 1:
            raise InputError(f'{path}: holds {len(found)} RTSTRUCT; name one of the files')
        return found[0] if found else None
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=8)
def _read(file, _):
    if not dicom.is_dicom(file):
        return None
    read = dicom.header(file)
    return read if str(read.get('SOPClassUID', '')) == SOP_CLASS else None
