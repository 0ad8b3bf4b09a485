"""Check datasets before training.

Usage:
    python -m synseg_jax.verify --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT

The flags are those of synseg_jax.prepare.  Checks everything that it reads, and more: files are intact, labels lie on
the grid of their scan and have only named values, no scan or subject is in two splits, scans are of the modality of
their set, sets have organs in common, and organs lie on the same side of the body in all sets.  Target labels are read
too, only for checking.  Every problem is one line with the file and the remedy; exit code 1 for errors that would spoil
training, 0 for warnings.

--repair writes for every set a folder --output/SET in nnU-Net layout: links to the scans, and labels on another grid
resampled to that of their scan by nearest neighbour.  It prints what it changed; the originals are not changed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.errors import InputError
from synseg_jax.files.capture_warnings import capture_warnings
from synseg_jax.formats import outputs
from synseg_jax.preparation.checks.repair import repair
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.checks.table import table
from synseg_jax.preparation.sets import SETS, given
from synseg_jax.specification.parse import parse_data

FLAGS = (
    config_flag(required=True, data=('source', 'target', 'set')),
    *SETS,
    Flag('repair', 'Write repaired copies of the folders to --output.', False, flags.DEFINE_bool),
    Flag('output', 'Folder to write, with --repair.'),
)


def main(argv: Sequence[str]) -> int:
    """Check sets of scans; returns the exit code."""
    return command.run(check, FLAGS, argv)


def check(options: Options) -> int:
    """Check the scans given by the flags, print a table and the problems; returns 1 if any is an error."""
    if options.repair != bool(options.output):
        raise InputError('--repair and --output=FOLDER belong together')
    sets = given(options)
    if options.repair:
        outputs.check(Path(options.output), [scans.folder for scans in sets])
    console = Console()
    with console.status('') as status:
        checked, problems = survey(
            sets, parse_data(options.config), lambda done, total: status.update(f'{done} of {total} scans')
        )
    console.print(table(checked, problems))
    for problem in sorted(problems, key=lambda problem: not problem.error):
        print(f'{"error" if problem.error else "warning"}: {problem.text}')
    if any(case.beside for case in checked) and not options.repair:
        print('some labels are not on the grid of their scan: --repair --output=FOLDER writes resampled copies')
    if options.repair:
        with capture_warnings():  # printed above already
            lines = repair(checked, options.output)
        for line in lines:
            print(f'repair: {line}')
    return int(any(problem.error for problem in problems))


if __name__ == '__main__':
    command.start(main)
