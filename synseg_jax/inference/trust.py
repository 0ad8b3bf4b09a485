"""How far a segmentation can be trusted, without labels: its agreement with itself, and remarks on its organs."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.imaging import body, slices, volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import agreement
from synseg_jax.preparation.checks import laterality

GOOD, POOR = 0.95, 0.85  # agreement from which a scan may be trusted, and below which it may not: docs/prediction.md
STEADY = 0.85  # agreement of a single organ, below which it is named
WHOLE = 0.9  # share of an organ that its largest connected component holds, unless it is torn
BEYOND = 1.25  # factor by which a volume may exceed those of the training labels, or fall short of them
ABOUT_MIDDLE = {'ventricle', 'ventricular', 'atrium', 'atrial', 'lobe'}  # whose left and right ones may lie there
MISPLACED = 0.5  # share of the organs that are missing or on the wrong side, from which nothing is trusted
TRUST, LOOK, LEAVE = 'trust', 'look at', 'do not use'


@dataclass(frozen=True)
class Found:
    """What is judged: the class of every voxel of a scan, and what its modality and the training labels say."""

    scan: Volume
    labels: Integer[np.ndarray, 'x y z']
    classes: Sequence[str]
    channel: str
    lesions: Collection[str] = ()
    volumes_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # least and largest training label
    agreement: Mapping[str, float] = field(default_factory=dict)  # of organs, by `agreement.of_scan`; empty: unknown

    @property
    def organs(self) -> dict[str, int]:
        """{name: label} of the classes that every scan shows."""
        left_out = (*NOT_ORGANS, *self.lesions)
        return {name: i for i, name in enumerate(self.classes) if i and name not in left_out}


@dataclass(frozen=True)
class Trust:
    """The judgement of a scan: mean agreement in [0, 1] or NaN, a word, and remarks, {kind: organs}."""

    agreement: float
    word: str
    remarks: Mapping[str, str]


def judged(found: Found) -> Trust:
    """The word and the remarks of a segmented scan."""
    remarks = {kind: [*remark(found)] for kind, remark in REMARKS.items()}
    remarks = {kind: lines for kind, lines in remarks.items() if lines}
    mean = agreement.mean(found.agreement.values())
    return Trust(mean, word(mean, remarks, len(found.organs)), {k: ', '.join(v) for k, v in remarks.items()})


def word(agreed: float, remarks: Mapping[str, Sequence[str]], organs: int) -> str:
    """The word for a mean agreement (NaN: unknown) and {kind of remark: lines, one for each organ}."""
    lost = sum(len(remarks.get(kind, ())) for kind in ('missing', 'wrong side'))
    if agreed < POOR or lost and lost >= MISPLACED * organs:
        return LEAVE
    return TRUST if agreed >= GOOD and not remarks else LOOK


def missing(found: Found) -> Iterator[str]:
    """Organs of which nothing was found."""
    return (name for name, i in found.organs.items() if not (found.labels == i).any())


def torn(found: Found) -> Iterator[str]:
    """Organs whose largest connected component holds less than `WHOLE` of them."""
    for name, i in found.organs.items():
        parts, count = ndimage.label(found.labels == i, np.ones((3, 3, 3), bool))
        sizes = np.bincount(parts.ravel())[1:]
        if count > 1 and sizes.max() < WHOLE * sizes.sum():
            yield f'{name} (largest of {count} parts: {sizes.max() / sizes.sum():.0%})'


def on_wrong_side(found: Found) -> Iterator[str]:
    """Organs beyond the middle of the body, by names with left or right, and by those that have one side."""
    upright, labels = (volume.canonical(Volume(array, found.scan.affine)) for array in (found.scan.array, found.labels))
    stack = slices.to_stack(upright.array, 'axial')
    box = body.bounds(stack, slices.stack_spacing(upright.spacing_mm, 'axial'), found.channel)
    middle = np.mean(box[2] if box else (0, 1)) * upright.array.shape[0]
    for name, i in found.organs.items():
        counts = np.count_nonzero(labels.array == i, (1, 2))
        if (expected := side(name)) and counts.any():
            leftwards_mm = (np.average(np.arange(len(counts)) + 0.5, weights=counts) - middle) * upright.spacing_mm[0]
            if expected * leftwards_mm > laterality.BESIDE_MM:
                yield f'{name} ({abs(leftwards_mm):.0f} mm {"left" if expected > 0 else "right"} of the middle)'


def side(name: str) -> int:
    """1 of organs right of the middle of the body, -1 of those left of it, by their names; 0 if these do not tell."""
    words = set(re.findall('[a-z]+', name.lower()))
    named = [sign for word, sign in laterality.SIDES.items() if word in words]
    return 0 if words & ABOUT_MIDDLE else next(iter(named), laterality.expected(name, laterality.BODY, 0))


def unlike_training(found: Found) -> Iterator[str]:
    """Organs that are smaller or larger than all training labels, by a factor of `BEYOND`."""
    volumes = volume.volumes_ml(found.labels, found.scan.affine, found.classes)
    for name in found.organs:
        low, high = found.volumes_ml.get(name, (0.0, np.inf))
        if volumes[name] and not low / BEYOND <= volumes[name] <= high * BEYOND:
            yield f'{name} ({volumes[name]:.0f} mL, training labels {low:.0f} to {high:.0f} mL)'


def unsteady(found: Found) -> Iterator[str]:
    """Organs that the changes of the scan change much."""
    for name in found.organs:
        if found.agreement.get(name, 1.0) < STEADY:
            yield f'{name} (agreement {found.agreement[name]:.2f})'


REMARKS: Mapping[str, Callable[[Found], Iterator[str]]] = {
    'missing': missing,
    'wrong side': on_wrong_side,
    'torn': torn,
    'volume': unlike_training,
    'unsteady': unsteady,
}
