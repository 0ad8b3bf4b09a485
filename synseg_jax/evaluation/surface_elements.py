"""Surface elements of masks: the patches of marching cubes, and their areas in mm²."""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of a cell; the bits of its code, from the lowest
SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1))  # corners of a face, counter-clockwise


def element_areas(mask: Bool[np.ndarray, '*space'], spacing_mm: Sequence[float]) -> Float[np.ndarray, '*corners']:
    """Area of the surface element at every corner of a voxel, 0 where there is none; shape of the mask + 1.

    A cell spans the centres of the 2 x 2 x 2 voxels that meet at a corner; everything outside the array is outside the
    mask.  In 2-D the elements are pieces of the contour and have lengths in mm, in 1-D points that count 1.
    """
    missing = 3 - mask.ndim  # axes along which a plane or a line is the same everywhere
    padded = np.pad(mask, 1).astype(np.uint8)
    cells = np.broadcast_to(np.expand_dims(padded, (*range(mask.ndim, 3),)), (*padded.shape, *(2,) * missing))
    codes = np.zeros(np.subtract(cells.shape, 1), np.uint8)
    for bit, corner in enumerate(CORNERS):
        codes |= cells[tuple(slice(at, at + n) for at, n in zip(corner, codes.shape, strict=True))] << bit
    table = _areas((*map(float, spacing_mm), *(1.0,) * missing))
    return table[codes].reshape(np.add(mask.shape, 1))


@lru_cache
def _areas(spacing_mm) -> Float[np.ndarray, '256']:
    """Area of the patches in a cell by the code of its corners, a bit for each corner inside."""
    return np.array([sum(_area(np.multiply(loop, spacing_mm)) for loop in _loops(code)) for code in range(256)])


def _area(loop) -> float:
    """Area of a polygon in space that is divided into triangles from one of its corners; the largest for any of them.

    Patches of 5 and 6 corners are not flat, so that their area depends on the triangles.
    """
    return max(_fan(loop - corner) for corner in loop)


def _fan(loop) -> float:
    return np.linalg.norm(np.cross(loop, np.roll(loop, -1, 0)), axis=1).sum() / 2


def _loops(code) -> list[list[tuple[float, ...]]]:
    """Boundaries of the patches in a cell: the middles of edges that cross the surface, in order."""
    inside = {corner for bit, corner in enumerate(CORNERS) if code >> bit & 1}
    if len(inside) > 4:
        inside = set(CORNERS) - inside  # the same surface from its other side: what is rarer in a cell is cut off
    following = dict(segment for face in _faces() for segment in _segments(face, inside))
    loops = []
    while following:
        start, end = following.popitem()
        loops.append([start])
        while end != start:
            loops[-1].append(end)
            end = following.pop(end)
    return loops


def _faces() -> Iterator[list[tuple[int, ...]]]:
    """The corners of the six faces, counter-clockwise as seen from outside."""
    for axis, side in itertools.product(range(3), (0, 1)):
        face = [tuple(np.roll((side, u, v), axis).tolist()) for u, v in SQUARE]
        yield face if side else face[::-1]


def _segments(face, inside) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """(start, end) of the lines that cut the corners inside off a face, one for each run of them."""
    for at, corner in enumerate(face):
        if corner in inside and face[at - 1] not in inside:
            last = next(n for n in range(at, at + 4) if face[(n + 1) % 4] not in inside)
            yield _middle(face[at - 1], corner), _middle(face[last % 4], face[(last + 1) % 4])


def _middle(one, other) -> tuple[float, ...]:
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))
