"""What survives translation: lesions that are found one by one, and intensities as real scans have them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from synseg_jax.data import label_maps, volume
from synseg_jax.data.intensity import Normalisation
from synseg_jax.data.records import Manifest
from synseg_jax.data.volume import Volume
from synseg_jax.evaluation import lesions

Measures = dict[str, dict[str, float | None]]  # of one case, by class
Voxels = dict[str, Float[np.ndarray, ' _']]  # intensities in [0, 1], by class


def count(
    found: Measures,
    prediction: Integer[np.ndarray, 'x y z'],
    reference: Integer[np.ndarray, 'x y z'],
    classes: Sequence[str],
    counted: Sequence[str],
) -> None:
    """Adds, of the classes `counted`, the share of lesions found and how many are found beside them."""
    for name in counted:
        value = classes.index(name)
        seen = lesions.lesions(prediction == value, reference == value)
        share = seen.found / seen.total if seen.total else None
        found[name] |= {'lesions': share, 'false_lesions': float(seen.false)}


def compare(found: Measures, synthetic: Voxels, real: Voxels, counted: Sequence[str]) -> None:
    """Adds, of the classes `counted`, how far the intensities of a synthetic scan lie from those of real ones."""
    for name in counted:
        divergence = lesions.histogram_divergence(synthetic[name], real.get(name, np.zeros(0)))
        found[name]['kl'] = None if np.isnan(divergence) else divergence


def real_voxels(sets: Mapping[str, Manifest], domain: str, classes: Sequence[str]) -> Voxels:
    """Those of every class in all labelled real scans of a domain."""
    pooled: dict[str, list] = {}
    for name, manifest in sets.items():
        entry = manifest.sets[name]
        if entry['domain'] != domain or 'by' in entry:
            continue
        for case in (case for role in entry['roles'].values() for case in role['cases'] if case['label']):
            scan = volume.read(Path(case['image']))
            labels = label_maps.read(case['label'], case['image'], entry['labels'], classes, scan)
            for organ, inside in voxels(scan, labels, case, classes).items():
                pooled.setdefault(organ, []).append(inside)
    return {organ: np.concatenate(parts) for organ, parts in pooled.items()}


def voxels(scan: Volume, labels: Volume, case: Mapping, classes: Sequence[str]) -> Voxels:
    """Those of every class but the background in one scan, whose manifest entry says what [0, 1] stands for."""
    image = Normalisation(case['low'], case['high']).apply(scan.array)
    return {name: image[labels.array == value] for value, name in enumerate(classes) if value}
