"""Volumes: a voxel array with its affine, reorientation to canonical (LPS) axes, and the volume of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from synseg_jax.imaging.arrays import Float, Integer, Shaped

LPS = axcodes2ornt(('L', 'P', 'S'))


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: voxels, affine (voxel index -> RAS mm, 4x4 float64) and the NIfTI header if read from NIfTI.

    `others` are its further channels, on the same grid.
    """

    array: Shaped[np.ndarray, 'x y z']
    affine: Float[np.ndarray, '4 4']
    header: nib.Nifti1Header | None = None
    others: tuple['Volume', ...] = ()

    @property
    def channels(self) -> tuple['Volume', ...]:
        """All channels, itself first."""
        return (self, *self.others)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel spacing along each array axis."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))


def canonical(volume: Volume) -> Volume:
    """Reorient to axes right->left, anterior->posterior, inferior->superior, without resampling; one channel."""
    order = ornt_transform(io_orientation(volume.affine), LPS)
    affine = volume.affine @ inv_ornt_aff(order, volume.array.shape)
    return Volume(apply_orientation(volume.array, order), affine)


def restore(array: Shaped[np.ndarray, 'x y z *channels'], like: Volume) -> Shaped[np.ndarray, 'i j k *channels']:
    """Inverse of `canonical`: `array`, in canonical axes, in the stored axes of `like`."""
    restored = apply_orientation(array, ornt_transform(LPS, io_orientation(like.affine)))
    if restored.shape[:3] != like.array.shape:
        raise ValueError(f'an array of shape {array.shape} does not restore to {like.array.shape}')
    return restored


def volumes_ml(
    labels: Integer[np.ndarray, 'x y z'], affine: Float[np.ndarray, '4 4'], classes: Sequence[str]
) -> dict[str, float]:
    """The volume of every class except the background, in mL; `affine` maps voxels to mm and may shear."""
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    return {name: float(np.count_nonzero(labels == i) * voxel_ml) for i, name in enumerate(classes) if i}
