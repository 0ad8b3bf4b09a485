"""The grid and the values of a label map, checked against its scan."""

import itertools

import numpy as np
from jaxtyping import Shaped

from synseg_jax.errors import InputError
from synseg_jax.imaging.volume import Volume

TOLERANCE_MM = 1e-2  # of a voxel's place: headers round, registrations do not come this close


def check_grid(image: Volume, label: Volume, name: str = 'the label map') -> None:
    """InputError, unless the label map has the image's grid; less than a hundredth of a millimetre counts as equal."""
    if image.array.shape != label.array.shape:
        raise InputError(
            f'{name}: label map has shape {label.array.shape}, its image {image.array.shape}; resample it to the image'
        )
    gap = _gap_mm(image, label)
    if gap > TOLERANCE_MM:
        raise InputError(f'{name}: {_difference(image, label, gap)}; copy the affine that is right or resample')


def label_values(array: Shaped[np.ndarray, '*space']) -> list[int]:
    """The values that occur in a map of unsigned integers, rising."""
    if array.dtype.itemsize > 2:
        return np.unique(array).tolist()
    present = np.zeros(2 ** (8 * array.dtype.itemsize), bool)
    present[array] = True
    return np.flatnonzero(present).tolist()


def _gap_mm(image: Volume, label: Volume) -> float:
    """The largest distance between the places that the two affines give to a corner of the grid."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in image.array.shape))])
    moved = (image.affine - label.affine) @ np.c_[corners, np.ones(8)].T
    return float(np.linalg.norm(moved[:3], axis=0).max())


def _difference(image, label, gap):
    """In words: how two affines differ."""
    shift = np.linalg.norm(image.affine[:3, 3] - label.affine[:3, 3])
    spacing, other = (tuple(round(mm, 4) for mm in one.spacing_mm) for one in (image, label))
    directions = (one.affine[:3, :3] / one.spacing_mm for one in (image, label))
    parts = [f'voxels lie up to {gap:.3g} mm from those of its image']
    parts += [f'spacing {other} against {spacing}'] if spacing != other else []
    parts += ['axes point elsewhere'] if not np.allclose(*directions, atol=1e-4) else []
    parts += [f'origin {shift:.3g} mm apart'] if shift > 1e-3 else []
    return ', '.join(parts)
