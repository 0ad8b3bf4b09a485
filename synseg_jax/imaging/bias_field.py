"""N4 correction of the smooth bias field of MR (Tustison et al., IEEE TMI 2010), by SimpleITK."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synseg_jax.imaging import body, intensity
from synseg_jax.imaging.arrays import Float
from synseg_jax.imaging.volume import Volume

VOXEL_MM = 8.0  # of the reduced scan that the field is fitted to: it is smooth, and the fit is quick
ITERATIONS = (50, 50, 50)  # at most, at each of the levels; every level has twice as many control points
LEAST = 4  # voxels along an axis that the fit needs
THREADS = 1  # the sums of several threads differ in their last bits


def corrected(scan: Volume, channels: Sequence[str]) -> Volume:
    """Each channel divided by its bias field, which is 1 in the geometric mean over the body; CT stays as it is.

    float32.  A scan without anything brighter than air stays as it is, too.
    """
    first, *others = (_corrected(one, name) for one, name in zip(scan.channels, channels, strict=True))
    return replace(first, others=tuple(others)) if others else first


def _corrected(scan, channel) -> Volume:
    if intensity.is_ct(channel):
        return scan
    field = _field(np.asarray(scan.array, np.float32), scan.spacing_mm)
    return scan if field is None else replace(scan, array=scan.array / field)


def _field(array, spacing_mm) -> Float[np.ndarray, 'x y z'] | None:
    """The field of an array with positive values where there is a body; None if there is none."""
    import SimpleITK as sitk  # here, since exported networks must run without it

    above = array > max(body.otsu(array), 0.0)
    if not above.any():
        return None
    whole, mask = (sitk.GetImageFromArray(np.ascontiguousarray(a.T)) for a in (array, above.astype(np.uint8)))
    for image in (whole, mask):
        image.SetSpacing([float(mm) for mm in spacing_mm])
    steps = [max(1, min(round(VOXEL_MM / mm), n // LEAST)) for mm, n in zip(spacing_mm, array.shape, strict=True)]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(THREADS)
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.Execute(sitk.Shrink(whole, steps), sitk.Shrink(mask, steps))
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).T
    return np.exp(log_field - log_field[above].mean(), dtype=np.float32)
