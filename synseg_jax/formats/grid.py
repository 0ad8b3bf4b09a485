"""Whether a label map lies on the grid of its scan, and the values in it."""

import itertools

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging.arrays import Shaped
from synseg_jax.imaging.volume import Volume

TOLERANCE_MM = 1e-2  # of a voxel's position: more than rounding in headers, less than any registration


def check_grid(image: Volume, label: Volume, name: str = 'the label map', what: str = 'label map') -> None:
    """Raise InputError unless the label map, or other channel, lies on the image's grid, to within TOLERANCE_MM."""
    if image.array.shape != label.array.shape:
        raise InputError(
            f'{name}: {what} has shape {label.array.shape}, its image {image.array.shape}; resample it to the image'
        )
    distance = _distance_mm(image, label)
    if distance > TOLERANCE_MM:
        raise InputError(f'{name}: {_difference(image, label, distance)}; copy the correct affine or resample')


def label_values(array: Shaped[np.ndarray, '*space']) -> list[int]:
    """The sorted values in a label map of unsigned integers."""
    if array.dtype.itemsize > 2:
        return np.unique(array).tolist()
    present = np.zeros(2 ** (8 * array.dtype.itemsize), bool)
    present[array] = True
    return np.flatnonzero(present).tolist()


def _distance_mm(image: Volume, label: Volume) -> float:
    """The largest distance between the positions of a grid corner by the two affines."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in image.array.shape))])
    shifts = (image.affine - label.affine) @ np.c_[corners, np.ones(8)].T
    return float(np.linalg.norm(shifts[:3], axis=0).max())


def _difference(image, label, distance_mm) -> str:
    """How two affines differ, in words."""
    shift = np.linalg.norm(image.affine[:3, 3] - label.affine[:3, 3])
    image_mm, label_mm = (tuple(round(mm, 4) for mm in grid.spacing_mm) for grid in (image, label))
    directions = (grid.affine[:3, :3] / grid.spacing_mm for grid in (image, label))
    parts = [f'voxels lie up to {distance_mm:.3g} mm from those of its image']
    parts += [f'spacing {label_mm} against {image_mm}'] if image_mm != label_mm else []
    parts += ['axes have other directions'] if not np.allclose(*directions, atol=1e-4) else []
    parts += [f'origin {shift:.3g} mm apart'] if shift > 1e-3 else []
    return ', '.join(parts)
