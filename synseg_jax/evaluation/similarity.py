"""Similarity of a synthetic scan to the paired real scan: MAE, PSNR, SSIM."""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from synseg_jax.evaluation.metric import Metric

SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, 11 voxels wide
K1, K2 = 0.01, 0.03


def mean_absolute_error(
    image: Float[np.ndarray, '*space'],
    reference: Float[np.ndarray, '*space'],
    mask: Bool[np.ndarray, '*space'] | None = None,
) -> float:
    """Mean absolute error in the unit of the images, over all voxels or those of a mask; nan if the mask is empty."""
    return _mean(np.abs(_difference(image, reference, mask)), mask)


def psnr(
    image: Float[np.ndarray, '*space'],
    reference: Float[np.ndarray, '*space'],
    *,
    data_range: float,
    mask: Bool[np.ndarray, '*space'] | None = None,
) -> float:
    """Peak signal-to-noise ratio 10 log10(data_range^2 / mean squared error) in dB, over all voxels or those of a mask.

    `data_range` is the width of the range of intensities, such as 2000 for [-1000, 1000] HU.  Infinite for equal
    images, nan if the mask is empty.
    """
    squared = _mean(_difference(image, reference, mask) ** 2, mask)
    return float('inf') if squared == 0 else float(10 * np.log10(data_range**2 / squared))


def ssim(
    image: Float[np.ndarray, '*space'],
    reference: Float[np.ndarray, '*space'],
    *,
    data_range: float,
    slice_axis: int | None = None,
    mask: Bool[np.ndarray, '*space'] | None = None,
) -> float:
    """Mean structural similarity, at most 1, with a Gaussian window (Wang et al. 2004).

    Sigma is 1.5, the window 11 voxels wide, C1 = (0.01 data_range)^2, C2 = (0.03 data_range)^2, with population
    variances.  The window spans all axes, or all but `slice_axis`, for the mean over slices.  The mean is over voxels
    whose window lies inside the image and which lie in the mask, if given; nan if there are none.  ValueError for an
    image narrower than the window.
    """
    _check(image, reference, mask)
    windowed = [axis for axis in range(image.ndim) if slice_axis is None or axis != slice_axis % image.ndim]
    if min(image.shape[axis] for axis in windowed) <= 2 * RADIUS:
        raise ValueError(f'an image of shape {image.shape} is narrower than the window of {2 * RADIUS + 1}')
    inside = tuple(slice(RADIUS, -RADIUS) if axis in windowed else slice(None) for axis in range(image.ndim))

    def blurred(values):
        return ndimage.gaussian_filter(values, SIGMA, radius=RADIUS, axes=windowed)[inside]

    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = blurred(x), blurred(y)
    variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    return _mean(similarity, None if mask is None else mask[inside])


def _difference(image, reference, mask):
    _check(image, reference, mask)
    return image.astype(np.float64) - reference.astype(np.float64)


def _mean(values, mask) -> float:
    kept = values if mask is None else values[mask]
    return float(kept.mean()) if kept.size else float('nan')


def _check(image, reference, mask) -> None:
    shapes = {array.shape for array in (image, reference, mask) if array is not None}
    if len(shapes) > 1:
        raise ValueError(f'image, reference and mask have shapes {sorted(shapes)}')


METRICS = (  # of a synthetic and a real volume with intensities in [0, 1], axial slices last, and of a mask
    Metric('mae', 'MAE', mean_absolute_error, lower_is_better=True, limits=(0, 1)),
    Metric(
        'psnr',
        'PSNR',
        lambda image, reference, mask: psnr(image, reference, data_range=1.0, mask=mask),
        unit='dB',
        digits=1,
        limits=(0, math.inf),
    ),
    Metric(  # over the whole slices: with a mask, only windows inside it would count
        'ssim',
        'SSIM',
        lambda image, reference, mask: ssim(image, reference, data_range=1.0, slice_axis=2),
        limits=(-1, 1),
    ),
)
