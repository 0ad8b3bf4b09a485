"""Evaluation of a trained system on its test sets, and its results over folds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synseg_jax.batches.selection import Fold, cases_to_test
from synseg_jax.devices import processes
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import by_protocol, similarity, summary
from synseg_jax.evaluation.by_protocol import Predictions
from synseg_jax.files import schema, write_json
from synseg_jax.formats import scan_file
from synseg_jax.inference.ensemble import ensemble
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import oracle_selection, paired_phantom, stages
from synseg_jax.runs.result_files import MEASURES, Measures
from synseg_jax.runs.stages import Stage
from synseg_jax.runs.test_set import TestSet, measure
from synseg_jax.specification.check import as_before


def evaluate(
    fitted: Sequence[tuple[Stage, Segmenter]],
    sets: Mapping[str, Manifest],
    costs: Sequence[Mapping],
    fold: Fold,
    folder: Path,
    pause: Callable[[], None],
) -> dict:
    """Evaluate a system's last stage that segments domain b, or `evaluate_stage`, on each test set.

    See `test_set.measure`.  Sets already measured with the same weights and scans are not measured again.  `pause` is
    called before each scan; if it raises, the sets measured so far are kept.  Scans of a set written by a stage are
    synthesized again on their original grid; for a segmentor trained on real scans, their Dice is the S-score.
    """
    stage, trained = _evaluated(fitted)
    path = folder / MEASURES
    before = _before(path)
    weights = [trained.run.folder.name, [cost['steps'] for cost in costs], _fields(stage.config.predict)]
    weights += [list(stage.config.lesions), stage.config.lesion_patch_mm] if stage.config.lesions else []
    measured = {}
    for name in stage.config.test_sets or _targets(stage):
        entry = sets[known('set (test_sets)', name, sets)].sets[name]
        cases = cases_to_test(name, sets, fold, stage.manifest, stage.config.transductive or stage.config.test_all)
        if not cases or not trained.segments(entry['domain']):
            continue
        key = stages.digest(weights, [_identity(case) for case in cases])
        tested = TestSet(trained, name, sets, cases, pause)
        predictions = Predictions(folder / 'predictions' / name, entry, cases)
        measured[name] = by_protocol.resume(before['sets'].get(name, {}), key, predictions, stage.config.protocols)
        if measured[name].get('key') != key:
            measured[name] = {'key': key, **measure(replace(tested, segmenter=ensemble([trained])), folder)}
            _keep(path, {**before, 'sets': {**before['sets'], **measured}})
            measured[name] |= by_protocol.measure(stage.config.protocols, predictions, measured[name]['cases']) or {}
        if stage.config.oracle and isinstance(trained, Trained) and 'oracle' not in measured[name]:
            measured[name] |= _with_oracle(measured[name]['cases'], tested, folder)
    measures = {'sets': measured, 'costs': list(costs), 'seed': stage.config.seed, 'weights': stages.digest(weights)}
    same = measures['weights'] == before['weights']
    measures['synthesis'] = before['synthesis'] if same else _synthesis(fitted)
    measures['transductive'] = any(_sees_test_images(stage) for stage, _ in fitted)
    measures['test_all'] = stage.config.test_all
    measures['reads_target_labels'] = any(_reads_target_labels(stage, trained) for stage, trained in fitted)
    measures['reads_pseudo_labels'] = any(
        entry.get('pseudo', False) for stage, trained in fitted for entry in _with_labels(stage, trained)
    )
    _keep(path, {**measures, 'sets': {**before['sets'], **measured}})
    return measures


def _fields(predict) -> dict:
    """The fields of prediction, without those added since that are at their defaults."""
    return {name: value for name, value in vars(predict).items() if not as_before(f'predict.{name}', value)}


def _keep(path, measured) -> None:
    if processes.is_first():
        write_json(path, measured)


def _with_oracle(cases, tested, folder) -> dict:
    """Metrics of cases with the Dice of oracle selection, and the selected checkpoint; {} without oracle selection."""
    best = oracle_selection.select(Trained(tested.segmenter.run, tested.segmenter.networks.params), tested, folder)
    if best is None:
        return {}
    both = {case: {organ: {**metrics, oracle_selection.DICE: best.cases[case].get(organ)}
                   for organ, metrics in organs.items()}
            for case, organs in cases.items()}  # fmt: skip
    return {'cases': both, 'oracle': {'step': best.step, 'of': best.of}, 'choices': best.choices}


def _evaluated(fitted) -> tuple[Stage, Segmenter]:
    """The stage that is evaluated, and its segmenter."""
    by_name = {stage.name: (stage, trained) for stage, trained in fitted}
    if wanted := fitted[-1][0].config.evaluate_stage:
        return by_name[known('stage (evaluate_stage)', wanted, by_name)]
    return ([pair for pair in fitted if pair[1].segments('b')] or fitted)[-1]


def _before(path) -> dict:
    """Earlier measures; empty if the file is absent, damaged or of another format.  Disk errors are raised."""
    try:
        return schema.load(path, Measures, 'it is measured again')
    except (FileNotFoundError, InputError):
        return {'sets': {}, 'weights': '', 'synthesis': {}}


def pool(parts: Sequence[Mapping]) -> dict:
    """Combine the folds of a system: metrics of every case, averaged if several folds tested it, and their summary."""
    cases: dict[str, dict] = {}
    pooled: dict[str, list] = {}
    for part in parts:
        for name, measured in part['sets'].items():
            if 'pooled' in measured:
                pooled.setdefault(name, []).append(measured['pooled'])
            for case, organs in measured['cases'].items():
                cases.setdefault(name, {}).setdefault(case, []).append(organs)
    cases = {name: {case: _mean(folds) for case, folds in measured.items()} for name, measured in cases.items()}
    further = _pool_protocols(parts)
    once = {cost['stage']: cost for part in parts for cost in part['costs']}  # count stages shared by folds once
    return {
        'sets': {name: summary.summarise(measured) for name, measured in cases.items()},
        'cases': cases,
        **({'protocols': further} if further else {}),
        'pooled': {name: _mean(folds) for name, folds in pooled.items()},
        'choices': _choices(parts),
        'synthesis': parts[0]['synthesis'],
        'steps': sum(cost.get('trained', cost['steps']) for cost in once.values()),
        'seconds': round(sum(cost['seconds'] for cost in once.values()), 1),
        'peak_memory_gib': max((cost['peak_memory_gib'] for cost in once.values()), default=0.0),
        'seed': parts[0]['seed'],
        'reads_target_labels': any(part['reads_target_labels'] for part in parts),
        'reads_pseudo_labels': any(part.get('reads_pseudo_labels', False) for part in parts),
        'transductive': any(part.get('transductive', False) for part in parts),
        'test_all': any(part.get('test_all', False) for part in parts),
        'folds': len(parts),
        'stages': list(once),
    }


def _choices(parts) -> dict[str, list]:
    """{set: the choices of each fold}, of sets that have them in every fold that tested them."""
    found: dict[str, list] = {}
    for part in parts:
        for name, measured in part['sets'].items():
            found.setdefault(name, []).append(measured.get('choices'))
    return {name: folds for name, folds in found.items() if all(folds)}


def _pool_protocols(parts) -> dict[str, dict]:
    """{protocol: {'sets': summaries, 'cases': cases}} of the further protocols, by set."""
    found: dict[str, dict[str, list]] = {}
    for name, measured in (pair for part in parts for pair in part['sets'].items()):
        for protocol, cases in measured.get('protocols', {}).items():
            found.setdefault(protocol, {}).setdefault(name, []).append(cases)
    pooled = {protocol: {name: mean_of(folds) for name, folds in sets.items()} for protocol, sets in found.items()}
    return {
        protocol: {'sets': {name: summary.summarise(cases) for name, cases in sets.items()}, 'cases': sets}
        for protocol, sets in pooled.items()
    }


def mean_of(several: Sequence[Mapping[str, Mapping]]) -> dict:
    """{case: metrics}, averaged over the trainings that measured the case."""
    names = dict.fromkeys(case for cases in several for case in cases)
    return {case: _mean([cases[case] for cases in several if case in cases]) for case in names}


def _mean(several):
    """Mean of each metric of each organ; None if all values are None."""
    return {
        organ: {
            measure: float(np.mean(values))
            if (values := [v for organs in several if (v := organs.get(organ, {}).get(measure)) is not None])
            else None
            for measure in measures
        }
        for organ, measures in several[0].items()
    }


def _targets(stage) -> list[str]:
    """The prepared sets of domain b, without those written by stages."""
    return [name for name, entry in stage.manifest.sets.items() if entry['domain'] == 'b']


def _reads_target_labels(stage, trained) -> bool:
    """Whether a stage trained on labels of domain b, including those of scans synthesized from b; not pseudo labels."""
    true = [entry for entry in _with_labels(stage, trained) if not entry.get('pseudo')]
    return any(entry.get('from', entry['domain']) == 'b' for entry in true)


def _with_labels(stage, trained) -> list[Mapping]:
    """Manifest entries of the sets whose labels a stage trained on."""
    read = [scans for d in 'ab' if f'label_{d}' in trained.arrays for scans in stage.scans(d)]
    return [scans.manifest.sets[scans.set] for scans in read]


def _sees_test_images(stage) -> bool:
    """Whether a stage trained on the images of test scans."""
    return stage.config.transductive and any(scans.role == 'test' for scans in stage.scans('b'))


def _identity(case):
    """Identity of a scan and its reference: name, path, and file stamps."""
    stats = [scan_file.stamp(Path(case[part])) for part in ('image', 'label')]
    return [case['id'], case['image'], stats]


def _against_truth(trained, scans) -> list[dict]:
    phantom = scans.manifest.sets[scans.set].get('phantom')
    return [*paired_phantom.measure(trained, scans.described, phantom).values()]


def _synthesis(fitted) -> dict:
    """{metric: statistics} of synthetic against true scans, on validation scans of the source, else training scans."""
    for stage, trained in reversed(fitted) if processes.is_first() else ():
        held_out = stage.scans('a', 'val') or stage.scans('a', 'train')
        if held_out and trained.translates:
            measured = [metrics for scans in held_out for metrics in _against_truth(trained, scans)]
            names = [metric.name for metric in similarity.METRICS] if measured else ()
            return {name: summary.statistics(metrics[name] for metrics in measured) for name in names}
    return {}
