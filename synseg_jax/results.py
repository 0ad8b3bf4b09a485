"""What a trained system achieves on the scans it is tested on: measures, pictures, and what it took."""

import json
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import synseg_jax
from synseg_jax import pairs, preserved, stages
from synseg_jax.data import slices, volume
from synseg_jax.data.intensity import Normalisation
from synseg_jax.data.records import Manifest
from synseg_jax.data.selection import Fold, cases_to_test
from synseg_jax.data.volume import Volume
from synseg_jax.errors import known
from synseg_jax.evaluate import evaluate_pairs
from synseg_jax.evaluation import figures, ranking, summary
from synseg_jax.predict import predict
from synseg_jax.scans import Run, Segmenter, Trained
from synseg_jax.stages import Stage

MEASURES = 'measures.json'
ROC_POINTS = 200  # of the curve over all scans of a set


def evaluate(
    fitted: Sequence[tuple[Stage, Segmenter]],
    sets: Mapping[str, Manifest],
    costs: Sequence[Mapping],
    fold: Fold,
    folder: Path,
) -> dict:
    """What the last of a system's stages with a segmentor achieves on each set that it tests; see `_measure`.

    `tested` names another stage than the last.  What was measured before with the same weights on the same scans is not
    measured again.  The scans of a set that a stage made are made anew on their own grid: of a segmentor that was
    trained on real scans, that is the S-score.
    """
    stage, trained = _tested(fitted)
    path = folder / MEASURES
    before = _before(path)
    weights = [trained.run.folder.name, [cost['steps'] for cost in costs], stage.config.predict.to_dict()]
    weights += [list(stage.config.lesions)] if stage.config.lesions else []
    measured = {}
    for name in stage.config.tests or _targets(stage):
        entry = sets[known('set (tests)', name, sets)].sets[name]
        cases = [case for case in cases_to_test(name, sets, fold, stage.manifest) if case['label']]
        if not cases or not trained.segments(entry['domain']):
            continue
        key = stages.digest(weights, [_identity(case) for case in cases])
        measured[name] = before['sets'].get(name, {})
        if measured[name].get('key') != key:
            measured[name] = {'key': key, **_measure(trained, name, sets, cases, folder)}
    found = {'sets': measured, 'costs': list(costs), 'seed': stage.config.seed, 'weights': stages.digest(weights)}
    same = found['weights'] == before['weights']
    found['synthesis'] = before['synthesis'] if same else _synthesis(fitted)
    found['reads_target_labels'] = any(_reads_target_labels(*one) for one in fitted)
    summary.write_json(path, {**found, 'sets': {**before['sets'], **measured}})
    return found


def _tested(fitted) -> tuple[Stage, Segmenter]:
    """The stage that is measured."""
    by_name = {stage.name: (stage, trained) for stage, trained in fitted}
    if wanted := fitted[-1][0].config.tested:
        return by_name[known('stage (tested)', wanted, by_name)]
    return ([one for one in fitted if one[1].segments('b')] or fitted)[-1]


def _before(path) -> dict:
    """What was measured before; nothing where the file is absent, damaged or of another form."""
    nothing = {'sets': {}, 'weights': '', 'synthesis': {}}
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return nothing
    return found if isinstance(found, dict) and nothing.keys() <= found.keys() else nothing


def pool(parts: Sequence[Mapping]) -> dict:
    """The folds of a system as one: every case's measures, averaged where several folds tested it; their summary."""
    cases: dict[str, dict] = {}
    for part in parts:
        for name, measured in part['sets'].items():
            for case, organs in measured['cases'].items():
                cases.setdefault(name, {}).setdefault(case, []).append(organs)
    cases = {name: {case: _mean(of) for case, of in measured.items()} for name, measured in cases.items()}
    once = {cost['stage']: cost for part in parts for cost in part['costs']}  # stages that folds share count once
    return {
        'sets': {name: summary.summarise(measured) for name, measured in cases.items()},
        'cases': cases,
        'synthesis': parts[0]['synthesis'],
        'steps': sum(cost['steps'] for cost in once.values()),
        'seconds': round(sum(cost['seconds'] for cost in once.values()), 1),
        'peak_memory_gib': max((cost['peak_memory_gib'] for cost in once.values()), default=0.0),
        'seed': parts[0]['seed'],
        'reads_target_labels': any(part['reads_target_labels'] for part in parts),
        'folds': len(parts),
        'stages': list(once),
    }


def _mean(several):
    """Mean of every organ's measures over folds; None where no fold has one."""
    return {
        organ: {
            measure: float(np.mean(values))
            if (values := [v for of in several if (v := of[organ][measure]) is not None])
            else None
            for measure in measures
        }
        for organ, measures in several[0].items()
    }


def _targets(stage) -> list[str]:
    """The sets of domain b, but those that stages made."""
    return [name for name, entry in stage.manifest.sets.items() if entry['domain'] == 'b']


