"""Grids without shear: scans of a tilted gantry, and what was found on them, resampled to axes at right angles."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from synseg_jax.formats import scan_file
from synseg_jax.formats.nifti import is_sheared
from synseg_jax.imaging.arrays import Float, Shaped
from synseg_jax.imaging.volume import Volume

DIGITS = 9  # of voxel indices: rounding must not push a voxel of the border out of the grid


def straighten(scan: Volume, labels: bool = False) -> Volume:
    """The scan on a grid without shear that covers it; itself where it has none.

    Linear interpolation, or with `labels` the nearest voxel; outside lies 0 around labels, else the lowest value.
    Slices stay where they are and whole: the axis of the thickest voxels is the one that is turned.
    """
    if not is_sheared(scan.affine, scan.array.shape):
        return scan
    affine, shape = _around(scan.affine, scan.array.shape)
    move = np.round(np.linalg.inv(scan.affine) @ affine, DIGITS)
    outside = 0 if labels else scan.array.min()
    order, mode = (0, 'grid-constant') if labels else (1, 'constant')
    array = ndimage.affine_transform(scan.array, move, output_shape=shape, order=order, mode=mode, cval=outside)
    return Volume(array, affine)


def write(path: str | os.PathLike, array: Shaped[np.ndarray, 'x y z'], like: Volume, intent: str = 'none') -> None:
    """Writes NIfTI as `volume.write` does, but on the straightened grid of `like`."""
    found = straighten(replace(like, array=array), labels=intent == 'label')
    scan_file.write(path, found.array, found, intent)


def writer(straightened: bool) -> Callable:
    """`write`, or `volume.write` where grids are to stay as they are."""
    return write if straightened else scan_file.write


def _around(affine, shape) -> tuple[Float[np.ndarray, '4 4'], tuple[int, ...]]:
    """Affine and shape of the grid at right angles that holds every voxel centre of another."""
    axes = _upright(affine[:3, :3])
    corners = np.array([*itertools.product(*((0, length - 1) for length in shape))])
    index = np.round(corners @ (np.linalg.inv(axes) @ affine[:3, :3]).T, 6)
    first = np.floor(index.min(0))
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = axes, affine[:3, 3] + axes @ first
    return placed, tuple(int(n) for n in np.ceil(index.max(0)) - first + 1)


def _upright(axes: Float[np.ndarray, '3 3']) -> Float[np.ndarray, '3 3']:
    """Axes at right angles: that of the thinnest voxels as it is, the others without their part along those before."""
    order = np.argsort(np.linalg.norm(axes, axis=0).round(6), kind='stable')
    upright, found = np.array(axes), []
    for axis in order:
        for unit in found:
            upright[:, axis] -= unit * (unit @ upright[:, axis])
        found.append(upright[:, axis] / np.linalg.norm(upright[:, axis]))
    return upright
