"""Upright pictures out of a volume and back, and their size in pixels.

Axes of a canonical volume run right->left, anterior->posterior, inferior->superior.  Pictures are shown
as radiologists look at them: the patient's right on the left, the head or the belly up.
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


def to_stack(array: Shaped[np.ndarray, 'x y z *k'], slice_axis: str) -> Shaped[np.ndarray, 'n r c *k']:
    """Upright pictures of a canonical volume, one for each index along the slice axis; a view, not a copy.

    Axial: rows anterior->posterior, columns right->left.  Coronal: rows superior->inferior, columns
    right->left.  Sagittal: rows superior->inferior, columns anterior->posterior.
    """
    order, flipped = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    stack = array.transpose(*order, *range(3, array.ndim))
    return stack[:, ::-1] if flipped else stack


def from_stack(stack: Shaped[np.ndarray, 'n r c *k'], slice_axis: str) -> Shaped[np.ndarray, 'x y z *k']:
    """The canonical volume that `to_stack` makes these pictures of; a view, not a copy."""
    order, flipped = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    upright = stack[:, ::-1] if flipped else stack
    return upright.transpose(*np.argsort(order), *range(3, stack.ndim))


def stack_spacing(spacing_mm: tuple[float, float, float], slice_axis: str) -> tuple[float, float, float]:
    """Spacing in mm between slices, rows and columns, from that of the canonical volume's axes."""
    order, _ = VIEWS[known('slice_axis', slice_axis, VIEWS)]
    return tuple(spacing_mm[axis] for axis in order)


def centre(size: tuple[int, int], share: float) -> tuple[slice, slice]:
    """The central `share`, in (0, 1], of the rows and columns of a picture of `size`."""
    kept = [max(1, round(length * share)) for length in size]
    first = [(length - part) // 2 for length, part in zip(size, kept, strict=True)]
    return tuple(slice(start, start + part) for start, part in zip(first, kept, strict=True))


def neighbours(kept: Sequence[int], context: int, step: float = 1.0) -> Float[np.ndarray, 'n k']:
    """Where each slice and its `context` neighbours on either side lie in `kept`, in fractions of an entry.

    `kept` holds rising indices of slices; neighbours are `step` slices apart.  Beyond the ends the end is repeated, and
    a slice that is not kept lies between those that are.
    """
    kept = np.asarray(kept, float)
    wanted = kept[:, None] + step * np.arange(-context, context + 1)
    places = np.interp(wanted, kept, np.arange(len(kept)))
    return np.where(np.abs(places - np.rint(places)) < 1e-6, np.rint(places), places)


def with_neighbours(stack: Float[np.ndarray, 'n r c'], context: int, step: float = 1.0) -> Float[np.ndarray, 'n r c k']:
    """Each picture with its `neighbours` as channels, `context` on either side and `step` pictures apart."""
    places = neighbours(range(len(stack)), context, step)
    lower = np.floor(places).astype(int)
    share = (places - lower).astype(np.float32)[:, :, None, None]
    near, beyond = stack[lower], stack[np.ceil(places).astype(int)]
    return np.moveaxis((1 - share) * near + share * beyond, 1, -1)


def resize_linear(stack: Float[np.ndarray, 'n *space'], size: tuple[int, ...]) -> Float[np.ndarray, 'n *space2']:
    """Pictures of `size` (rows, columns), or volumes of (slices, rows, columns), by linear interpolation, float32.

    Pixel centres lie at half-integers and edges are clamped, as in `torch.nn.functional.interpolate`
    with align_corners=False; nothing is smoothed before it shrinks.
    """
    resized = np.asarray(stack, np.float32)
    for axis, length in enumerate(size, 1):
        resized = _linear(resized, axis, length)
    return resized


def resize_nearest(stack: Shaped[np.ndarray, 'n *space'], size: tuple[int, ...]) -> Shaped[np.ndarray, 'n *space2']:
    """Pictures or volumes of `size` by the nearest sample, on the same grid as `resize_linear`."""
    for axis, length in enumerate(size, 1):
        stack = np.take(stack, _nearest(stack.shape[axis], length), axis=axis)
    return stack


def with_mask(
    images: Float[np.ndarray, 'n *space c'], labels: Shaped[np.ndarray, 'n *space']
) -> Float[np.ndarray, 'n *space c2']:
    """Images in [0, 1] with one more channel, 1 where anything is labelled."""
    return np.concatenate([images, (labels[..., None] > 0).astype(images.dtype)], -1)


def fitted(stack: Shaped[np.ndarray, 'n *space'], size: tuple[int, ...]) -> Shaped[np.ndarray, 'n *space2']:
    """Images [n, rows, columns, channels] or uint8 labels [n, rows, columns] at `size`; as they are, if it is empty."""
    if not size:
        return stack
    return resize_nearest(stack, size) if stack.dtype == np.uint8 else resize_linear(stack, size)


def _centres(old: int, new: int) -> Float[np.ndarray, ' new']:
    """Positions of the new pixels' centres, in old pixels."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _nearest(old, new):
    # ties go up; the small push keeps them there whatever the rounding of the quotient
    return np.clip(np.floor(_centres(old, new) + 0.5 + 1e-9).astype(int), 0, old - 1)


def _linear(stack, axis, new):
    """`stack` with `new` pixels along one axis, each a mean of two neighbours."""
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
