"""Scans as Python programs hold them, nibabel's, SimpleITK's, paths or arrays with an affine, as volumes and back."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from synseg_jax.errors import InputError
from synseg_jax.formats import scan_channels, scan_file
from synseg_jax.imaging.arrays import Shaped
from synseg_jax.imaging.volume import Volume

KINDS = (
    'a path, a nibabel image, a SimpleITK image, or (array, affine) with the affine from voxels to RAS mm; of several '
    'channels a list of these'
)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between ITK's axes of the patient and NIfTI's
Back = Callable[[Shaped[np.ndarray, 'x y z']], Any]  # an array on the scan's grid, as the kind of image that was given


def opened(image: object, channels: int = 1) -> tuple[Volume, Back]:
    """The scan as a volume, and what makes an image of the same kind, on the same grid, of an array.

    A path gives a nibabel image, an array gives an array.  Of several `channels` the path is that of the first, and
    images come as a list.  InputError for other kinds, for what is no 3-D scan, and for channels on other grids.
    """
    if isinstance(image, list) and image:
        volumes, backs = zip(*map(opened, image), strict=True)
        return scan_channels.together(volumes, [f'channel {number:04d}' for number in range(len(image))]), backs[0]
    if isinstance(image, str | PathLike):
        return _nibabel(scan_channels.read(Path(image), channels))
    if isinstance(image, nib.spatialimages.SpatialImage):
        array = np.asarray(image.dataobj)
        return _nibabel(_checked('nibabel image', array, image.affine, getattr(image, 'header', None)))
    if isinstance(image, sitk.Image):
        return _simple_itk(image)
    if isinstance(image, tuple) and len(image) == 2:
        return _checked('array', np.asarray(image[0]), np.asarray(image[1], float)), lambda array: array
    raise InputError(f'a {type(image).__name__} is no scan; give {KINDS}')


def _checked(kind, array, affine, header=None) -> Volume:
    if array.ndim != 3 or array.dtype.kind not in 'biuf' or np.shape(affine) != (4, 4):
        shape, of = np.shape(affine), ' x '.join(map(str, array.shape))
        raise InputError(f'{kind}: {of} voxels of type {array.dtype}, affine {shape}; give a 3-D scan and a 4x4 affine')
    nifti = header if isinstance(header, nib.Nifti1Header) else None
    return scan_file.checked(kind, Volume(array.astype(np.float32), np.asarray(affine, float), nifti))


def _nibabel(scan) -> tuple[Volume, Back]:
    return scan, lambda array: nib.Nifti1Image(array, scan.affine, dtype=array.dtype)


def _simple_itk(image) -> tuple[Volume, Back]:
    affine = np.eye(4)
    if image.GetDimension() == 3:
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
    scan = _checked('SimpleITK image', sitk.GetArrayFromImage(image).T, LPS @ affine)

    def back(array):
        made = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        made.CopyInformation(image)
        return made

    return scan, back
