"""Metrics in patches around lesions, as papers report them that test on patches cropped around tumours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from synseg_jax.evaluation import metrics
from synseg_jax.evaluation.metric import measure
from synseg_jax.evaluation.metrics import Masks, check_shapes

METRICS = tuple(  # of the voxels in patches
    replace(metric, name=f'patch_{metric.name}', scope='in patches', beside=0)
    for metric in metrics.METRICS
    if metric.name in ('dice', 'hd95_mm')
)


def patches(
    reference: Bool[np.ndarray, 'n r c'], spacing_mm: Sequence[float], side_mm: float
) -> Bool[np.ndarray, 'n r c']:
    """Squares of `side_mm` centred on every lesion, in all slices it appears in, clipped to the scan.

    `spacing_mm` is that of slices, rows and columns.  A lesion is a connected component by faces, edges or corners.
    """
    inside = np.zeros_like(reference)
    for slices, *plane in ndimage.find_objects(ndimage.label(reference, np.ones((3, 3, 3), bool))[0]):
        square = []
        for part, mm in zip(plane, spacing_mm[1:], strict=True):
            first = round((part.start + part.stop - side_mm / mm) / 2)
            square.append(slice(max(0, first), max(0, first + round(side_mm / mm))))
        inside[slices, *square] = True
    return inside


def patch_measures(
    prediction: Bool[np.ndarray, 'n r c'],
    reference: Bool[np.ndarray, 'n r c'],
    spacing_mm: Sequence[float],
    side_mm: float,
) -> dict[str, float | None]:
    """The `METRICS` over all patches of a scan together; None as the rule of empty masks says.

    The whole reference counts, and the part of the prediction inside the patches.
    """
    check_shapes(prediction, reference)
    inside = prediction & patches(reference, spacing_mm, side_mm)
    if not reference.any():
        return dict.fromkeys(metric.name for metric in METRICS)
    return measure(METRICS, Masks(inside, reference, spacing_mm))
