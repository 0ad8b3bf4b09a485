"""Rotation within slices and zoom about the centre by linear interpolation; numpy alone."""

import numpy as np

from synseg_jax.imaging.arrays import Float


def rotated(stack: Float[np.ndarray, 'n *space c'], degrees: float) -> Float[np.ndarray, 'n *space c']:
    """Slices, or the slices of volumes, rotated about their centre; 0 from outside.

    Pixels count as square, as in augmentation; the inverse is a rotation by -`degrees`.
    """
    rows, columns, channels = stack.shape[-3:]
    pixels = stack.reshape(-1, rows * columns, channels)
    corners = list(_corners(rows, columns, np.deg2rad(degrees)))
    result = np.zeros(pixels.shape, np.float32)
    for image, target in zip(pixels, result, strict=True):  # one at a time, to save memory
        for index, weight in corners:
            target += weight * image[index]
    return result.reshape(stack.shape)


def zoomed(stack: Float[np.ndarray, 'n *space c'], factor: float) -> Float[np.ndarray, 'n *space c']:
    """Slices or volumes enlarged by `factor` about their centre along all their axes; 0 from outside."""
    for axis in range(1, stack.ndim - 1):
        length = stack.shape[axis]
        positions = (np.arange(length) - (length - 1) / 2) / factor + (length - 1) / 2
        stack = sum(np.take(stack, index, axis) * _along(axis, stack.ndim, weight)
                    for index, weight in _ends(positions, length))  # fmt: skip
    return stack


def _corners(rows, columns, angle):
    """(index of a pixel, its weight [n, 1]) for the four pixels around the source of each pixel."""
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (rows, columns)), indexing='ij')
    source_y = (np.cos(angle) * y - np.sin(angle) * x + (rows - 1) / 2).ravel()
    source_x = (np.sin(angle) * y + np.cos(angle) * x + (columns - 1) / 2).ravel()
    for row, share in _ends(source_y, rows):
        for column, part in _ends(source_x, columns):
            yield row * columns + column, (share * part)[:, None]


def _ends(positions, length):
    """(index, weight) of the grid points below and above each position; weight 0 outside the grid."""
    below = np.floor(positions).astype(int)
    share = (positions - below).astype(np.float32)
    for index, weight in ((below, 1 - share), (below + 1, share)):
        inside = (index >= 0) & (index < length)
        yield np.clip(index, 0, length - 1), np.where(inside, weight, np.float32(0))


def _along(axis, rank, values):
    """`values` shaped to be broadcast along one of `rank` axes."""
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
