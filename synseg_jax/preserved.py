"""What survives translation: lesions that are found one by one, and intensities as real scans have them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from synseg_jax.data import volume
from synseg_jax.data.intensity import Normalisation
from synseg_jax.data.records import Manifest
from synseg_jax.evaluation import lesions
from synseg_jax.evaluation.summary import Case

Labelled = Mapping[str, tuple[Path, Path]]  # {case: (prediction, reference)}
Values = Mapping[str, int]  # {class: value in a reference}


def count(
    cases: Mapping[str, Case], labelled: Labelled, values: Values, classes: Sequence[str], counted: Sequence[str]
) -> None:
    """Adds to each case, of the classes `counted`, the share of lesions found and how many are found beside them.

    `classes` are those of the predictions' values 0, 1, 2, ...
    """
    for case, (prediction, reference) in labelled.items():
        found, true = volume.read_labels(prediction).array, volume.read_labels(reference).array
        for name in counted:
            seen = lesions.lesions(found == classes.index(name), true == values[name])
            share = seen.found / seen.total if seen.total else None
            cases[case][name] |= {'lesions': share, 'false_lesions': float(seen.false)}


def compare_intensities(
    cases: Mapping[str, Case],
    made: Sequence[Mapping],
    read: Callable[[Path], volume.Volume],
    values: Values,
    real: Mapping[str, np.ndarray],
) -> None:
    """Adds to each synthetic case, of every class, how far its intensities in [0, 1] lie from those of `real`."""
    for case in made:
        for name, voxels in intensities(case, read, values).items():
            divergence = lesions.histogram_divergence(voxels, real.get(name, np.zeros(0)))
            cases[case['id']][name]['kl'] = None if np.isnan(divergence) else divergence


def real_intensities(sets: Mapping[str, Manifest], domain: str) -> dict[str, np.ndarray]:
    """The voxels of every class in all labelled real scans of a domain, in [0, 1]."""
    pooled: dict[str, list] = {}
    for name, manifest in sets.items():
        entry = manifest.sets[name]
        if entry['domain'] != domain or 'by' in entry:
            continue
        for case in (case for role in entry['roles'].values() for case in role['cases'] if case['label']):
            for organ, voxels in intensities(case, volume.read, entry['labels']).items():
                pooled.setdefault(organ, []).append(voxels)
    return {organ: np.concatenate(parts) for organ, parts in pooled.items()}


def intensities(case: Mapping, read: Callable[[Path], volume.Volume], values: Values) -> dict[str, np.ndarray]:
    """The voxels of every class but the background in one scan, in [0, 1]."""
    image = Normalisation(case['low'], case['high']).apply(read(Path(case['image'])).array)
    labels = volume.read_labels(Path(case['label'])).array
    return {name: image[labels == value] for name, value in values.items() if value}
