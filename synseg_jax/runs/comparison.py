"""The rows of a table: training of missing systems, their results over seeds, and pictures."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from synseg_jax.errors import known
from synseg_jax.evaluation import registry, similarity
from synseg_jax.evaluation.protocols import NATIVE
from synseg_jax.files import schema
from synseg_jax.reports import comparison_plots, wording
from synseg_jax.reports.comparison import Row, values
from synseg_jax.runs import oracle_selection, stages, system_pictures
from synseg_jax.runs.protocol_results import by_protocol
from synseg_jax.runs.repeats import Repeat, repeats
from synseg_jax.runs.result_files import MEASURES, RESULTS, Measures, Results
from synseg_jax.runs.results import mean_of
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.resolve import flat


class StageFields(TypedDict):
    """The part of stage.json that a report shows: the configuration."""

    config: dict[str, Any]


def train(system: str, repeat: Repeat, argv: Sequence[str]) -> tuple[int, bool]:
    """Run `main` on one system in a subprocess, forwarding SIGTERM; returns (exit code, whether we got a signal)."""
    given = [f'--config{a.removeprefix("--table")}' for a in argv if a.startswith(('--table=', '--table.'))]
    given += [f'--config.{field}={seed}' for field, seed in repeat.changed.items()]  # the last occurrence counts
    given += [f"--config.run=('{system}',)", f'--workdir={repeat.workdir}']
    process = subprocess.Popen([sys.executable, '-m', 'synseg_jax.main', *given])
    received = []

    def forward(number, _):
        received.append(number)
        if number == signal.SIGTERM:  # a terminal sends SIGINT to both processes
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait(), bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_missing(several: Sequence[Repeat], systems: Sequence[str], argv: Sequence[str]) -> dict[str, int]:
    """Train all unfinished systems, seed by seed; returns {system: exit code} of those that failed."""
    failed = {}
    for repeat, system in ((repeat, name) for repeat in several for name in systems if repeat.trains(name)):
        if finished(repeat.config, repeat.workdir, system):
            continue
        code, stopped = train(system, repeat, argv)
        if stopped or not (code or finished(repeat.config, repeat.workdir, system)):
            break  # training was stopped by a signal
        if code:
            failed[f'{system}, seed {repeat.seed}' if repeat.changed else system] = code
    return failed


def seconds(several: Sequence[Repeat], systems: Sequence[str]) -> float:
    """The time that all trainings of the systems took."""
    results = (stored(one.workdir / name / RESULTS, Results) for one in several for name in systems)
    return sum(of.get('seconds', 0.0) for of in results)


def finished(config: Experiment, workdir: Path, system: str) -> bool:
    """Whether a system has results with exactly these fields, on every test set that the table shows for it."""
    wanted = {row.set for row in config.table.rows.values() if row.system == system}
    results = stored(workdir / system / RESULTS, Results)
    return results.get('fields') == stages.fields(config, system) and wanted <= results['cases'].keys()


def measures(config: Experiment, protocol: str = NATIVE) -> tuple[str, ...]:
    """The metrics that a table shows; with `oracle`, Dice is followed by the (native) Dice of oracle selection."""
    for name in config.table.measures:
        known('metric (table.measures)', name, registry.METRICS)
    more = {'dice': (oracle_selection.DICE,)} if config.oracle and protocol == NATIVE else {}
    return tuple(name for measure in config.table.measures for name in (measure, *more.get(measure, ())))


def rows(config: Experiment, workdir: Path, seeds: int = 1, protocol: str = NATIVE) -> list[Row]:
    """The rows of a table, with the results by a protocol available so far over `seeds` seeds."""
    several = repeats(config, workdir, seeds)
    by_row = [(wanted, _results(several, wanted, protocol)) for wanted in config.table.in_order()]
    return [_row(config, wanted, workdir / wanted.system, results, seeds) for wanted, results in by_row]


def _results(several, wanted, protocol) -> dict[int, dict]:
    """{seed: results} of a row's system, for seeds with results on the row's test set."""
    results = {}
    for repeat in several:
        trained = repeat if repeat.trains(wanted.system) else several[0]
        folder = trained.workdir / wanted.system
        content = stored(folder / RESULTS, Results)
        if wanted.set in content.get('cases', {}):
            records = Path(trained.config.data_dir or trained.workdir / 'records')
            results[repeat.seed] = by_protocol(content, folder, wanted.set, protocol, records)
    return results


def _row(config, wanted, folder, by_seed, seeds) -> Row:
    """One row, with the pictures and fields of its stages from the first seed and fold."""
    table = config.table
    sets = len({row.set for row in table.rows.values()})
    named = {'name': wanted.name, 'set': table.sets.get(wanted.set, wanted.set) if sets > 1 else ''}
    named['reported'] = dict(wanted.reported)
    if not by_seed:
        return Row(**named)
    first_seed = next(iter(by_seed.values()))
    cases = {seed: results['cases'][wanted.set] for seed, results in by_seed.items()}
    first = system_pictures.first_fold(folder)
    trained = {name: first / name for name in config.stages(wanted.system)}
    pictures, curves = system_pictures.pictures(folder, wanted.set, trained)
    return Row(
        **named,
        cases=mean_of([*cases.values()]),
        by_seed=cases if len(cases) > 1 else {},
        pooled=mean_of([{'': results.get('pooled', {}).get(wanted.set, {})} for results in by_seed.values()])[''],
        reads_target_labels=first_seed['reads_target_labels'],
        transductive=first_seed.get('transductive', False),
        seconds=sum(results['seconds'] for results in by_seed.values()),
        memory_gib=max(results['peak_memory_gib'] for results in by_seed.values()),
        seed=first_seed['seed'],
        steps=first_seed['steps'],
        note=_note(first_seed, wanted.set, f'{len(cases)} of {seeds} seeds have run' if len(cases) < seeds else ''),
        pictures=pictures,
        curves=curves,
        config='\n\n'.join(_fields(name, path / 'stage.json') for name, path in trained.items()).strip(),
    )


def _note(results, set_name, missing_seeds) -> str:
    """Missing seeds, number of folds, chosen checkpoints, and image similarity of synthetic to true scans."""
    notes = [missing_seeds] * bool(missing_seeds) + [f'{results["folds"]} folds'] * (results['folds'] > 1)
    if folds := results.get('choices', {}).get(set_name):
        chosen = (_chosen(rule, [fold[rule] for fold in folds if rule in fold]) for rule in folds[0])
        notes.append(f'mean Dice by choice of checkpoint: {", ".join(chosen)}')
    notes += ['all labelled scans of the set, of which training saw none'] * results.get('test_all', False)
    means = {name: stats['mean'] for name, stats in results['synthesis'].items() if stats['mean'] is not None}
    names = [metric.name for metric in similarity.METRICS]
    if means.keys() >= {*names}:
        numbers = ', '.join(wording.with_unit(means[name], name) for name in names)
        notes.append(f'synthetic against true scans of the same subjects, intensities in [0, 1]: {numbers}')
    return '; '.join(notes)


def _chosen(rule: str, choices: Sequence[Mapping]) -> str:
    """A rule, the mean Dice of what it chooses over folds, and the steps."""
    steps = ' '.join(str(choice['step']) for choice in choices)
    return f'{rule} {np.mean([choice["dice"] for choice in choices]):.3f} (step {steps})'


def _fields(name, path) -> str:
    fields = flat(stored(path, StageFields).get('config', {}))
    return (
        '\n'.join([f'# stage {name}', *(f'{field} = {value!r}' for field, value in fields.items())]) if fields else ''
    )


def pictures(config: Experiment, made: Sequence[Row], workdir: Path, folder: Path) -> dict[str, Path]:
    """{caption: picture} of all rows together: the first metric against the rows' counts, and ROC curves."""
    table, drawn = config.table, {}
    pairs = [(wanted, row) for wanted, row in zip(table.in_order(), made, strict=True) if row.cases]
    counted = [(wanted, row) for wanted, row in pairs if wanted.count >= 0]
    if table.counted and len(counted) > 1:
        lines: dict[str, dict] = {}
        for wanted, row in counted:
            by_case = values(row, table.organs[0], table.measures[0])
            line = wanted.line or row.set or table.organs[0]
            lines.setdefault(line, {})[wanted.count] = list(by_case.values())
        drawn[f'Against the number of {table.counted}'] = folder / 'counts.png'
        measure = wording.heading(table.measures[0])
        comparison_plots.against(folder / 'counts.png', lines, count=table.counted, measure=measure)
    curves = {}
    for wanted, row in pairs:
        first = system_pictures.first_fold(workdir / wanted.system)
        roc = stored(first / MEASURES, Measures).get('sets', {}).get(wanted.set, {}).get('roc')
        if roc and 'auc' in table.measures:
            curves[row.title] = (roc['fpr'], roc['tpr'])
    if curves:
        drawn['ROC curves over the voxels of all test scans'] = folder / 'roc.png'
        comparison_plots.roc_curves(folder / 'roc.png', curves)
    return drawn


def stored(path, kind) -> dict:
    """A JSON file with the schema `kind`; {} if it does not exist."""
    return schema.load(path, kind, 'remove it and run the row again') if path.is_file() else {}
