"""Check folders of scans before anything is trained on them.

Usage:
    python -m synseg_jax.verify --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT

The flags are those of synseg_jax.prepare; what is checked is what it would read, and more: whether files are whole,
labels lie on their scans and hold what is named, whether a scan or a person is in two places, whether scans are of the
modality that their set is said to be, whether sets have organs in common, and whether these lie on the same side of the
body in all sets.  Target labels are opened as well, for checking alone.  Every problem is a line that names the file
and the remedy; exit code 1 if training would be wrong, 0 with warnings alone.

--repair writes, for every set, a folder --output/SET in the layout of nnU-Net: scans as links, and labels of another
grid brought onto that of their scan by nearest neighbour.  It says what it changed; the originals stay as they are.
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
from synseg_jax.preparation.settings import settings_of

FLAGS = (
    config_flag(required=True, data=('source', 'target', 'set')),
    *SETS,
    Flag('repair', 'Write repaired copies of the folders to --output.', False, flags.DEFINE_bool),
    Flag('output', 'Folder to write, with --repair.'),
)


def main(argv: Sequence[str]) -> int:
    """Check sets of scans; the exit code."""
    return command.run(check, FLAGS, argv)


def check(options: Options) -> int:
    """Check the scans that the flags name, and print the table and the problems; 1 if any is an error."""
    if options.repair != bool(options.output):
        raise InputError('--repair and --output=FOLDER belong together')
    sets = given(options)
    if options.repair:
        outputs.check(Path(options.output), [scans.folder for scans in sets])
    console = Console()
    with console.status('') as status:
        checked, problems = survey(
            sets, settings_of(options.config), lambda done, of: status.update(f'{done} of {of} scans')
        )
    console.print(table(checked, problems))
    for problem in sorted(problems, key=lambda problem: not problem.error):
        print(f'{"error" if problem.error else "warning"}: {problem.text}')
    if any(one.beside for one in checked) and not options.repair:
        print('labels that lie on another grid than their scans: --repair --output=FOLDER writes copies that do not')
    if options.repair:
        with capture_warnings():  # what was told above
            lines = repair(checked, options.output)
        for line in lines:
            print(f'repair: {line}')
    return int(any(problem.error for problem in problems))


if __name__ == '__main__':
    command.start(main)
