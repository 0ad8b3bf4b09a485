"""Sliding-window inference and crops of slices [r, c] and volumes [d, h, w]."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from synseg_jax.imaging.arrays import Float, Shaped

WINDOWS = ('tiles', 'middle')  # values of predict.window
PASSES = 2  # iterations of `about_middle`
OVERLAP = 0.5  # minimum overlap of neighbouring tiles, as a share of the window
SIGMA = 1 / 8  # of the Gaussian tile weights, as a share of the window (nnU-Net's)


def shape_at(shape: Sequence[int], spacing_mm: Sequence[float], new_mm: float) -> tuple[int, ...]:
    """The shape of a volume after resampling from `spacing_mm` to isotropic `new_mm`."""
    return tuple(max(1, round(n * mm / new_mm)) for n, mm in zip(shape, spacing_mm, strict=True))


def box_centre(labels: Shaped[np.ndarray, '*space']) -> tuple[int, ...]:
    """The centre of the bounding box of the foreground; of the array if there is none."""
    foreground = np.nonzero(labels)
    if not len(foreground[0]):
        return tuple(length // 2 for length in labels.shape)
    return tuple(int(axis.min() + axis.max() + 1) // 2 for axis in foreground)


def clamp_centre(centre: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """`centre` clamped so that a box of `size` lies inside `shape`; the middle on axes shorter than the box."""
    axes = zip(centre, size, shape, strict=True)
    return tuple(min(max(at, n // 2), m - n + n // 2) if n <= m else m // 2 for at, n, m in axes)


def crop(volume: Shaped[np.ndarray, '*shape'], centre: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The box of `size` about a voxel, zero-padded outside the volume; trailing axes are kept."""
    source, target = overlap(volume.shape, centre, size)
    box = np.zeros((*size, *volume.shape[len(size) :]), volume.dtype)
    box[target] = volume[source]
    return box


def overlap(
    shape: Sequence[int], centre: Sequence[int], size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The overlap of a box with a volume, as slices of the volume and as slices of the box."""
    first = [at - length // 2 for at, length in zip(centre, size, strict=True)]
    axes = zip(first, size, shape, strict=False)
    source = tuple(slice(max(0, at), max(0, min(at + n, m))) for at, n, m in axes)
    return source, tuple(slice(part.start - at, part.stop - at) for part, at in zip(source, first, strict=True))


def about_middle(
    network: Callable[[np.ndarray], np.ndarray],
    volume: Float[np.ndarray, 'd h w c'],
    probabilities: Float[np.ndarray, 'd h w k'],
    window: Sequence[int],
) -> Float[np.ndarray, 'd h w k']:
    """Probabilities in one window centred on the largest connected component of a first prediction; else background.

    Training crops are centred on the labels, so that networks learn to rely on the organs' position in the window.
    """
    from scipy.ndimage import label  # here, since predictions in tiles must not need scipy

    for _ in range(PASSES):
        components, count = label(probabilities.argmax(-1) > 0)
        if not count:
            break
        centre = box_centre(components == 1 + np.bincount(components.ravel())[1:].argmax())
        target, part = overlap(probabilities.shape, centre, window)
        probabilities = np.zeros_like(probabilities)
        probabilities[..., 0] = 1
        probabilities[target] = network(crop(volume, centre, window)[None])[0][part]
    return probabilities


def tile_starts(length: int, window: int) -> list[int]:
    """First indices of evenly spaced tiles along an axis of at least `window`; the last tile ends with the axis."""
    room = length - window
    count = 1 + int(np.ceil(room / max(1, int(window * (1 - OVERLAP)))))
    return np.rint(np.linspace(0, room, count)).astype(int).tolist()


def tile_weights(window: Sequence[int]) -> Float[np.ndarray, '*window']:
    """Gaussian weights of a tile's voxels in the average of overlapping tiles, at least 0.001."""
    total = np.ones((), np.float32)
    for length in window:
        at = (np.arange(length) - (length - 1) / 2) / (SIGMA * length)
        total = total[..., None] * np.exp(-(at**2) / 2).astype(np.float32)
    return np.maximum(total / total.max(), 1e-3)


def tiled(
    function: Callable[[np.ndarray], np.ndarray], stack: Float[np.ndarray, 'n *space c'], window: Sequence[int]
) -> Float[np.ndarray, 'n *space k']:
    """Apply `function`, which takes `[n, *window, c]`, to slices or volumes of any size by sliding windows.

    Axes shorter than the window are zero-padded; overlapping tiles of longer ones are averaged with `tile_weights`.
    """
    size = stack.shape[1:-1]
    padding = [max(0, n - m) for n, m in zip(window, size, strict=True)]
    if any(padding):
        stack = np.pad(stack, [(0, 0), *((n // 2, n - n // 2) for n in padding), (0, 0)])
    result = function(stack) if stack.shape[1:-1] == tuple(window) else _average(function, stack, window)
    return result[:, *(slice(n // 2, n // 2 + m) for n, m in zip(padding, size, strict=True))]


def _average(function, stack, window):
    weight = tile_weights(window)[..., None]
    total, weight_sum = None, np.zeros((*stack.shape[1:-1], 1), np.float32)
    for tile in _tiles(stack.shape[1:-1], window):
        result = function(stack[:, *tile])
        total = np.zeros((*stack.shape[:-1], result.shape[-1]), np.float32) if total is None else total
        total[:, *tile] += weight * result
        weight_sum[tile] += weight
    total /= weight_sum
    return total


def _tiles(shape, window) -> Iterator[tuple[slice, ...]]:
    axes = [tile_starts(length, wide) for length, wide in zip(shape, window, strict=True)]
    for first in np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, len(axes)).tolist():
        yield tuple(slice(at, at + wide) for at, wide in zip(first, window, strict=True))
