"""Contours of an RTSTRUCT as masks on the grid of the DICOM series that they were drawn on."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Bool, Float

from synseg_jax.data import dicom
from synseg_jax.data.dicom_pixels import guarded
from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError

SOP_CLASS = '1.2.840.10008.5.1.4.1.1.481.3'
OFF_PLANE = 0.2  # share of a slice's distance that a contour may lie beside it


def named(path: Path) -> dict[int, str]:
    """{number: name} of the contours in an RTSTRUCT file, or in the one that a folder holds; empty for other things."""
    read = _open(path)
    if read is None:
        return {}
    with guarded(path):
        return {int(roi.ROINumber): str(roi.get('ROIName', '')) for roi in read.get('StructureSetROISequence', [])}


def referenced(path: Path) -> set[str]:
    """The UIDs of the series that an RTSTRUCT was drawn on, as far as it names them."""
    with guarded(path):
        return _referenced_series(_open(path))


def mask(path: Path, number: int, image: Path, scan: Volume) -> Bool[np.ndarray, 'x y z']:
    """The voxels of a series whose centres lie inside the contours of one number; contours within others are holes.

    InputError where contours refer to images that the series lacks, or lie beside its slices.
    """
    found = np.zeros(scan.array.shape, bool)
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine)
    for points in _contours(path, number, image):
        placed = points @ inverse[:3, :3].T + inverse[:3, 3]
        depth = int(np.rint(placed[:, 2].mean()))
        if np.abs(placed[:, 2] - depth).max() > OFF_PLANE or not 0 <= depth < found.shape[2]:
            raise InputError(f'{path}: contour {number} lies beside the slices of {image}; it was drawn on others')
        found[:, :, depth] ^= _inside(placed[:, :2], found.shape[:2])
    return found


def _inside(corners, shape) -> Bool[np.ndarray, 'x y']:
    """The pixels whose centres a polygon holds: every edge that is crossed along x leads in or out."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, 0).T
    ends = np.clip(np.ceil(np.sort([y, next_y], 0)), 0, shape[1]).astype(int)
    counts = ends[1] - ends[0]  # of the rows that each edge crosses
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - ends[0], counts)
    crossing = x[edge] + (row - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    crossed = np.zeros((shape[0] + 1, shape[1]), bool)
    np.logical_xor.at(crossed, (np.clip(np.ceil(crossing), 0, shape[0]).astype(int), row), True)
    return np.logical_xor.accumulate(crossed[:-1])


def _contours(path, number, image) -> list[Float[np.ndarray, 'n 3']]:
    """The corners (LPS mm) of the closed contours of one number, drawn on images that are known to be the series'."""
    frames, read = dicom.slices(image), _open(path)
    own = str(dicom.header(frames[0].file).get('SeriesInstanceUID', ''))
    with guarded(path):
        closed = [c for c in _drawn(read, number) if c.get('ContourGeometricType') == 'CLOSED_PLANAR']
        meant = {str(one.ReferencedSOPInstanceUID) for c in closed for one in c.get('ContourImageSequence', [])}
        series = _referenced_series(read)
        corners = [_corners(path, contour) for contour in closed]
    if elsewhere := meant - {frame.uid for frame in frames}:
        raise InputError(
            f'{path}: contours refer to {len(elsewhere)} images that {image} lacks; bring the whole series'
        )
    if series and own not in series:
        raise InputError(f'{path}: was drawn on another series than {image}; give the one it refers to')
    return corners


def _corners(path, contour) -> Float[np.ndarray, 'n 3']:
    points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
    if len(points) != int(contour.get('NumberOfContourPoints') or len(points)):
        raise InputError(f'{path}: a contour of {len(points)} points says that it has others; replace the file')
    return points


def _drawn(read, number) -> list[pydicom.Dataset]:
    """All contours of one number."""
    rois = [roi for roi in read.get('ROIContourSequence', []) if int(roi.get('ReferencedROINumber', -1)) == number]
    return [contour for roi in rois for contour in roi.get('ContourSequence', [])]


def _referenced_series(read) -> set[str]:
    return {
        str(series.get('SeriesInstanceUID', ''))
        for frame in read.get('ReferencedFrameOfReferenceSequence', [])
        for study in frame.get('RTReferencedStudySequence', [])
        for series in study.get('RTReferencedSeriesSequence', [])
    }


def _open(path) -> pydicom.Dataset | None:
    """The RTSTRUCT, None where the file or folder holds none."""
    if path.is_dir():
        found = [
            read for file in sorted(path.iterdir()) if file.is_file() and (read := _read(file, file.stat().st_mtime_ns))
        ]
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
