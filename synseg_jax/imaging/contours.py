"""Contours of masks: closed polygons between the pixel centres of one slice."""

from collections.abc import Iterator

import contourpy
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

# How far along an edge a channel begins and ends: unlike each other, so that hardly any leads through a pixel centre.
MOUTHS = (0.3141, 0.4327)


def contours(mask: Bool[np.ndarray, 'x y']) -> list[Float[np.ndarray, 'n 2']]:
    """A polygon (x, y) in pixels for each connected piece of a mask, without the first point repeated at the end.

    The lines run half-way between pixel centres inside and outside, by marching squares, so that exactly the centres of
    the mask lie inside.  Holes are joined to the outline by a channel without width (keyhole technique, DICOM PS3.3
    C.8.8.6.3): the outline runs counter-clockwise, holes clockwise, hence even-odd and non-zero filling agree.
    """
    padded = np.pad(mask, 1).T.astype(float)  # contourpy has rows first
    x, y = (np.arange(-1, n + 1) for n in mask.shape)
    generator = contourpy.contour_generator(x, y, padded, fill_type='OuterOffset')
    found = zip(*generator.filled(0.5, 1.5), strict=True)
    return [_simplified(_keyhole(np.split(points, ends[1:-1].astype(int)))) for points, ends in found]


def _keyhole(rings) -> Float[np.ndarray, 'n 2']:
    """One ring out of an outline and its holes, each joined where it is nearest to the outline; they come closed."""
    outline, *holes = (ring[:-1] for ring in rings)
    mouths, last, parts = _between(outline, MOUTHS[0]), 0, []
    for at, detour in sorted(_detours(mouths, holes), key=lambda found: found[0]):
        parts += [outline[last : at + 1], detour]
        last = at + 1
    return np.concatenate([*parts, outline[last:]])


def _detours(mouths, holes) -> Iterator[tuple[int, Float[np.ndarray, 'm 2']]]:
    """(edge of the outline, the way from it through a channel around a hole and back) of each hole."""
    tree = KDTree(mouths) if holes else None
    for hole in holes:
        ends = _between(hole, MOUTHS[1])
        distances, nearest = tree.query(ends)
        end = int(distances.argmin())
        channel = np.stack([mouths[nearest[end]], ends[end]])
        yield int(nearest[end]), np.concatenate([channel, np.roll(hole, -end - 1, axis=0), channel[::-1]])


def _between(ring, share) -> Float[np.ndarray, 'n 2']:
    """A point on the way from each point of a ring to the next."""
    return ring + share * (np.roll(ring, -1, axis=0) - ring)


def _simplified(ring) -> Float[np.ndarray, 'n 2']:
    """Without doubles and points on a straight way to the next; exact, as coordinates but of channels are halves."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (before * after).sum(1) < 0  # the far end of a channel
    return ring[turns | back]
