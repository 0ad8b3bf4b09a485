"""What survives translation: lesions that are found one by one, and intensities as real scans have them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from synseg_jax.evaluation import lesions
from synseg_jax.evaluation.metric import measure
from synseg_jax.formats import label_maps, scan_file
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.records import Manifest

Measures = dict[str, dict[str, float | None]]  # of one case, by class
Histograms = dict[str, Integer[np.ndarray, ' bins']]  # of intensities in [0, 1], by class


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
        found[name] |= measure(lesions.METRICS, lesions.lesions(prediction == value, reference == value))


def compare(found: Measures, synthetic: Histograms, real: Histograms, counted: Sequence[str]) -> None:
    """Adds, of the classes `counted`, how far the intensities of a synthetic scan lie from those of real ones."""
    for name, value in divergences(synthetic, real, counted).items():
        found[name][lesions.KL.name] = value


def divergences(synthetic: Histograms, real: Histograms, counted: Sequence[str]) -> dict[str, float | None]:
    """The divergence of the classes `counted`; None where either has no voxel."""
    found = {name: lesions.divergence(synthetic[name], real[name]) for name in counted}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def pooled(scans: Iterable[Histograms], classes: Sequence[str]) -> Histograms:
    """The histograms of several scans as one."""
    total = {name: np.zeros(lesions.BINS, int) for name in classes[1:]}
    for scan in scans:
        total = {name: counts + scan[name] for name, counts in total.items()}
    return total


def real_histograms(
    sets: Mapping[str, Manifest], domain: str, classes: Sequence[str], names: Sequence[str] = ()
) -> Histograms:
    """Those of the labelled real scans of a domain that train: of the sets `names` or, without any, of all."""
    found = []
    for name, manifest in sets.items():
        entry = manifest.sets[name]
        if entry['domain'] != domain or 'by' in entry or 'train' not in entry['roles'] or names and name not in names:
            continue
        for case in (case for case in entry['roles']['train']['cases'] if case['label']):
            scan = scan_file.read(Path(case['image']))
            labels = label_maps.read(case['label'], case['image'], entry['labels'], classes, scan)
            found.append(histograms(scan, labels, case, classes))
    return pooled(found, classes)


def histograms(scan: Volume, labels: Volume, case: Mapping, classes: Sequence[str]) -> Histograms:
    """Those of every class but the background in one scan, whose manifest entry says what [0, 1] stands for."""
    image = Normalisation(case['low'], case['high']).apply(scan.array)
    return {name: lesions.histogram(image[labels.array == value]) for value, name in enumerate(classes) if value}
