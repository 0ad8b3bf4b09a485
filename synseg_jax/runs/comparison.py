"""The rows of a table: what has run, what it achieved, and the pictures of it."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from synseg_jax.errors import known
from synseg_jax.evaluation import registry, similarity
from synseg_jax.files import schema
from synseg_jax.reports import comparison_plots, wording
from synseg_jax.reports.comparison import Row, values
from synseg_jax.runs import oracle_selection, stages
from synseg_jax.runs.repeats import Repeat, repeats
from synseg_jax.runs.results import MEASURES, RESULTS, Measures, Results, mean_of
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.resolve import flat


class StageFields(TypedDict):
    """stage.json, of which a report shows the configuration as it is."""

    config: dict[str, Any]


def train(system: str, repeat: Repeat, argv: Sequence[str]) -> tuple[int, bool]:
    """The exit code of `main` on one system of the table, and whether we were asked to stop; a SIGTERM reaches it."""
    given = [f'--config{a.removeprefix("--table")}' for a in argv if a.startswith(('--table=', '--table.'))]
    given += [f'--config.{field}={seed}' for field, seed in repeat.changed.items()]  # the last of a name counts
    given += [f"--config.run=('{system}',)", f'--workdir={repeat.workdir}']
    process = subprocess.Popen([sys.executable, '-m', 'synseg_jax.main', *given])
    asked = []

    def pass_on(number, _):
        asked.append(number)
        if number == signal.SIGTERM:  # a terminal sends its SIGINT to both of us
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait(), bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_missing(several: Sequence[Repeat], systems: Sequence[str], argv: Sequence[str]) -> dict[str, int]:
    """Trains the systems that have not run, all from one seed before the next; the exit codes of those that failed."""
    failed = {}
    for repeat, system in ((repeat, name) for repeat in several for name in systems if repeat.trains(name)):
        if finished(repeat.config, repeat.workdir, system):
            continue
        code, asked = train(system, repeat, argv)
        if asked or not (code or finished(repeat.config, repeat.workdir, system)):
            break  # it was told to stop, and so are we
        if code:
            failed[f'{system}, seed {repeat.seed}' if repeat.changed else system] = code
    return failed


def finished(config: Experiment, workdir: Path, system: str) -> bool:
    """Whether a system has run to its end, with these very fields, on every set that the table shows of it."""
    wanted = {row.set for row in config.table.rows.values() if row.system == system}
    found = stored(workdir / system / RESULTS, Results)
    return found.get('fields') == stages.fields(config, system) and wanted <= found['cases'].keys()


def measures(config: Experiment) -> tuple[str, ...]:
    """The metrics that a table shows; beside Dice that of oracle selection, where `oracle` is set."""
    for name in config.table.measures:
        known('metric (table.measures)', name, registry.METRICS)
    beside = {'dice': (oracle_selection.DICE,)} if config.oracle else {}
    return tuple(one for measure in config.table.measures for one in (measure, *beside.get(measure, ())))


def rows(config: Experiment, workdir: Path, seeds: int = 1) -> list[Row]:
    """The rows of a table as far as their systems have run, from so many seeds."""
    several = repeats(config, workdir, seeds)
    found = [(wanted, _found(several, wanted)) for wanted in config.table.in_order()]
    return [_row(config, wanted, workdir / wanted.system, of, seeds) for wanted, of in found]


def _found(several, wanted) -> dict[int, dict]:
    """{seed: results} of a row's system, as far as it has been measured on the row's set."""
    found = {}
    for repeat in several:
        where = repeat if repeat.trains(wanted.system) else several[0]
        content = stored(where.workdir / wanted.system / RESULTS, Results)
        if wanted.set in content.get('cases', {}):
            found[repeat.seed] = content
    return found


def _row(config, wanted, folder, several, seeds) -> Row:
    """One row, with the pictures and fields of its stages (of the first seed and fold)."""
    table = config.table
    sets = len({row.set for row in table.rows.values()})
    named = {'name': wanted.name, 'set': table.sets.get(wanted.set, wanted.set) if sets > 1 else ''}
    named['reported'] = dict(wanted.reported)
    if not several:
        return Row(**named)
    found, cases = next(iter(several.values())), {seed: of['cases'][wanted.set] for seed, of in several.items()}
    first = folder / 'fold1' if (folder / 'fold1').is_dir() else folder
    trained = {name: first / name for name in config.stages(wanted.system)}
    pictures = {'Best, median and worst case': first / f'{wanted.set}_cases.png'}
    curves = {}
    for name, place in trained.items():
        pictures[f'Stage {name}'] = place / 'panel.png'
        curves[f'Stage {name}'] = place / 'curves.png'
    return Row(
        **named,
        cases=mean_of([*cases.values()]),
        by_seed=cases if len(cases) > 1 else {},
        pooled=mean_of([{'': of.get('pooled', {}).get(wanted.set, {})} for of in several.values()])[''],
        reads_target_labels=found['reads_target_labels'],
        transductive=found.get('transductive', False),
        seconds=sum(of['seconds'] for of in several.values()),
        memory_gib=max(of['peak_memory_gib'] for of in several.values()),
        seed=found['seed'],
        steps=found['steps'],
        note=_note(found, f'{len(cases)} of {seeds} seeds have run' if len(cases) < seeds else ''),
        pictures=_existing(pictures),
        curves=_existing(curves),
        config='\n\n'.join(_fields(name, place / 'stage.json') for name, place in trained.items()).strip(),
    )


def _existing(pictures) -> dict[str, Path]:
    return {caption: path for caption, path in pictures.items() if path.is_file()}


def _note(found, lacks) -> str:
    """Seeds that have not run, folds, and what synthetic scans are worth against the truth."""
    told = [lacks] * bool(lacks) + [f'{found["folds"]} folds'] * (found['folds'] > 1)
    truth = {name: of['mean'] for name, of in found['synthesis'].items() if of['mean'] is not None}
    names = [metric.name for metric in similarity.METRICS]
    if truth.keys() >= {*names}:
        numbers = ', '.join(wording.with_unit(truth[name], name) for name in names)
        told.append(f'synthetic against true scans of the same people, in [0, 1]: {numbers}')
    return '; '.join(told)


def _fields(name, path) -> str:
    fields = flat(stored(path, StageFields).get('config', {}))
    return (
        '\n'.join([f'# stage {name}', *(f'{field} = {value!r}' for field, value in fields.items())]) if fields else ''
    )


def pictures(config: Experiment, made: Sequence[Row], workdir: Path, folder: Path) -> dict[str, Path]:
    """{caption: picture} of several rows together: a measure against the count of the rows, and ROC curves."""
    table, drawn = config.table, {}
    pairs = [(wanted, row) for wanted, row in zip(table.in_order(), made, strict=True) if row.cases]
    counted = [(wanted, row) for wanted, row in pairs if wanted.count >= 0]
    if table.counted and len(counted) > 1:
        lines: dict[str, dict] = {}
        for wanted, row in counted:
            own = values(row, table.organs[0], table.measures[0])
            line = wanted.line or row.set or table.organs[0]
            lines.setdefault(line, {})[wanted.count] = list(own.values())
        drawn[f'Against the number of {table.counted}'] = folder / 'counts.png'
        measure = wording.heading(table.measures[0])
        comparison_plots.against(folder / 'counts.png', lines, count=table.counted, measure=measure)
    curves = {}
    for wanted, row in pairs:
        first = workdir / wanted.system / ('fold1' if (workdir / wanted.system / 'fold1').is_dir() else '')
        roc = stored(first / MEASURES, Measures).get('sets', {}).get(wanted.set, {}).get('roc')
        if roc and 'auc' in table.measures:
            curves[row.title] = (roc['fpr'], roc['tpr'])
    if curves:
        drawn['ROC curves over the voxels of all test scans'] = folder / 'roc.png'
        comparison_plots.roc_curves(folder / 'roc.png', curves)
    return drawn


def stored(path, kind) -> dict:
    return schema.load(path, kind, 'remove it and run the row again') if path.is_file() else {}
