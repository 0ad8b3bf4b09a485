"""Set systems side by side as a paper's table does: train what has not run, measure every row, write one report.

Usage:
    python -m synseg_jax.compare --table=configs/tables/synseg_spleen.py
    python -m synseg_jax.compare --table=configs/tables/synseg_spleen.py:records/spleen --rows=synseg
    python -m synseg_jax.compare --table=configs/tables/context_seeds.py --seeds=3

Without data after the colon a table is made at demonstration scale on the embedded phantom.  Every row trains in a
process of its own, one after another; --rows trains some alone, so that a cluster can take them one by one, and
--rows=none only writes the report.  An interrupted comparison goes on where it was.  The report (report.html,
report.md, table.csv, cases.csv) marks rows that have not run.  Single fields: --table.train.batch=8.

--seeds=3 trains every row three times, from its seed and the two after it: weights, order of the data and
augmentation change, subjects do not.  The first lie in the workdir itself, the others in seed1 and seed2 of it, which
are workdirs too.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from synseg_jax import command, oracle, outputs, schema, stages
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import comparison_plots, report, unpaired, wording
from synseg_jax.evaluation.comparison import Report, Row, values
from synseg_jax.options import Flag, Options, config_flag
from synseg_jax.repeats import Repeat, repeats
from synseg_jax.results import MEASURES, RESULTS, Measures, Results, mean_of, versions
from synseg_jax.terminal import say

FLAGS = (
    config_flag('table', required=True),
    Flag('rows', 'Systems to train, by name; all unless given; none: only write the report.', [], flags.DEFINE_list),
    Flag('seeds', 'Train every row from so many seeds.', 1, partial(flags.DEFINE_integer, lower_bound=1)),
    Flag('workdir', 'Folder for all rows; default: runs/tables/<the table says>.'),
)


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


def finished(config: ConfigDict, workdir: Path, system: str) -> bool:
    """Whether a system has run to its end, with these very fields, on every set that the table shows of it."""
    wanted = {row.set for row in config.table.rows.values() if row.system == system}
    found = _content(workdir / system / RESULTS, Results)
    return found.get('fields') == stages.fields(config, system) and wanted <= found['cases'].keys()


def in_order(table: ConfigDict) -> list[ConfigDict]:
    """What a table says of its rows, from top to bottom."""
    return [table.rows[key] for key in table.order]


def measures(config: ConfigDict) -> tuple[str, ...]:
    """What a table shows of its rows; beside Dice what oracle selection would reach, where that is asked for."""
    beside = {'dice': (oracle.DICE,)} if config.oracle else {}
    return tuple(one for measure in config.table.measures for one in (measure, *beside.get(measure, ())))


def rows(config: ConfigDict, workdir: Path, seeds: int = 1) -> list[Row]:
    """The rows of a table as far as their systems have run, from so many seeds."""
    several = repeats(config, workdir, seeds)
    found = [(wanted, _found(several, wanted)) for wanted in in_order(config.table)]
    return [_row(config, wanted, workdir / wanted.system, of, seeds) for wanted, of in found]


def _found(several, wanted) -> dict[int, dict]:
    """{seed: results} of a row's system, as far as it has been measured on the row's set."""
    found = {}
    for repeat in several:
        where = repeat if repeat.trains(wanted.system) else several[0]
        content = _content(where.workdir / wanted.system / RESULTS, Results)
        if wanted.set in content.get('cases', {}):
            found[repeat.seed] = content
    return found


def _row(config, wanted, folder, several, seeds) -> Row:
    """One row, with the pictures and fields of its stages (of the first seed and fold)."""
    table = config.table
    sets = len({row.set for row in table.rows.values()})
    named = {'name': wanted.name, 'set': dict(table.sets).get(wanted.set, wanted.set) if sets > 1 else ''}
    named['reported'] = dict(wanted.reported)
    if not several:
        return Row(**named)
    found, cases = next(iter(several.values())), {seed: of['cases'][wanted.set] for seed, of in several.items()}
    first = folder / 'fold1' if (folder / 'fold1').is_dir() else folder
    trained = {name: first / name for name in stages.names(config, wanted.system)}
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


def unpaired_sets(table: ConfigDict) -> tuple[str, ...]:
    """The words for the two sets on which each system is tested against itself; none where a table asks for no test."""
    names = tuple(table.get('unpaired', ()))
    if len(set(names)) not in (0, 2) or len(names) > 2:
        raise InputError(f'table.unpaired {names}: name two of the sets of its rows, or none')
    shown = {row.set for row in table.rows.values()}
    return tuple(dict(table.sets).get(known('set (table.unpaired)', name, shown), name) for name in names)


def _existing(pictures) -> dict[str, Path]:
    return {caption: path for caption, path in pictures.items() if path.is_file()}


def _note(found, lacks) -> str:
    """Seeds that have not run, folds, and what synthetic scans are worth against the truth."""
    told = [lacks] * bool(lacks) + [f'{found["folds"]} folds'] * (found['folds'] > 1)
    truth = {name: of['mean'] for name, of in found['synthesis'].items() if of['mean'] is not None}
    if truth.keys() >= {'mae', 'psnr', 'ssim'}:
        told.append(
            f'synthetic against true scans of the same people, in [0, 1]: MAE {truth["mae"]:.3f}, '
            f'PSNR {truth["psnr"]:.1f} dB, SSIM {truth["ssim"]:.3f}'
        )
    return '; '.join(told)


def _fields(name, path) -> str:
    fields = stages.flat(_content(path, StageFields).get('config', {}))
    return (
        '\n'.join([f'# stage {name}', *(f'{field} = {value!r}' for field, value in fields.items())]) if fields else ''
    )


def pictures(config: ConfigDict, made: Sequence[Row], workdir: Path, folder: Path) -> dict[str, Path]:
    """{caption: picture} of several rows together: a measure against the count of the rows, and ROC curves."""
    table, drawn = config.table, {}
    pairs = [(wanted, row) for wanted, row in zip(in_order(table), made, strict=True) if row.cases]
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
        roc = _content(first / MEASURES, Measures).get('sets', {}).get(wanted.set, {}).get('roc')
        if roc and 'auc' in table.measures:
            curves[row.title] = (roc['fpr'], roc['tpr'])
    if curves:
        drawn['ROC curves over the voxels of all test scans'] = folder / 'roc.png'
        comparison_plots.roc_curves(folder / 'roc.png', curves)
    return drawn


def _content(path, kind) -> dict:
    return schema.load(path, kind, 'remove it and run the row again') if path.is_file() else {}


def main(argv: Sequence[str]) -> int:
    """Compare the systems of a table; the exit code."""
    return command.run(train_and_report, FLAGS, argv)


def train_and_report(options: Options) -> None:
    """Trains the rows that have not run and writes the report."""
    config = options.table
    if 'table' not in config:
        raise InputError('--table names a configuration without a table; configs/tables/ has those with one')
    systems = list(dict.fromkeys(row.system for row in in_order(config.table)))
    chosen = [] if options.rows == ['none'] else [known('row', name, systems) for name in options.rows or systems]
    workdir, compared = Path(options.workdir or Path('runs/tables') / config.table.runs), unpaired_sets(config.table)
    outputs.check(workdir, [config.data_dir] if config.data_dir else [], flag='workdir')
    several = repeats(config, workdir, options.seeds)
    failed = train_missing(several, chosen, options.arguments)
    made, folder = rows(config, workdir, options.seeds), workdir / f'report_{options.config_file.stem}'
    folder.mkdir(parents=True, exist_ok=True)
    table = config.table
    times = [_content(one.workdir / name / RESULTS, Results).get('seconds', 0.0) for one in several for name in systems]
    notes = [*unpaired.notes(made, compared, table.organs[0], table.measures)]
    notes += [f'{name} stopped with exit code {code}; run it again to see why' for name, code in failed.items()]
    written = Report(
        table.title, table.source, tuple(table.organs), measures(config), table.reference, made, notes,
        versions(), sum(times), pictures(config, made, workdir, folder),
    )  # fmt: skip
    report.write(written, folder)
    missing = [row.title for row in made if row.cases is None]
    say(Console(), (folder / 'report.md').read_text(encoding='utf-8'))
    say(Console(), f'{folder / "report.html"}' + (f'; not run: {", ".join(missing)}' if missing else ''))
    if failed:
        raise InputError(f'{", ".join(failed)} failed; the report marks them')


if __name__ == '__main__':
    command.start(main)
