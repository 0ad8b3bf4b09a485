"""Upright slices of a volume, and resizing.

Axes of a canonical volume run right->left, anterior->posterior, inferior->superior (LPS).  Slices are in radiological
convention: the patient's right on the left, the head or the belly up.
"""

from collections.abc import Sequence

import numpy as np

from synseg_jax.errors import known
from synseg_jax.imaging.arrays import Float, Shaped

# slice axis: volume axes that become (slices, rows, columns), and whether the rows run from the last to the first
VIEWS = {
    'axial': ((2, 1, 0), False),
    'coronal': ((1, 2, 0), True),
    'sagittal': ((0, 2, 1), True),
}
SIDES = {'axial': ('R', 'L'), 'coronal': ('R', 'L'), 'sagittal': ('A', 'P')}  # of the patient, left and right in slices


def to_stack(array: Shaped[np.ndarray, 'x y z *k'], slice_axis: str) -> Shaped[np.ndarray, 'n r c *k']:
    """Upright slices of a canonical volume along the slice axis; a view, not a copy.

    Axial: rows anterior->posterior, columns right->left.  Coronal: rows superior->inferior, columns
    right->left.  Sagittal: rows superior->inferior, columns anterior->posterior.
    """
    order, flipped = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    stack = array.transpose(*order, *range(3, array.ndim))
    return stack[:, ::-1] if flipped else stack


def from_stack(stack: Shaped[np.ndarray, 'n r c *k'], slice_axis: str) -> Shaped[np.ndarray, 'x y z *k']:
    """Inverse of `to_stack`: the canonical volume of upright slices; a view, not a copy."""
    order, flipped = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    upright = stack[:, ::-1] if flipped else stack
    return upright.transpose(*np.argsort(order), *range(3, stack.ndim))


def stack_spacing(spacing_mm: tuple[float, float, float], slice_axis: str) -> tuple[float, float, float]:
    """Spacing in mm of slices, rows and columns, from the spacing of the canonical volume's axes."""
    order, _ = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    return tuple(spacing_mm[axis] for axis in order)


def central_crop(size: tuple[int, int], share: float) -> tuple[slice, slice]:
    """The central `share`, in (0, 1], of the rows and columns of a slice of `size`."""
    kept = [max(1, round(length * share)) for length in size]
    first = [(length - part) // 2 for length, part in zip(size, kept, strict=True)]
    return tuple(slice(start, start + part) for start, part in zip(first, kept, strict=True))


def neighbours(kept: Sequence[int], context: int, step: float = 1.0) -> Float[np.ndarray, 'n k']:
    """Fractional positions in `kept` of each slice and of its `context` neighbours on either side.

    `kept` holds increasing slice indices; neighbours are `step` slices apart, clamped at the ends.  The position of a
    slice that was not kept is interpolated between those that were.
    """
    kept = np.asarray(kept, float)
    wanted = kept[:, None] + step * np.arange(-context, context + 1)
    positions = np.interp(wanted, kept, np.arange(len(kept)))
    return np.where(np.abs(positions - np.rint(positions)) < 1e-6, np.rint(positions), positions)


def with_neighbours(stack: Float[np.ndarray, 'n r c'], context: int, step: float = 1.0) -> Float[np.ndarray, 'n r c k']:
    """Each slice with its `neighbours` as channels, `context` on either side, `step` slices apart, interpolated."""
    positions = neighbours(range(len(stack)), context, step)
    lower = np.floor(positions).astype(int)
    share = (positions - lower).astype(np.float32)[:, :, None, None]
    below, above = stack[lower], stack[np.ceil(positions).astype(int)]
    return np.moveaxis((1 - share) * below + share * above, 1, -1)


def resize_linear(
    stack: Float[np.ndarray, 'n *space'], size: tuple[int, ...], antialias: bool = False
) -> Float[np.ndarray, 'n *space2']:
    """Resize slices to (rows, columns), or volumes to (slices, rows, columns), by linear interpolation, float32.

    Pixel centres lie at half-integers and edges are clamped, as in `torch.nn.functional.interpolate` with
    align_corners=False.  `antialias` smooths the axes that become shorter beforehand.
    """
    resized = np.asarray(stack, np.float32)
    if antialias:
        resized = _smoothed(resized, size)
    for axis, length in enumerate(size, 1):
        resized = _linear(resized, axis, length)
    return resized


def _smoothed(stack, size):
    """Gaussian of sigma (f - 1) / 2 pixels on axes that become f times shorter, as in `skimage.transform.resize`."""
    from scipy import ndimage  # here, since exported networks must run without scipy where they need none

    sigmas = [max(0.0, (old / new - 1) / 2) for old, new in zip(stack.shape[1:], size, strict=False)]
    axes = range(1, 1 + len(size))
    return ndimage.gaussian_filter(stack, sigmas, mode='nearest', axes=axes) if any(sigmas) else stack


def resize_nearest(stack: Shaped[np.ndarray, 'n *space'], size: tuple[int, ...]) -> Shaped[np.ndarray, 'n *space2']:
    """Resize slices or volumes by nearest neighbour, on the same grid as `resize_linear`."""
    for axis, length in enumerate(size, 1):
        stack = np.take(stack, _nearest(stack.shape[axis], length), axis=axis)
    return stack


def with_mask(
    images: Float[np.ndarray, 'n *space c'], labels: Shaped[np.ndarray, 'n *space']
) -> Float[np.ndarray, 'n *space c2']:
    """Images in [0, 1] with the foreground mask of the labels as an extra channel."""
    return np.concatenate([images, (labels[..., None] > 0).astype(images.dtype)], -1)


def resize(stack: Shaped[np.ndarray, 'n *space'], size: tuple[int, ...]) -> Shaped[np.ndarray, 'n *space2']:
    """Images [n, rows, columns, channels] resized linearly, integer labels [n, rows, columns] by nearest neighbour.

    Unchanged if `size` is empty.
    """
    if not size:
        return stack
    return resize_nearest(stack, size) if stack.dtype.kind in 'iu' else resize_linear(stack, size)


def _centres(old: int, new: int) -> Float[np.ndarray, ' new']:
    """Centres of the new pixels in coordinates of the old ones."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _nearest(old, new):
    # ties round up; the offset keeps that independent of the rounding of old / new
    return np.clip(np.floor(_centres(old, new) + 0.5 + 1e-9).astype(int), 0, old - 1)


def _linear(stack, axis, new):
    """Linear interpolation of `stack` to `new` pixels along one axis, in place to save memory."""
    old = stack.shape[axis]
    if old == new:
        return stack
    centres = np.clip(_centres(old, new), 0, old - 1)
    lower = np.minimum(centres.astype(int), max(old - 2, 0))
    upper = np.minimum(lower + 1, old - 1)
    share = (centres - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(stack.ndim)])
    result = np.take(stack, lower, axis)
    step = np.take(stack, upper, axis)
    step -= result
    step *= share
    result += step
    return result
