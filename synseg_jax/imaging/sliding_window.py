"""Pictures and volumes at one spacing: a box cut about a place, overlapping tiles of what is larger than a network's
window, and the one window about the middle of what was found.

Axes are rows and columns, after slices in volumes.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from synseg_jax.imaging.arrays import Float, Shaped

WINDOWS = ('tiles', 'middle')  # what predict.window may be
PASSES = 2  # that look for the middle
OVERLAP = 0.5  # share of a window that neighbouring tiles share, at least
SIGMA = 1 / 8  # of the Gaussian that weighs a tile, in windows


def shape_at(shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: float) -> tuple[int, ...]:
    """How many voxels of `wanted_mm` a volume of `shape` fills."""
    return tuple(max(1, round(n * mm / wanted_mm)) for n, mm in zip(shape, spacing_mm, strict=True))


def middle(labels: Shaped[np.ndarray, '*space']) -> tuple[int, ...]:
    """The middle of the box that holds all that is not 0; of the volume where nothing is."""
    marked = np.nonzero(labels)
    if not len(marked[0]):
        return tuple(length // 2 for length in labels.shape)
    return tuple(int(axis.min() + axis.max() + 1) // 2 for axis in marked)


def held(centre: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The centre of a box of `size`, moved so far that the box stays inside whatever is as large; else the middle."""
    ends = zip(centre, size, shape, strict=True)
    return tuple(min(max(at, n // 2), m - n + n // 2) if n <= m else m // 2 for at, n, m in ends)


def cut(volume: Shaped[np.ndarray, '*shape'], centre: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The box of `size` about a voxel, whose further axes stay; what lies outside the volume is 0."""
    inside, to = _overlap(volume.shape, centre, size)
    box = np.zeros((*size, *volume.shape[len(size) :]), volume.dtype)
    box[to] = volume[inside]
    return box


def _overlap(shape, centre, size):
    """Where a box lies in a volume, and the same part of the box."""
    first = [at - length // 2 for at, length in zip(centre, size, strict=True)]
    ends = zip(first, size, shape, strict=False)
    inside = tuple(slice(max(0, at), max(0, min(at + n, m))) for at, n, m in ends)
    return inside, tuple(slice(part.start - at, part.stop - at) for part, at in zip(inside, first, strict=True))


def about_middle(
    votes_of: Callable[[np.ndarray], np.ndarray],
    volume: Float[np.ndarray, 'd h w c'],
    votes: Float[np.ndarray, 'd h w k'],
    window: Sequence[int],
) -> Float[np.ndarray, 'd h w k']:
    """Votes in the one window about the middle of the largest piece that `votes` find; all else is background.

    Records hold such windows alone, the middle that of the labels, and networks come to tell organs by their place.
    """
    from scipy.ndimage import label  # which those who ask for tiles need not have

    for _ in range(PASSES):
        pieces, count = label(votes.argmax(-1) > 0)
        if not count:
            break
        centre = middle(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())
        inside, part = _overlap(votes.shape, centre, window)
        votes = np.zeros_like(votes)
        votes[..., 0] = 1
        votes[inside] = votes_of(cut(volume, centre, window)[None])[0][part]
    return votes


def starts(length: int, window: int) -> list[int]:
    """Where tiles begin along an axis that is at least as long as the window, the first at 0, the last at its end."""
    room = length - window
    count = 1 + int(np.ceil(room / max(1, int(window * (1 - OVERLAP)))))
    return np.rint(np.linspace(0, room, count)).astype(int).tolist()


def weights(window: Sequence[int]) -> Float[np.ndarray, '*window']:
    """How much a tile counts at each of its voxels: a Gaussian about its middle, never 0."""
    total = np.ones((), np.float32)
    for length in window:
        at = (np.arange(length) - (length - 1) / 2) / (SIGMA * length)
        total = total[..., None] * np.exp(-(at**2) / 2).astype(np.float32)
    return np.maximum(total / total.max(), 1e-3)


def tiled(
    function: Callable[[np.ndarray], np.ndarray], stack: Float[np.ndarray, 'n *space c'], window: Sequence[int]
) -> Float[np.ndarray, 'n *space k']:
    """What `function`, which knows stacks of pictures or volumes `[n, *window, c]` alone, makes of those of any size.

    What has the window's size is seen whole, what is smaller with 0 about it, what is larger in overlapping tiles
    whose results are averaged by `weights`.
    """
    size = stack.shape[1:-1]
    missing = [max(0, n - m) for n, m in zip(window, size, strict=True)]
    if any(missing):
        stack = np.pad(stack, [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)])
    total = function(stack) if stack.shape[1:-1] == tuple(window) else _average(function, stack, window)
    return total[:, *(slice(n // 2, n // 2 + m) for n, m in zip(missing, size, strict=True))]


def _average(function, stack, window):
    weight = weights(window)[..., None]
    total, counted = None, np.zeros((*stack.shape[1:-1], 1), np.float32)
    for place in _places(stack.shape[1:-1], window):
        found = function(stack[:, *place])
        total = np.zeros((*stack.shape[:-1], found.shape[-1]), np.float32) if total is None else total
        total[:, *place] += weight * found
        counted[place] += weight
    total /= counted
    return total


def _places(shape, window) -> Iterator[tuple[slice, ...]]:
    axes = [starts(length, wide) for length, wide in zip(shape, window, strict=True)]
    for first in np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, len(axes)).tolist():
        yield tuple(slice(at, at + wide) for at, wide in zip(first, window, strict=True))
