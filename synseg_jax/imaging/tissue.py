"""Where a scan is darker or brighter than any organ in it: air and, in CT, fat, bone and contrast medium."""

from collections.abc import Sequence

import numpy as np

from synseg_jax.imaging.arrays import Bool, Float

SIGMA_MM = 1.5  # of the Gaussian that smooths noise within slices: a voxel of an organ lies beyond now and then
REACH = 3  # deviations of the kernel to either side


def beyond(
    stack: Float[np.ndarray, 'n *space'], pixel_mm: Sequence[float], darkest: float, brightest: float
) -> Bool[np.ndarray, 'n *space']:
    """The pixels of slices or volumes in [0, 1], smoothed, outside of a range; `pixel_mm` of each axis of space."""
    smooth = stack
    for axis, mm in enumerate(pixel_mm, 1):
        smooth = _smoothed(smooth, axis, SIGMA_MM / mm)
    return (smooth < darkest) | (smooth > brightest)


def _smoothed(stack, axis, sigma):
    """Smoothed along an axis by a Gaussian with a deviation of `sigma` pixels; the border is repeated."""
    reach = int(np.ceil(REACH * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(stack.dtype)
    padded = np.pad(stack, [(reach, reach) if one == axis else (0, 0) for one in range(stack.ndim)], 'edge')
    length, smooth = stack.shape[axis], np.zeros_like(stack)
    for first, weight in enumerate(weights):
        smooth += weight * padded[(slice(None),) * axis + (slice(first, first + length),)]
    return smooth
