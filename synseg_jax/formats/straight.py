"""Resampling of sheared grids (gantry tilt) to orthogonal axes."""

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

DIGITS = 9  # of voxel indices: rounding errors must not push border voxels out of the grid


def straighten(scan: Volume, labels: bool = False) -> Volume:
    """Resample a scan to an orthogonal grid that covers it; unchanged if its grid is not sheared.

    Linear interpolation, or nearest neighbour for `labels`; filled with the minimum outside, labels with 0. The
    in-plane axes are kept and the axis with the largest spacing is turned, so that slices stay whole.
    """
    if not is_sheared(scan.affine, scan.array.shape):
        return scan
    affine, shape = _orthogonal_grid(scan.affine, scan.array.shape)
    index_map = np.round(np.linalg.inv(scan.affine) @ affine, DIGITS)
    outside = 0 if labels else scan.array.min()
    order, mode = (0, 'grid-constant') if labels else (1, 'constant')
    array = ndimage.affine_transform(scan.array, index_map, output_shape=shape, order=order, mode=mode, cval=outside)
    return Volume(array, affine)


def write(path: str | os.PathLike, array: Shaped[np.ndarray, 'x y z'], like: Volume, intent: str = 'none') -> None:
    """`scan_file.write` on the straightened grid of `like`."""
    scan = straighten(replace(like, array=array), labels=intent == 'label')
    scan_file.write(path, scan.array, scan, intent)


def writer(straightened: bool) -> Callable:
    """`write` if grids are to be straightened, else `scan_file.write`."""
    return write if straightened else scan_file.write


def _orthogonal_grid(affine, shape) -> tuple[Float[np.ndarray, '4 4'], tuple[int, ...]]:
    """Affine and shape of the orthogonal grid that covers all voxel centres of a sheared one."""
    axes = _orthogonalised(affine[:3, :3])
    corners = np.array([*itertools.product(*((0, length - 1) for length in shape))])
    index = np.round(corners @ (np.linalg.inv(axes) @ affine[:3, :3]).T, 6)
    first = np.floor(index.min(0))
    orthogonal = np.eye(4)
    orthogonal[:3, :3], orthogonal[:3, 3] = axes, affine[:3, 3] + axes @ first
    return orthogonal, tuple(int(n) for n in np.ceil(index.max(0)) - first + 1)


def _orthogonalised(axes: Float[np.ndarray, '3 3']) -> Float[np.ndarray, '3 3']:
    """Gram-Schmidt without normalisation, in order of increasing spacing."""
    order = np.argsort(np.linalg.norm(axes, axis=0).round(6), kind='stable')
    orthogonal, units = np.array(axes), []
    for axis in order:
        for unit in units:
            orthogonal[:, axis] -= unit * (unit @ orthogonal[:, axis])
        units.append(orthogonal[:, axis] / np.linalg.norm(orthogonal[:, axis]))
    return orthogonal
