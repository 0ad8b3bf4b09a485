"""Metrics of a predicted mask against its reference: overlaps and surface distances, listed in `METRICS`.

The S-score of a synthetic scan is the Dice of a fixed segmentor's prediction on it, against the source's labels.

Empty masks, in all metrics and tables:

* both masks empty: the class is absent from this scan; no value (None), the case is excluded and counted in
  `both_empty`;
* exactly one empty: overlaps (Dice, IoU, NSD) are 0, distances have no value (None) for want of a surface; counted in
  `one_empty`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from synseg_jax.evaluation.metric import Metric, measure
from synseg_jax.evaluation.surface_elements import element_areas

TOLERANCE_MM = 2.0  # of the normalised surface Dice in tables
ROUNDED = 1e-5  # relative error of the spacing in file headers, so that a distance of 2 mm is within 2 mm


@dataclass(frozen=True, eq=False)
class Masks:
    """A predicted mask, its reference and their spacing: the argument of the functions in `METRICS`."""

    prediction: Bool[np.ndarray, '*space']
    reference: Bool[np.ndarray, '*space']
    spacing_mm: Sequence[float]

    @cached_property
    def distances(self) -> tuple[Float[np.ndarray, 'p'], Float[np.ndarray, 'r']]:
        """`surface_distances`, computed once for all metrics."""
        return surface_distances(self.prediction, self.reference, self.spacing_mm)


def dice(prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space']) -> float:
    """Dice coefficient 2 |P and R| / (|P| + |R|), in [0, 1]; nan if both masks are empty."""
    check_shapes(prediction, reference)
    size = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(prediction & reference) / size if size else float('nan')


def iou(prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space']) -> float:
    """Intersection over union |P and R| / |P or R| (Jaccard index), in [0, 1]; nan if both masks are empty."""
    check_shapes(prediction, reference)
    size = np.count_nonzero(prediction | reference)
    return np.count_nonzero(prediction & reference) / size if size else float('nan')


def surface_distances(
    prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space'], spacing_mm: Sequence[float]
) -> tuple[Float[np.ndarray, 'p'], Float[np.ndarray, 'r']]:
    """Distances in mm of surface voxels to the other surface: (prediction to reference, reference to prediction).

    The surface of a mask is the mask minus its erosion with the face-connected structuring element (4 neighbours
    in 2-D, 6 in 3-D).  Outside the array is background, so a mask that touches the border has surface there.  Distances
    are Euclidean, between voxel centres.  `spacing_mm` is the voxel size along each axis of the arrays.  Both results
    are empty if either mask is.
    """
    check_shapes(prediction, reference)
    if len(spacing_mm) != prediction.ndim:
        raise ValueError(f'{len(spacing_mm)} spacings for {prediction.ndim} axes')
    if not (prediction.any() and reference.any()):
        return np.empty(0), np.empty(0)
    box = _bounding_box(prediction | reference)  # holds both surfaces, hence every nearest voxel
    surface_p, surface_r = _surface(prediction[box]), _surface(reference[box])
    to_reference = ndimage.distance_transform_edt(~surface_r, sampling=spacing_mm)
    to_prediction = ndimage.distance_transform_edt(~surface_p, sampling=spacing_mm)
    return to_reference[surface_p], to_prediction[surface_r]


def average_surface_distance(
    prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space'], spacing_mm: Sequence[float]
) -> float:
    """Symmetric average surface distance in mm; nan if either mask is empty.

    The mean over all surface voxels of both masks, pooled; the mean of the two directed means differs from it where one
    surface is larger.
    """
    return _average(*surface_distances(prediction, reference, spacing_mm))


def hausdorff_95(
    prediction: Bool[np.ndarray, '*space'], reference: Bool[np.ndarray, '*space'], spacing_mm: Sequence[float]
) -> float:
    """95 % Hausdorff distance in mm; nan if either mask is empty.

    The larger of the 95th percentiles of the two directed `surface_distances`, with linear interpolation.
    """
    return _percentile_95(*surface_distances(prediction, reference, spacing_mm))


def normalised_surface_dice(
    prediction: Bool[np.ndarray, '*space'],
    reference: Bool[np.ndarray, '*space'],
    spacing_mm: Sequence[float],
    tolerance_mm: float = TOLERANCE_MM,
) -> float:
    """Normalised surface Dice (NSD, boundary Dice), in [0, 1]; nan if both masks are empty, 0 if exactly one is.

    The share of the area of both surfaces that lies at most `tolerance_mm` from the other surface (Nikolov et al.,
    arXiv:1809.04430, 2018; J Med Internet Res 23(7):e26151, 2021).  As in the authors' package surface-distance, a
    surface consists of the elements at voxel corners where the mask changes, each weighted by its area
    (`surface_elements`), and distances are Euclidean between these corners.
    """
    check_shapes(prediction, reference)
    if not (prediction.any() and reference.any()):
        return 0.0 if prediction.any() or reference.any() else math.nan
    box = _bounding_box(prediction | reference)
    areas = [element_areas(mask[box], spacing_mm) for mask in (prediction, reference)]
    limit = tolerance_mm * (1 + ROUNDED)
    far = [ndimage.distance_transform_edt(area == 0, sampling=spacing_mm) > limit for area in areas]
    share = (areas[0][far[1]].sum() + areas[1][far[0]].sum()) / (areas[0].sum() + areas[1].sum())
    return max(0.0, 1.0 - float(share))  # exactly 1 where none is far


def case_measures(
    prediction: Integer[np.ndarray, '*space'],
    reference: Integer[np.ndarray, '*space'],
    classes: Sequence[str],
    spacing_mm: Sequence[float],
) -> dict[str, dict[str, float | None]]:
    """The `METRICS` of each class but the background; None as the rule of empty masks says.

    `classes` are the names of the label values 0, 1, 2, ...; 0 is the background.
    """
    check_shapes(prediction, reference)
    if not (prediction.any() or reference.any()):
        return {name: dict.fromkeys(MEASURES) for name in classes[1:]}
    box = _bounding_box((prediction != 0) | (reference != 0))
    prediction, reference = prediction[box], reference[box]
    return {
        name: measure(METRICS, Masks(prediction == value, reference == value, spacing_mm))
        for value, name in enumerate(classes)
        if value > 0
    }


def _average(forward, backward) -> float:
    return float(np.concatenate([forward, backward]).mean()) if forward.size else float('nan')


def _percentile_95(forward, backward) -> float:
    return float(max(np.percentile(forward, 95), np.percentile(backward, 95))) if forward.size else float('nan')


def _surface(mask):
    face_connected = ndimage.generate_binary_structure(mask.ndim, 1)
    return mask & ~ndimage.binary_erosion(mask, face_connected, border_value=0)


def _bounding_box(mask) -> tuple[slice, ...]:
    """The bounding box of a mask that is not empty."""
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    return box


def check_shapes(prediction: np.ndarray, reference: np.ndarray) -> None:
    """ValueError for masks of different shapes."""
    if prediction.shape != reference.shape:
        raise ValueError(f'prediction has shape {prediction.shape}, reference {reference.shape}')


METRICS = (
    Metric(
        'dice',
        'Dice',
        lambda masks: dice(masks.prediction, masks.reference),
        limits=(0, 1),
        one_empty=0.0,
        beside=99,
    ),
    Metric('iou', 'IoU', lambda masks: iou(masks.prediction, masks.reference), limits=(0, 1), one_empty=0.0),
    Metric(
        'asd_mm',
        'ASD',
        lambda masks: _average(*masks.distances),
        unit='mm',
        digits=2,
        lower_is_better=True,
        limits=(0, math.inf),
        beside=2,
    ),
    Metric(
        'hd95_mm',
        'HD95',
        lambda masks: _percentile_95(*masks.distances),
        unit='mm',
        digits=1,
        lower_is_better=True,
        limits=(0, math.inf),
        beside=1,
    ),
    Metric(
        f'nsd_{TOLERANCE_MM:g}mm',
        f'NSD at {TOLERANCE_MM:g} mm',
        lambda masks: normalised_surface_dice(masks.prediction, masks.reference, masks.spacing_mm),
        limits=(0, 1),
        one_empty=0.0,
    ),
)
MEASURES = tuple(metric.name for metric in METRICS)
