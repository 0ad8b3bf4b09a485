"""What a trained system achieves on the scans it is tested on: measures, pictures, and what it took."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import numpy as np

from synseg_jax.batches.selection import Fold, cases_to_test
from synseg_jax.devices import processes
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import similarity, summary
from synseg_jax.files import schema, write_json
from synseg_jax.formats import scan_file
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import oracle_selection, paired_phantom, stages
from synseg_jax.runs.stages import Stage
from synseg_jax.runs.test_set import TestSet, measure

MEASURES = 'measures.json'
RESULTS = 'results.json'  # of a system

Cases = dict[str, dict[str, dict[str, float | None]]]  # case -> class -> measure


Pooled = dict[str, dict[str, float | None]]  # class -> measure, of all scans of a set together


class Curve(TypedDict):
    """An ROC curve."""

    fpr: list[float]
    tpr: list[float]


class Measured(TypedDict):
    """What was measured on a set, and a digest of all that it depends on."""

    key: str
    cases: Cases
    pooled: NotRequired[Pooled]
    roc: NotRequired[
        Annotated[Curve, schema.Check('as many of both', lambda curve: len(curve['fpr']) == len(curve['tpr']))] | None
    ]


class Mean(TypedDict):
    """The statistics of a measure of synthesis, as far as anybody asks for them again."""

    mean: float | None


class Measures(TypedDict):
    """measures.json: what a fold of a system achieves."""

    sets: dict[str, Measured]
    weights: str
    synthesis: dict[str, Mean]


class Results(TypedDict):
    """results.json of a system: its folds as one; `fields` stands for its configuration."""

    cases: dict[str, Cases]
    pooled: NotRequired[dict[str, Pooled]]  # by set; not in those of earlier versions
    synthesis: dict[str, Mean]
    steps: int
    seconds: float
    peak_memory_gib: float
    seed: int
    reads_target_labels: bool
    reads_pseudo_labels: NotRequired[bool]  # not in those of earlier versions
    transductive: NotRequired[bool]  # not in those of earlier versions
    folds: int
    fields: NotRequired[str]


def evaluate(
    fitted: Sequence[tuple[Stage, Segmenter]],
    sets: Mapping[str, Manifest],
    costs: Sequence[Mapping],
    fold: Fold,
    folder: Path,
    pause: Callable[[], None],
) -> dict:
    """What the last of a system's stages with a segmentor achieves on each set that it tests; see `measuring.measure`.

    `evaluate_stage` names another stage than the last.  What was measured before with the same weights on the same
    scans is not measured again; where `pause`, called before each scan, raises, the sets that were measured are kept.
    The scans of a set that a stage made are made anew on their own grid: of a segmentor that was trained on real
    scans, that is the S-score.
    """
    stage, trained = _tested(fitted)
    path = folder / MEASURES
    before = _before(path)
    weights = [trained.run.folder.name, [cost['steps'] for cost in costs], vars(stage.config.predict)]
    weights += [list(stage.config.lesions), stage.config.lesion_patch_mm] if stage.config.lesions else []
    measured = {}
    for name in stage.config.test_sets or _targets(stage):
        entry = sets[known('set (test_sets)', name, sets)].sets[name]
        cases = cases_to_test(name, sets, fold, stage.manifest, stage.config.transductive)
        if not cases or not trained.segments(entry['domain']):
            continue
        key = stages.digest(weights, [_identity(case) for case in cases])
        tested = TestSet(trained, name, sets, cases, pause)
        measured[name] = before['sets'].get(name, {})
        if measured[name].get('key') != key:
            measured[name] = {'key': key, **measure(tested, folder)}
            _keep(path, {**before, 'sets': {**before['sets'], **measured}})
        if stage.config.oracle and isinstance(trained, Trained) and 'oracle' not in measured[name]:
            measured[name] |= _with_oracle(measured[name]['cases'], tested, folder)
    found = {'sets': measured, 'costs': list(costs), 'seed': stage.config.seed, 'weights': stages.digest(weights)}
    same = found['weights'] == before['weights']
    found['synthesis'] = before['synthesis'] if same else _synthesis(fitted)
    found['transductive'] = any(_sees_tested(stage) for stage, _ in fitted)
    found['reads_target_labels'] = any(_reads_target_labels(*one) for one in fitted)
    found['reads_pseudo_labels'] = any(entry.get('pseudo', False) for one in fitted for entry in _with_labels(*one))
    _keep(path, {**found, 'sets': {**before['sets'], **measured}})
    return found


def _keep(path, measured) -> None:
    if processes.is_first():
        write_json(path, measured)


def _with_oracle(cases, tested, folder) -> dict:
    """The measures of cases with what oracle selection would reach, and which checkpoint that is; {} if none can be."""
    best = oracle_selection.select(Trained(tested.segmenter.run, tested.segmenter.networks.params), tested, folder)
    if best is None:
        return {}
    both = {case: {organ: {**of, oracle_selection.DICE: best.cases[case].get(organ)} for organ, of in measured.items()}
            for case, measured in cases.items()}  # fmt: skip
    return {'cases': both, 'oracle': {'step': best.step, 'of': best.of}}


def _tested(fitted) -> tuple[Stage, Segmenter]:
    """The stage that is measured."""
    by_name = {stage.name: (stage, trained) for stage, trained in fitted}
    if wanted := fitted[-1][0].config.evaluate_stage:
        return by_name[known('stage (tested)', wanted, by_name)]
    return ([one for one in fitted if one[1].segments('b')] or fitted)[-1]


def _before(path) -> dict:
    """What was measured before; nothing where the file is absent, damaged or of another form, but not unreadable."""
    try:
        return schema.load(path, Measures, 'it is measured again')
    except (FileNotFoundError, InputError):
        return {'sets': {}, 'weights': '', 'synthesis': {}}


def pool(parts: Sequence[Mapping]) -> dict:
    """The folds of a system as one: every case's measures, averaged where several folds tested it; their summary."""
    cases: dict[str, dict] = {}
    pooled: dict[str, list] = {}
    for part in parts:
        for name, measured in part['sets'].items():
            if 'pooled' in measured:
                pooled.setdefault(name, []).append(measured['pooled'])
            for case, organs in measured['cases'].items():
                cases.setdefault(name, {}).setdefault(case, []).append(organs)
    cases = {name: {case: _mean(of) for case, of in measured.items()} for name, measured in cases.items()}
    once = {cost['stage']: cost for part in parts for cost in part['costs']}  # stages that folds share count once
    return {
        'sets': {name: summary.summarise(measured) for name, measured in cases.items()},
        'cases': cases,
        'pooled': {name: _mean(of) for name, of in pooled.items()},
        'synthesis': parts[0]['synthesis'],
        'steps': sum(cost.get('trained', cost['steps']) for cost in once.values()),
        'seconds': round(sum(cost['seconds'] for cost in once.values()), 1),
        'peak_memory_gib': max((cost['peak_memory_gib'] for cost in once.values()), default=0.0),
        'seed': parts[0]['seed'],
        'reads_target_labels': any(part['reads_target_labels'] for part in parts),
        'reads_pseudo_labels': any(part.get('reads_pseudo_labels', False) for part in parts),
        'transductive': any(part.get('transductive', False) for part in parts),
        'folds': len(parts),
        'stages': list(once),
    }


