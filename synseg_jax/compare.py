"""Compare systems in a table, as in a paper: train the missing rows, evaluate all, write one report.

Usage:
    python -m synseg_jax.compare --table=configs/tables/synseg_spleen.py
    python -m synseg_jax.compare --table=configs/tables/synseg_spleen.py:records/spleen --rows=synseg
    python -m synseg_jax.compare --table=configs/tables/context_seeds.py --seeds=3

Without data after the colon a table runs at demonstration scale on the embedded phantom.  Every row trains in its own
process, one after another; --rows trains only some, e.g. one per cluster job, and --rows=none only writes the report.
An interrupted comparison resumes.  The report marks rows that have not run.  Single fields: --table.train.batch=8.

--seeds=3 trains every row with three consecutive seeds: initial weights, order of the data and augmentation change,
subjects do not.  The first seed trains in the workdir itself, the others in its subfolders seed1 and seed2, which are
workdirs too.  --protocol=csdg shows other measures of the same predictions, in a report of its own.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.cli.terminal import say
from synseg_jax.devices.environment import versions
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import protocols
from synseg_jax.formats import outputs
from synseg_jax.reports import report, unpaired
from synseg_jax.runs.comparison import measures, pictures, rows, seconds, train_missing
from synseg_jax.runs.repeats import repeats
from synseg_jax.specification.parse import parse

FLAGS = (
    config_flag('table', required=True),
    Flag('rows', 'Systems to train, by name; default: all; none: only write the report.', [], flags.DEFINE_list),
    Flag('seeds', 'Number of seeds to train every row with.', 1, partial(flags.DEFINE_integer, lower_bound=1)),
    Flag('protocol', 'How test scans were compared with their labels: native, csdg or sifa.', protocols.NATIVE),
    Flag('workdir', 'Folder for all rows; default: runs/tables/<table.runs>.'),
)


def main(argv: Sequence[str]) -> int:
    """Compare the systems of a table; returns the exit code."""
    return command.run(train_and_report, FLAGS, argv)


def train_and_report(options: Options) -> None:
    """Train the rows that have not run, and write the report."""
    config = parse(options.table)
    if not config.table.rows:
        raise InputError(f'--table={options.config_file}: it has no table; choose one of configs/tables/')
    systems = list(dict.fromkeys(row.system for row in config.table.in_order()))
    chosen = [] if options.rows == ['none'] else [known('row', name, systems) for name in options.rows or systems]
    protocol, table = protocols.named(options.protocol), config.table
    workdir, compared = Path(options.workdir or Path('runs/tables') / config.table.runs), unpaired.titles(config.table)
    outputs.check(workdir, [config.data_dir] if config.data_dir else [], flag='workdir')
    several = repeats(config, workdir, options.seeds)
    failed = train_missing(several, chosen, options.arguments)
    made = rows(config, workdir, options.seeds, protocol.name)
    folder = workdir / f'report_{options.config_file.stem}{protocol.suffix}'
    folder.mkdir(parents=True, exist_ok=True)
    notes = [*protocol.note(), *unpaired.notes(made, compared, table.organs[0], table.measures)]
    notes += [f'{name} stopped with exit code {code}; run it again to see why' for name, code in failed.items()]
    written = report.Report(
        protocol.titled(table.title), table.source, table.organs, measures(config, protocol.name), table.reference,
        made, notes, versions(), seconds(several, systems), pictures(config, made, workdir, folder), protocol.name,
    )  # fmt: skip
    report.write(written, folder)
    missing = [row.title for row in made if row.cases is None]
    say(Console(), (folder / 'report.md').read_text(encoding='utf-8'))
    say(Console(), f'{folder / "report.html"}' + (f'; not run: {", ".join(missing)}' if missing else ''))
    if failed:
        raise InputError(f'{", ".join(failed)} failed; the report marks them')


if __name__ == '__main__':
    command.start(main)