def _reads_target_labels(stage, trained) -> bool:
    """Whether it trained on labels of domain b, be it of scans that generators made of them."""
    read = [scans for d in 'ab' if f'label_{d}' in trained.arrays for scans in stage.scans(d)]
    entries = [scans.manifest.sets[scans.set] for scans in read]
    return any(entry.get('from', entry['domain']) == 'b' for entry in entries)


def _identity(case):
    """What tells a scan and its reference from others."""
    stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (Path(case['image']), Path(case['label']))]
    return [case['id'], case['image'], stats]


def _reader(trained, entry, cases) -> Callable[[Path], Volume]:
    """How the scans of a set are read: from disk, or made from those on disk by the stage that made the set."""
    if 'by' not in entry:
        return volume.read
    maker = Trained(Run.load(trained.run.folder.parent / entry['by']))
    labels = {Path(case['image']): Path(case['label']) for case in cases}

    @lru_cache(maxsize=4)
    def read(path):
        scan = volume.read(path)
        mask = volume.read_labels(labels[path]).array > 0 if maker.config.masked else None
        return replace(scan, array=maker.synthesize(scan, entry['from'], mask).astype(np.float32))

    return read


def _synthesis(fitted) -> dict:
    """{measure: statistics} of synthetic scans against the truth: held-out source scans or, without any, others."""
    for stage, trained in reversed(fitted):
        held_out = [scans for role in ('val', 'train') for scans in stage.scans('a', role)][:1]
        if held_out and trained.translates:
            measured = pairs.measure(trained, held_out[0].described).values()
            names = ('mae', 'psnr', 'ssim') if measured else ()
            return {name: summary.statistics(of[name] for of in measured) for name in names}
    return {}


def _measure(trained, name, sets, cases, folder) -> dict:
    """{'cases': {case: {organ: {measure: value}}}} of the scans of one set; predictions and pictures in `folder`.

    Of two classes the AUC is measured too, and the ROC curve over all scans; of lesions, whether each is found; of
    synthetic scans, how far their intensities lie from those of real ones.
    """
    entry = sets[name].sets[name]
    read = _reader(trained, entry, cases)
    trained = trained.uncut() if 'by' in entry else trained
    files = {case['id']: Path(case['image']) for case in cases}
    written = predict(trained, files, folder / 'predictions' / name, entry['domain'], read)
    labelled = {case['id']: (written[case['id']], Path(case['label'])) for case in cases}
    classes = trained.run.classes
    measured, _ = evaluate_pairs(labelled, classes, reference_values=entry['labels'])
    found = {'cases': measured}
    if len(classes) == 2:
        found['roc'] = _rank(trained, entry, files, labelled, read, measured)
    preserved.count(measured, labelled, entry['labels'], classes, trained.config.lesions)
    if 'by' in entry:
        real = preserved.real_intensities(sets, entry['domain'])
        preserved.compare_intensities(measured, cases, read, entry['labels'], real)
    summary.write_csv(folder / f'{name}.csv', summary.rows(measured))
    scans = _outlined(trained, cases, labelled, measured, entry, read)
    figures.overlays(folder / f'{name}.png', scans, classes)
    telling = figures.telling_cases(measured)
    best = [scan._replace(title=f'{words}: {scan.title}') for words, case in telling.items()
            for scan in scans if scan.title.startswith(f'{case}, ')]  # fmt: skip
    figures.overlays(folder / f'{name}_cases.png', best, classes)
    return found


def _rank(trained, entry, files, labelled, read, measured) -> dict[str, list[float]]:
    """Adds every scan's AUC to what is measured; the ROC curve over all of them."""
    organ, value = trained.run.classes[1], entry['labels'][trained.run.classes[1]]
    probabilities, references = [], []
    for case, path in files.items():
        scan = read(path)
        probabilities.append(trained.probability(scan, entry['domain'], 1).ravel())
        references.append((volume.read_labels(labelled[case][1]).array == value).ravel())
        area = ranking.auc(probabilities[-1], references[-1])
        measured[case][organ]['auc'] = None if np.isnan(area) else area
    fpr, tpr, _ = ranking.roc_curve(np.concatenate(probabilities), np.concatenate(references))
    at = np.concatenate([[0], np.geomspace(1e-5, 1, ROC_POINTS)])
    return {'fpr': at.tolist(), 'tpr': np.interp(at, fpr, tpr).tolist()}


def _outlined(trained, cases, labelled, measured, entry, read):
    """The telling slices of the test scans, from best to worst."""
    axis, known_classes = trained.config.data.slice_axis, trained.run.classes
    index = np.zeros(1 + max(entry['labels'].values()), np.uint8)  # the set's label values -> classes
    for name, value in entry['labels'].items():
        index[value] = known_classes.index(name) if name in known_classes else 0
    organ = summary.organ_means(measured, 'dice')
    paths = {case['id']: case for case in cases}
    shown = []
    for case in sorted(organ, key=organ.get, reverse=True):
        scan = volume.canonical(read(Path(paths[case]['image'])))
        prediction, reference = (
            slices.to_stack(volume.canonical(volume.read_labels(path)).array, axis) for path in labelled[case]
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
