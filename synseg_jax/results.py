"""What a trained system achieves on the test scans: measures, pictures, and what it took."""

import platform
import resource
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import synseg_jax
from synseg_jax.data import slices, volume
from synseg_jax.data.intensity import Normalisation
from synseg_jax.data.records import Manifest
from synseg_jax.evaluate import evaluate_pairs
from synseg_jax.evaluation import figures, summary
from synseg_jax.predict import predict
from synseg_jax.scans import Trained


def evaluate(trained: Trained, manifest: Manifest, folder: Path) -> dict:
    """{set: measures} on the target's test scans that have labels; predictions and pictures in `folder`."""
    results = {}
    if trained.networks.system.segmentor('b') is None:
        return results
    for name, entry in manifest.sets.items():
        cases = entry['roles'].get('test', {'cases': []})['cases']
        if entry['domain'] != 'b' or not cases:
            continue
        written = predict(trained, {c['id']: Path(c['image']) for c in cases}, folder / 'predictions' / name)
        pairs = {c['id']: (written[c['id']], Path(c['label'])) for c in cases if c['label']}
        if not pairs:
            continue
        measured, results[name] = evaluate_pairs(pairs, trained.run.classes, reference_values=entry['labels'])
        summary.write_csv(folder / f'{name}.csv', summary.rows(measured))
        figures.overlays(folder / f'{name}.png', _outlined(trained, cases, pairs, measured, entry), trained.run.classes)
    return results


def _outlined(trained, cases, pairs, measured, entry):
    """The telling slices of the test scans, from best to worst."""
    axis, known_classes = trained.config.data.slice_axis, trained.run.classes
    index = np.zeros(1 + max(entry['labels'].values()), np.uint8)  # the set's label values -> classes
    for name, value in entry['labels'].items():
        index[value] = known_classes.index(name) if name in known_classes else 0
    organ = summary.organ_means(measured, 'dice')
    paths = {case['id']: case for case in cases}
    shown = []
    for case in sorted(organ, key=organ.get, reverse=True):
        scan = volume.canonical(volume.read(paths[case]['image']))
        prediction, reference = (
            slices.to_stack(volume.canonical(volume.read_labels(path)).array, axis) for path in pairs[case]
        )
        reference = index[reference]
        at = figures.telling_slice(reference, 0)
        image = Normalisation(paths[case]['low'], paths[case]['high']).apply(slices.to_stack(scan.array, axis)[at])
        spacing = slices.stack_spacing(scan.spacing_mm, axis)[1:]
        title = f'{case}, Dice {organ[case]:.2f}'
        shown.append(figures.Scan(title, image, reference[at], prediction[at], spacing))
    return shown


def peak_memory_gib() -> float:
    """Of the devices where they tell, else of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    on_device = max(s.get('peak_bytes_in_use', 0) for s in stats)
    return (on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**30


def versions() -> dict[str, str]:
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')
    return {
        'synseg_jax': synseg_jax.__version__,
        'python': platform.python_version(),
        **{p: version(p) for p in packages},
    }
