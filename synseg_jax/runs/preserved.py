"""What translation preserves: lesion-wise detection, and KL divergence of intensities from those of real scans."""

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

Measures = dict[str, dict[str, float | None]]  # class -> metric, of one case
Histograms = dict[str, Integer[np.ndarray, ' bins']]  # class -> histogram of intensities in [0, 1]


def count(
    measures: Measures,
    prediction: Integer[np.ndarray, 'x y z'],
    reference: Integer[np.ndarray, 'x y z'],
    classes: Sequence[str],
    counted: Sequence[str],
) -> None:
    """Add lesion-wise metrics of the classes `counted`: share of lesions detected, number of false positives."""
    for name in counted:
        value = classes.index(name)
        measures[name] |= measure(lesions.METRICS, lesions.lesions(prediction == value, reference == value))


def compare(measures: Measures, synthetic: Histograms, real: Histograms, counted: Sequence[str]) -> None:
    """Add the KL divergence of the classes `counted`, of a synthetic scan from real ones."""
    for name, value in divergences(synthetic, real, counted).items():
        measures[name][lesions.KL.name] = value


def divergences(synthetic: Histograms, real: Histograms, counted: Sequence[str]) -> dict[str, float | None]:
    """KL divergence of the intensities of each class in `counted`; None if either histogram is empty."""
    values = {name: lesions.divergence(synthetic[name], real[name]) for name in counted}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def pooled(scans: Iterable[Histograms], classes: Sequence[str]) -> Histograms:
    """Sum of the histograms of several scans."""
    total = {name: np.zeros(lesions.BINS, int) for name in classes[1:]}
    for scan in scans:
        total = {name: counts + scan[name] for name, counts in total.items()}
    return total


def real_histograms(
    sets: Mapping[str, Manifest], domain: str, classes: Sequence[str], names: Sequence[str] = ()
) -> Histograms:
    """Histograms over labelled real training scans of a domain, from the sets `names`, or all sets if empty."""
    scans = []
    for name, manifest in sets.items():
        entry = manifest.sets[name]
        if entry['domain'] != domain or 'by' in entry or 'train' not in entry['roles'] or names and name not in names:
            continue
        for case in (case for case in entry['roles']['train']['cases'] if case['label']):
            scan = scan_file.read(Path(case['image']))
            labels = label_maps.read(case['label'], case['image'], entry['labels'], classes, scan)
            scans.append(histograms(scan, labels, case, classes))
    return pooled(scans, classes)


def histograms(scan: Volume, labels: Volume, case: Mapping, classes: Sequence[str]) -> Histograms:
    """Histograms of every class but the background; `case` is the manifest entry with the intensity window."""
    image = Normalisation(case['low'], case['high']).apply(scan.array)
    return {name: lesions.histogram(image[labels.array == value]) for value, name in enumerate(classes) if value}