def mean_of(several: Sequence[Mapping[str, Mapping]]) -> dict:
    """{case: measures} as the mean over several trainings, of those that measured a case."""
    names = dict.fromkeys(case for cases in several for case in cases)
    return {case: _mean([cases[case] for cases in several if case in cases]) for case in names}


def _mean(several):
    """Mean of every organ's measures over folds; None where no fold has one."""
    return {
        organ: {
            measure: float(np.mean(values))
            if (values := [v for of in several if (v := of.get(organ, {}).get(measure)) is not None])
            else None
            for measure in measures
        }
        for organ, measures in several[0].items()
    }


def _targets(stage) -> list[str]:
    """The sets of domain b, but those that stages made."""
    return [name for name, entry in stage.manifest.sets.items() if entry['domain'] == 'b']


def _reads_target_labels(stage, trained) -> bool:
    """Whether it trained on labels of domain b, be it of scans that generators made of them; not on pseudo labels."""
    true = [entry for entry in _with_labels(stage, trained) if not entry.get('pseudo')]
    return any(entry.get('from', entry['domain']) == 'b' for entry in true)


def _with_labels(stage, trained) -> list[Mapping]:
    """The manifest's entries of the sets whose labels it trained on."""
    read = [scans for d in 'ab' if f'label_{d}' in trained.arrays for scans in stage.scans(d)]
    return [scans.manifest.sets[scans.set] for scans in read]


def _sees_tested(stage) -> bool:
    """Whether it trained on the images of scans that are tested."""
    return stage.config.transductive and any(scans.role == 'test' for scans in stage.scans('b'))


def _identity(case):
    """What tells a scan and its reference from others."""
    stats = [scan_file.stamp(Path(case[part])) for part in ('image', 'label')]
    return [case['id'], case['image'], stats]


def _against_truth(trained, scans) -> list[dict]:
    phantom = scans.manifest.sets[scans.set].get('phantom')
    return [*paired_phantom.measure(trained, scans.described, phantom).values()]


def _synthesis(fitted) -> dict:
    """{measure: statistics} of synthetic scans against the truth: held-out source scans or, without any, others."""
    for stage, trained in reversed(fitted) if processes.is_first() else ():
        held_out = stage.scans('a', 'val') or stage.scans('a', 'train')
        if held_out and trained.translates:
            measured = [of for scans in held_out for of in _against_truth(trained, scans)]
            names = [metric.name for metric in similarity.METRICS] if measured else ()
            return {name: summary.statistics(of[name] for of in measured) for name in names}
    return {}
