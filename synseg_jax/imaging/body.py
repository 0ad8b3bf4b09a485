"""Where the body lies in a scan, found without labels; the window that networks see lies about its middle."""

import numpy as np

from synseg_jax.imaging import intensity
from synseg_jax.imaging.arrays import Bool, Float, Shaped

PIXEL_MM = 4.0  # the mask is coarse: averaged over noise, and quick
OPENING_MM = 8.0  # reach of the opening: parts up to twice as thick, such as tables and tubes, are cut off
PART = 0.2  # of the largest component: both legs, and tissue that dark muscle divides, but neither arms nor table
LEAST = 0.1  # share of the slices that a row or column must show the body in
AIR_HU, FAT_HU = -1000.0, -100.0
BINS = 256

Bounds = tuple[tuple[float, float], ...]  # first and last, of every axis, as shares of its length
Window = tuple[tuple[int, ...], tuple[int, ...]]  # centre and size, in voxels


def bounds(stack: Shaped[np.ndarray, 'n r c'], spacing_mm: tuple[float, float, float], channel: str) -> Bounds | None:
    """The box about the body in a scan of a modality, intensities as stored; None if there is no body.

    Of slices, rows and columns; rows and columns that few slices show, such as those of ghosts, are left out.
    """
    steps = [max(1, round(PIXEL_MM / mm)) for mm in spacing_mm]
    pixels_mm = [step * mm for step, mm in zip(steps, spacing_mm, strict=True)]
    found = mask(_averaged(stack, steps), pixels_mm, channel)
    if not found.any():
        return None
    often = found.sum(0) > LEAST * np.count_nonzero(found.any((1, 2)))
    profiles = found.any((1, 2)), often.any(1), often.any(0)
    axes = zip(profiles, steps, stack.shape, strict=True)
    return tuple(
        (part[0] * step / n, min(1.0, (part[-1] + 1) * step / n))
        for part, step, n in ((np.flatnonzero(profile), step, n) for profile, step, n in axes)
    )


def mask(coarse: Float[np.ndarray, 'n r c'], pixels_mm: list[float], channel: str) -> Bool[np.ndarray, 'n r c']:
    """What is brighter than air, and what it encloses, after an opening, without small connected components.

    Empty if there is none.
    """
    from scipy import ndimage  # here, since exported networks must run without scipy where they need no body

    bright = coarse > (hu_threshold(coarse) if intensity.is_ct(channel) else otsu(coarse))
    # fat encloses organs that are as dark as air, such as the liver in some MR
    bright = ndimage.binary_fill_holes(bright, ndimage.generate_binary_structure(2, 1)[None])
    widths = [2 * round(OPENING_MM / mm) + 1 for mm in pixels_mm]
    # beyond the field of view the body goes on ('nearest'): eroding from there would wear away thin scans
    kept = ndimage.maximum_filter(ndimage.minimum_filter(bright, widths, mode='nearest'), widths, mode='nearest')
    parts, _ = ndimage.label(kept)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return (sizes > PART * sizes.max())[parts]


def hu_threshold(array: Float[np.ndarray, '*space']) -> float:
    """Halfway between air, or the least value of a CT whose values were clipped above it, and fat."""
    air = max(float(array.min()), AIR_HU)
    return max(air, (air + FAT_HU) / 2)


def otsu(array: Float[np.ndarray, '*space']) -> float:
    """Otsu's threshold (1979) of the values up to their mean, beyond which no air lies.

    Of all values it lies between dark and bright tissue: fat is dark where it is suppressed, and coils are far.
    """
    low, mean = float(np.percentile(array, 1)), float(array.mean())
    if not low < mean:
        return float(array.max())
    counts, edges = np.histogram(np.clip(array, low, mean), BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = counts.cumsum()[:-1], counts[::-1].cumsum()[::-1][1:]
    sums = (counts * centres).cumsum()[:-1]
    difference = sums / below - ((counts * centres).sum() - sums) / above
    return float(edges[1:-1][(below * above * difference**2).argmax()])


def window(found: Bounds | None, size: tuple[int, ...], shape: tuple[int, ...]) -> Window:
    """The window about the middle of the body in an array of `shape`: of `size`, or the body's where that is larger.

    It may reach beyond the array.  Without a body, the whole array.
    """
    centre, wide = [], []
    for (low, high), least, length in zip(found or ((0.0, 1.0),) * len(shape), size, shape, strict=True):
        first, last = int(np.floor(low * length)), int(np.ceil(high * length))
        centre.append((first + last) // 2)
        wide.append(max(least, last - first))
    return tuple(centre), tuple(wide)


def _averaged(stack, steps) -> Float[np.ndarray, 'n r c']:
    """Every so many-th slice, averaged over blocks of rows and columns."""
    coarse = stack[:: steps[0]]
    for axis, step in enumerate(steps[1:], 1):
        first = np.arange(0, coarse.shape[axis], step)
        counts = np.diff(first, append=coarse.shape[axis]).astype(np.float32)
        coarse = np.add.reduceat(coarse, first, axis, np.float32) / np.expand_dims(counts, (0, 3 - axis))
    return coarse
